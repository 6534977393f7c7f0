// The input is the text of attention settings, for a model of 5 layers and a schedule of 4 steps.
#include "base/check.h"
#include "pipeline/attention_table.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kLayers = 5, kSteps = 4;
  const auto settings =
      monarchrt::ParseAttentionSettings(std::string(mrt::testing::AsText(data, size)));
  if (!settings.ok()) return 0;
  const auto table =
      mrt::AttentionTable::Make(settings->attention, settings->rules, kLayers, kSteps);
  if (!table.ok()) return 0;
  MRT_CHECK(!table->different().empty());
  for (int64_t step = 0; step <= kSteps; ++step) {
    const mrt::LayerAttention attention = step < kSteps ? table->Step(step) : table->CleanPass();
    for (int64_t layer = 0; layer < kLayers; ++layer) MRT_CHECK(attention[layer].iterations >= 1);
  }
  return 0;
}
