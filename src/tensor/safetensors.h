// Reader of safetensors files: 8 bytes header length, a JSON header, the tensors' bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "tensor/loaded_tensors.h"

namespace mrt {

/// Bytes of a header at most: the limit of the published implementation.
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;

/// All tensors and `__metadata__` of one file. As strict as the published implementation: names are
/// unique and the tensors fill the part after the header without gap or overlap. BadData says what
/// is wrong.
Result<LoadedTensors> ReadSafetensors(std::shared_ptr<const MappedFile> file);

/// The tensors named by `weight_map` of a FILE.safetensors.index.json, out of the shards that lie
/// beside it. Tensors of a shard which the map does not name are left out.
Result<LoadedTensors> ReadSafetensorsIndex(const MappedFile& index);

}  // namespace mrt
