// Self-attention keys and values of past frames: the state of one stream.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/wan/conditioning.h"
#include "model/wan/config.h"
#include "ops/kv_frames.h"
#include "tensor/tensor.h"

namespace mrt {

/// Keys and values of every layer for a rolling window of `capacity_frames` latent frames, of which
/// the first `sink_frames` stay for ever. Keys carry the rotary embedding of their absolute frame.
///
/// Frames lie in slots and never move: attention gets one pointer per frame, in logical order
/// (sink, then the window's past frames, oldest first, then the current chunk).
///
/// The chunk that ends a video is seen by nobody else, and by each layer only while that runs. So
/// the last `final_frames` slots are one for all layers, and nothing can follow the chunk in them.
class KvCache {
 public:
  /// Allocates everything: Bytes(). rows, cols: tokens of one latent frame. `memory`: that of the
  /// contexts it will be used with. `final_frames`: 0, or of a video of `capacity_frames` those of
  /// its last chunk. Throws std::bad_alloc.
  KvCache(const WanConfig& config, int64_t rows, int64_t cols, int64_t capacity_frames,
          int64_t sink_frames, DType dtype, Memory* memory = nullptr, int64_t final_frames = 0);

  /// Makes room for a chunk of `frames`, evicting as many of the oldest non-sink frames as needed,
  /// and gives it slots. Every Forward until EndChunk overwrites these. InvalidArgument if the
  /// window cannot hold the chunk beside the sink; nothing changes then.
  Status BeginChunk(int64_t frames);

  /// The chunk's frames now belong to the past.
  void EndChunk();

  /// Forgets the current chunk, if there is one; what BeginChunk evicted stays evicted.
  void AbandonChunk() { chunk_frames_ = 0; }

  /// Makes past frames first ... first + frames - 1 of the window the current chunk again, so that
  /// Forward overwrites their keys and values, seeing of the window only what lies before them.
  /// They must be neighbours in time. For EndRevisit, which makes the whole window visible again.
  void BeginRevisit(int64_t first, int64_t frames);
  void EndRevisit();

  /// Forgets all frames, an unfinished chunk too; the next chunk starts at frame 0.
  void Clear();

  /// Frames that were ever finished: the absolute index of the next one.
  int64_t frames_seen() const { return frames_seen_; }
  /// Absolute index of the current (or next) chunk's first frame: its position in time.
  int64_t chunk_position() const {
    return chunk_frames_ > 0 ? PositionOf(past_frames_) : frames_seen_;
  }
  /// Absolute index of frame `f` of the window.
  int64_t PositionOf(int64_t f) const;
  /// The slot of each visible frame, in logical order: a place among window frames that a frame
  /// keeps as long as it is in the window.
  std::span<const int64_t> slots() const;
  /// Frames of the current chunk; 0 outside of BeginChunk ... EndChunk.
  int64_t chunk_frames() const { return chunk_frames_; }
  /// The current chunk ends the video: of its keys and values nothing stays.
  bool chunk_is_final() const { return frames_visible() > kept_frames(); }
  /// Past frames in the window + the current chunk.
  int64_t frames_visible() const { return past_frames_ + chunk_frames_; }
  /// One layer's visible frames in logical order, the current chunk's last. Valid until the next
  /// BeginChunk or Clear.
  ops::KvFrames Layer(int64_t layer) const;

  /// Of the forwards with this cache.
  ConditioningMemo& conditioning() { return conditioning_; }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t num_layers() const { return num_layers_; }
  DType dtype() const { return storage_.dtype(); }
  int64_t bytes() const { return storage_.bytes() + final_.bytes(); }

  static int64_t Bytes(const WanConfig& config, int64_t rows, int64_t cols, int64_t capacity_frames,
                       DType dtype, int64_t final_frames = 0);

 private:
  void FillPointers();
  /// Slots that each layer has.
  int64_t kept_frames() const { return storage_.shape()[2]; }

  int64_t num_layers_, rows_, cols_, capacity_frames_, sink_frames_;
  Tensor storage_;  // [layers, keys and values, slots, what ops::StoreKeys writes of a frame]
  Tensor final_;    // [keys and values, slots, the same]: the last slots, of all layers
  // A permutation of all slots: those of the past frames in logical order, then the current
  // chunk's, then the free ones.
  std::vector<int64_t> slots_;
  std::vector<int64_t> positions_;    // of each slot's frame in time
  std::vector<void*> keys_, values_;  // [layers, capacity_frames], in the order of slots_
  int64_t past_frames_ = 0;
  int64_t later_frames_ = 0;  // during a revisit: those of the window behind the current chunk
  int64_t chunk_frames_ = 0;
  int64_t frames_seen_ = 0;
  ConditioningMemo conditioning_;
};

}  // namespace mrt
