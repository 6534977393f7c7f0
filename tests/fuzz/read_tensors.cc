#include "tests/fuzz/read_tensors.h"

#include "base/check.h"
#include "tensor/pt.h"
#include "tests/fuzz/input_file.h"

namespace mrt::testing {

void ReadEveryByte(const LoadedTensors& loaded, std::optional<uint8_t> fill) {
  volatile uint8_t sum = 0;  // volatile: the reads must happen
  for (const auto& [name, tensor] : loaded.tensors) {
    MRT_CHECK(!tensor.empty());
    const auto* bytes = static_cast<const uint8_t*>(tensor.data);
    for (int64_t i = 0; i < tensor.bytes(); ++i) {
      sum = sum ^ bytes[i];
      MRT_CHECK(!fill || bytes[i] == *fill);
    }
  }
}

void ReadAllDictionaries(const std::string& pt_path, std::optional<uint8_t> fill) {
  const GuardedMapping mapping(pt_path);
  const auto keys = PtKeys(mapping.file());
  for (const std::string& key : keys.ok() ? *keys : std::vector<std::string>{"a.b"}) {
    const auto loaded = ReadPt(mapping.file(), key);
    if (loaded.ok()) ReadEveryByte(*loaded, fill);
  }
}

}  // namespace mrt::testing
