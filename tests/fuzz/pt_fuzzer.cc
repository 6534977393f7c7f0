// The input is a .pt file.
#include "tensor/pt.h"

#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mrt::testing::InputFile input;
  input.Write(mrt::testing::AsText(data, size));
  mrt::testing::ReadAllDictionaries(input.path());
  return 0;
}
