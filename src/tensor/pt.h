// Reader of .pt and .pth files as torch.save has written them since PyTorch 1.6: a zip archive of a
// pickle and the raw bytes of the storages. See docs/formats.md for what is read and what is not.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/loaded_tensors.h"

namespace mrt {

/// The tensors of one dictionary of the file: the top level, or the one that `key` names ("a.b":
/// "b" in "a"). Other values beside the tensors are passed over. NotFound, with the keys there are,
/// if `key` is wrong or the dictionary holds no tensor; BadData if the file is damaged or needs
/// anything that is not a tensor or a plain container.
Result<LoadedTensors> ReadPt(std::shared_ptr<const MappedFile> file, const std::string& key);

/// The keys under which ReadPt finds tensors, in the order of the file: just "" if the top level
/// holds some, else those of the dictionaries below it. At most 64 of them, at most 4 levels deep.
Result<std::vector<std::string>> PtKeys(std::shared_ptr<const MappedFile> file);

/// Do these bytes begin like a file that torch.save wrote before PyTorch 1.6?
bool IsLegacyPt(std::string_view bytes);

}  // namespace mrt
