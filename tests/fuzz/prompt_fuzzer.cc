// The input is a prompt: cleaned, and cleaned again.
#include "base/check.h"
#include "model/tokenizer/tokenizer.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string clean = mrt::CleanPrompt(mrt::testing::AsText(data, size));
  // A byte becomes U+FFFD, three bytes, at most; an entity is longer than its characters.
  MRT_CHECK(clean.size() <= 3 * size);
  MRT_CHECK(clean.empty() || (clean.front() != ' ' && clean.back() != ' '));
  return 0;
}
