// The input is the index of a sharded checkpoint, a NUL, and the bytes of its shard "a". Every
// other name leads nowhere.
#include <unistd.h>

#include "base/check.h"
#include "tensor/safetensors.h"
#include "testing/temp_folder.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_tensors.h"

namespace mrt::testing {
namespace {

/// A folder with two links to files in memory.
class Folder {
 public:
  Folder() {
    MRT_CHECK(symlink(index_.path().c_str(), IndexPath().c_str()) == 0);
    MRT_CHECK(symlink(shard_.path().c_str(), folder_.path("a").c_str()) == 0);
  }

  void Write(std::string_view input) {
    const size_t nul = std::min(input.find('\0'), input.size());
    index_.Write(input.substr(0, nul));
    shard_.Write(nul < input.size() ? input.substr(nul + 1) : "");
  }

  std::string IndexPath() const { return folder_.path("x.safetensors.index.json"); }

 private:
  TempFolder folder_;
  InputFile index_, shard_;
};

}  // namespace
}  // namespace mrt::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mrt::testing::Folder folder;
  folder.Write(mrt::testing::AsText(data, size));
  const mrt::testing::GuardedMapping index(folder.IndexPath());
  auto loaded = mrt::ReadSafetensorsIndex(*index.file());
  if (!loaded.ok() || loaded->files.empty()) return 0;
  MRT_CHECK(loaded->files.size() == 1);
  // Opened by the reader, so that only what models do with its tensors is guarded. What the reader
  // itself does with a file, the target safetensors does, too.
  const mrt::testing::GuardedMapping shard(std::move(loaded->files.front()));
  mrt::testing::ReadEveryByte(*loaded);
  return 0;
}
