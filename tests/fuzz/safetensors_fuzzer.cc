// The input is a safetensors file.
#include "tensor/safetensors.h"

#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mrt::testing::InputFile input;
  input.Write(mrt::testing::AsText(data, size));
  const mrt::testing::GuardedMapping mapping(input.path());
  const auto loaded = mrt::ReadSafetensors(mapping.file());
  if (loaded.ok()) mrt::testing::ReadEveryByte(*loaded);
  return 0;
}
