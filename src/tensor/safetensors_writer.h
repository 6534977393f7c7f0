// Writer of safetensors files: the header first, then the tensors' bytes as they come.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/status.h"
#include "tensor/tensor.h"

namespace mrt {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t bytes() const { return shape.elements() * DTypeSize(dtype); }
};

/// Holds the header only, never a tensor. The file appears complete or not at all (AtomicFile).
/// Laid out as the published writer does: by dtype, those of large elements first, then by name,
/// the header filled up with spaces to a multiple of 8 bytes, so that every tensor is aligned to
/// its element. The same input gives the same bytes. Move-only.
class SafetensorsWriter {
 public:
  /// Writes the header. InvalidArgument: a name that is there twice, is "__metadata__" or, as all
  /// of `metadata`, not UTF-8; a header over the format's limit of 100,000,000 bytes; what
  /// AtomicFile::Create refuses.
  static Result<SafetensorsWriter> Create(const std::string& path,
                                          std::vector<SafetensorsEntry> entries,
                                          const std::map<std::string, std::string>& metadata = {},
                                          AtomicFile::Permissions = AtomicFile::kReadWrite);

  /// The entries in the order of the file, which is that of the bytes to append.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }

  /// The next bytes, in pieces of any size. After an error the file is of no use.
  Status Append(const void* data, int64_t bytes);

  /// Gives the complete file its name. Every byte of every entry must have been appended.
  Status Commit();

 private:
  SafetensorsWriter(AtomicFile file, std::vector<SafetensorsEntry> entries)
      : file_(std::move(file)), entries_(std::move(entries)) {}

  AtomicFile file_;
  std::vector<SafetensorsEntry> entries_;
  int64_t missing_bytes_ = 0;
};

}  // namespace mrt
