#include "model/wan/kv_cache.h"

#include <algorithm>
#include <numeric>

namespace mrt {

KvCache::KvCache(const WanConfig& config, int64_t rows, int64_t cols, int64_t capacity_frames,
                 int64_t sink_frames, DType dtype, Memory* memory, int64_t final_frames)
    : num_layers_(config.num_layers),
      rows_(rows),
      cols_(cols),
      capacity_frames_(capacity_frames),
      sink_frames_(sink_frames),
      storage_(Tensor::ToBeWritten(
          dtype, {config.num_layers, 2, capacity_frames - final_frames, rows * cols, config.dim},
          memory)),
      final_(Tensor::ToBeWritten(dtype, {2, final_frames, rows * cols, config.dim}, memory)),
      slots_(static_cast<size_t>(capacity_frames)),
      positions_(slots_.size()),
      keys_(static_cast<size_t>(config.num_layers * capacity_frames)),
      values_(keys_.size()) {
  MRT_CHECK(sink_frames >= 0 && final_frames >= 0 && final_frames <= capacity_frames);
  std::iota(slots_.begin(), slots_.end(), int64_t{0});
}

Status KvCache::BeginChunk(int64_t frames) {
  MRT_CHECK(chunk_frames_ == 0 && past_frames_ <= kept_frames());
  const int64_t room = capacity_frames_ - sink_frames_;  // frames that are free to roll
  if (frames < 1 || frames > room)
    return InvalidArgument("[kv cache] a chunk has " + std::to_string(frames) +
                           " frames, need 1 to " + std::to_string(room) + " (window " +
                           std::to_string(capacity_frames_) + " less sink " +
                           std::to_string(sink_frames_) + ")");
  const int64_t evicted = std::max<int64_t>(0, past_frames_ + frames - capacity_frames_);
  const auto after_sink = slots_.begin() + std::min(sink_frames_, past_frames_);
  std::rotate(after_sink, after_sink + evicted, slots_.end());
  past_frames_ -= evicted;
  chunk_frames_ = frames;
  for (int64_t f = 0; f < frames; ++f) {
    const int64_t slot = slots_[static_cast<size_t>(past_frames_ + f)];
    positions_[static_cast<size_t>(slot)] = frames_seen_ + f;
  }
  FillPointers();
  return {};
}

void KvCache::EndChunk() {
  MRT_CHECK(chunk_frames_ > 0);
  past_frames_ += chunk_frames_;
  frames_seen_ += chunk_frames_;
  chunk_frames_ = 0;
}

void KvCache::BeginRevisit(int64_t first, int64_t frames) {
  MRT_CHECK(chunk_frames_ == 0 && first >= 0 && frames > 0 && first + frames <= past_frames_);
  MRT_CHECK(past_frames_ <= kept_frames());
  MRT_CHECK(PositionOf(first + frames - 1) == PositionOf(first) + frames - 1);
  later_frames_ = past_frames_ - first - frames;
  past_frames_ = first;
  chunk_frames_ = frames;
}

void KvCache::EndRevisit() {
  past_frames_ += chunk_frames_ + later_frames_;
  chunk_frames_ = later_frames_ = 0;
}

int64_t KvCache::PositionOf(int64_t f) const {
  MRT_CHECK(0 <= f && f < frames_visible() + later_frames_);
  return positions_[static_cast<size_t>(slots_[static_cast<size_t>(f)])];
}

std::span<const int64_t> KvCache::slots() const {
  return {slots_.data(), static_cast<size_t>(frames_visible())};
}

void KvCache::Clear() { past_frames_ = chunk_frames_ = frames_seen_ = 0; }

ops::KvFrames KvCache::Layer(int64_t layer) const {
  MRT_CHECK(0 <= layer && layer < num_layers_);
  const auto first = static_cast<size_t>(layer * capacity_frames_);
  const auto count = static_cast<size_t>(frames_visible());
  return {{keys_.data() + first, count}, {values_.data() + first, count}, dtype()};
}

void KvCache::FillPointers() {
  const int64_t slot_bytes = rows_ * cols_ * storage_.shape()[4] * DTypeSize(dtype());
  const int64_t kept = kept_frames();
  auto* const base = static_cast<char*>(storage_.view().data);
  auto* const final_base = static_cast<char*>(final_.view().data);
  for (int64_t layer = 0; layer < num_layers_; ++layer) {
    for (int64_t f = 0; f < frames_visible(); ++f) {
      const int64_t slot = slots_[static_cast<size_t>(f)];
      const bool stays = slot < kept;
      const int64_t slots = stays ? kept : final_.shape()[1];  // of keys, then as many of values
      char* const key = stays ? base + (2 * layer * kept + slot) * slot_bytes
                              : final_base + (slot - kept) * slot_bytes;
      const auto at = static_cast<size_t>(layer * capacity_frames_ + f);
      keys_[at] = key;
      values_[at] = key + slots * slot_bytes;
    }
  }
}

int64_t KvCache::Bytes(const WanConfig& config, int64_t rows, int64_t cols, int64_t capacity_frames,
                       DType dtype, int64_t final_frames) {
  const int64_t slots = config.num_layers * (capacity_frames - final_frames) + final_frames;
  return slots * 2 * rows * cols * config.dim * DTypeSize(dtype);
}

}  // namespace mrt
