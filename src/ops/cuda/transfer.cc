#include "ops/cuda/transfer.h"

#include <algorithm>
#include <cstring>

#include "base/threads.h"

namespace mrt::ops {
namespace {

constexpr int64_t kCopyAlignment = 256;
/// A thread copies at least that much: for less, waking it costs more.
constexpr int64_t kCopyGrainBytes = int64_t{512} << 10;

void CopyOnHost(void* to, const void* from, int64_t bytes) {
  ParallelFor(bytes, kCopyGrainBytes, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                static_cast<size_t>(end - begin));
  });
}

}  // namespace

PinnedRing::PinnedRing() {
  void* data = nullptr;
  CheckCuda("cudaMallocHost", cudaMallocHost(&data, static_cast<size_t>(kSlots * kSlotBytes)));
  memory_.reset(data);
  for (EventOwner& event : done_) {
    cudaEvent_t made = nullptr;
    CheckCuda("cudaEventCreate", cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
    event.reset(made);
  }
}

void PinnedRing::NextSlot(cudaStream_t stream) {
  CheckCuda("cudaEventRecord", cudaEventRecord(done_[static_cast<size_t>(current_)].get(), stream));
  current_ = (current_ + 1) % kSlots;
  CheckCuda("cudaEventSynchronize",
            cudaEventSynchronize(done_[static_cast<size_t>(current_)].get()));
  used_bytes_ = 0;
}

void PinnedRing::Upload(void* device, const void* host, int64_t bytes, cudaStream_t stream) {
  for (int64_t done = 0; done < bytes;) {
    if (used_bytes_ >= kSlotBytes) NextSlot(stream);
    const int64_t count = std::min(bytes - done, kSlotBytes - used_bytes_);
    char* const pinned = slot(current_) + used_bytes_;
    CopyOnHost(pinned, static_cast<const char*>(host) + done, count);
    CheckCuda("cudaMemcpyAsync to the device",
              cudaMemcpyAsync(static_cast<char*>(device) + done, pinned, static_cast<size_t>(count),
                              cudaMemcpyHostToDevice, stream));
    used_bytes_ += (count + kCopyAlignment - 1) / kCopyAlignment * kCopyAlignment;
    done += count;
  }
}

void PinnedRing::Download(void* host, const void* device, int64_t bytes, cudaStream_t stream) {
  // One slot is filled while the one before is emptied. They start fresh: uploads may be under way
  // in the current slot.
  const auto finish = [&](int n, int64_t begin, int64_t count) {
    CheckCuda("cudaMemcpyAsync from the device",
              cudaEventSynchronize(done_[static_cast<size_t>(n)].get()));
    CopyOnHost(static_cast<char*>(host) + begin, slot(n), count);
  };
  int64_t before_begin = 0, before_count = 0;
  int before = -1;
  for (int64_t begin = 0; begin < bytes; begin += kSlotBytes) {
    NextSlot(stream);
    const int64_t count = std::min(bytes - begin, kSlotBytes);
    CheckCuda("cudaMemcpyAsync from the device",
              cudaMemcpyAsync(slot(current_), static_cast<const char*>(device) + begin,
                              static_cast<size_t>(count), cudaMemcpyDeviceToHost, stream));
    used_bytes_ = kSlotBytes;
    CheckCuda("cudaEventRecord",
              cudaEventRecord(done_[static_cast<size_t>(current_)].get(), stream));
    if (before >= 0) finish(before, before_begin, before_count);
    before = current_, before_begin = begin, before_count = count;
  }
  if (before >= 0) finish(before, before_begin, before_count);
}

}  // namespace mrt::ops
