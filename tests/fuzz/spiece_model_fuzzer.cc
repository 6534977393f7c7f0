// The input is a line of text and a spiece.model that encodes it.
#include "base/check.h"
#include "model/tokenizer/tokenizer.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mrt::testing::InputFile input;
  const std::string_view all = mrt::testing::AsText(data, size);
  const size_t line = std::min(all.find('\n'), all.size());
  input.Write(all.substr(std::min(line + 1, all.size())));
  const auto tokenizer = mrt::Tokenizer::Load(input.path());
  if (!tokenizer.ok()) return 0;
  constexpr int kTextLen = 16;
  for (const std::string& text :
       {std::string(all.substr(0, line)), mrt::CleanPrompt(all.substr(0, line))}) {
    const auto ids = tokenizer->Encode(text, kTextLen);
    if (!ids.ok()) continue;
    MRT_CHECK(!ids->empty() && ids->size() <= kTextLen);
    MRT_CHECK(ids->back() == mrt::Tokenizer::kEndOfText);
    for (const int32_t id : *ids) MRT_CHECK(0 <= id && id < tokenizer->vocabulary_size());
  }
  return 0;
}
