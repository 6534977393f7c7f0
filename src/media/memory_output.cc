#include "media/memory_output.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

namespace mrt::media {

Status MemoryOutput::Open() {
  constexpr int kBufferBytes = 32 << 10, kForWriting = 1;
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  // FFmpeg 7 made the data const: the lambda fits both.
  const auto write = [](void* self, auto* data, int bytes) {
    static_cast<MemoryOutput*>(self)->WriteAt(data, bytes);
    return bytes;
  };
  const auto seek = [](void* self, int64_t offset, int whence) -> int64_t {
    auto& memory = *static_cast<MemoryOutput*>(self);
    const int64_t position = offset - memory.taken_bytes_;
    if (whence != SEEK_SET || position < 0) return AVERROR(EPIPE);
    memory.position_ = position;
    return offset;
  };
  if (buffer)
    io_.reset(avio_alloc_context(buffer, kBufferBytes, kForWriting, this, nullptr, write, seek));
  if (!io_) {
    av_free(buffer);
    return OutOfMemory("[output] no memory for the file");
  }
  io_->seekable = 0;
  return {};
}

std::vector<uint8_t> MemoryOutput::Take() {
  avio_flush(io_.get());
  taken_bytes_ += static_cast<int64_t>(bytes_.size());
  position_ = 0;
  return std::exchange(bytes_, {});
}

void MemoryOutput::WriteAt(const uint8_t* data, int bytes) {
  const auto end = static_cast<size_t>(position_ + bytes);
  if (end > bytes_.size()) bytes_.resize(end);
  std::copy_n(data, bytes, bytes_.data() + position_);
  position_ += bytes;
}

}  // namespace mrt::media
