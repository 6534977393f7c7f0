// The input is the pickle of a .pt file that is otherwise sound: mutations of a whole archive
// rarely get so far.
#include "testing/pt_writer.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mrt::testing::InputFile input;
  const std::string pickle(mrt::testing::AsText(data, size));
  input.Write(mrt::testing::PtFile(pickle, {{"0", std::string(24, 'x')}, {"1", "xxxxxxxx"}}));
  mrt::testing::ReadAllDictionaries(input.path(), 'x');
  return 0;
}
