// A muxer's output collected in memory, so that whole pieces can be handed on.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "media/handles.h"

namespace mrt::media {

/// A stream without an end, to a muxer: it may go back over what was not taken yet, as muxers do
/// to write the size of a block in front of it, but is told that it cannot seek. Must stay where it
/// is, and outlive the muxer that writes into io().
class MemoryOutput {
 public:
  MemoryOutput() = default;
  MemoryOutput(const MemoryOutput&) = delete;
  MemoryOutput& operator=(const MemoryOutput&) = delete;

  Status Open();
  AVIOContext* io() { return io_.get(); }

  /// What was written since the last call.
  std::vector<uint8_t> Take();

 private:
  void WriteAt(const uint8_t* data, int bytes);

  std::vector<uint8_t> bytes_;  // not taken yet
  int64_t taken_bytes_ = 0;     // before bytes_[0]
  int64_t position_ = 0;        // in bytes_, of the next write
  IoPtr io_;
};

}  // namespace mrt::media
