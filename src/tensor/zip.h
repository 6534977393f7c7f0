// The entries of a zip archive, as views into a mapped file. Only stored (uncompressed) entries:
// torch.save writes no others, and what is stored can be mapped.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tensor/mapped_file.h"

namespace mrt {

/// Bytes of every entry by its name; valid while the file is mapped.
using ZipEntries = std::map<std::string, std::string_view, std::less<>>;

/// Reads the central directory, with zip64. Sizes come from there, so data descriptors do no harm.
/// BadData for: compressed or encrypted entries, archives of several disks, duplicate names, sizes
/// or offsets that leave the file or overlap. Checksums are not looked at: that would read the
/// whole file.
Result<ZipEntries> ReadZip(const MappedFile& file);

}  // namespace mrt
