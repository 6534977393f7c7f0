// Between latents and pixels: what the Wan VAE and TAEHV have in common.
//
// A codec is const after load; a stream's memory is a state. Frames and latents go through one at a
// time, so memory grows neither with the length of a call nor with that of the stream, and cutting
// a stream into calls differently changes nothing, not even a bit.
#pragma once

#include <cstdint>
#include <memory>

#include "ops/context.h"
#include "tensor/tensor.h"

namespace mrt {

/// A latent pixel covers 8 x 8 pixels and, but for the first of a stream, 4 frames.
inline constexpr int64_t kPixelsPerLatent = 8;
inline constexpr int64_t kFramesPerLatent = 4;

/// The values of black and white.
struct PixelRange {
  float low = 0;
  float high = 1;
};

/// What a stream of latents remembers between two calls. Belongs to the decoder that made it.
class DecoderState {
 public:
  virtual ~DecoderState() = default;
};

class VideoDecoder {
 public:
  virtual ~VideoDecoder() = default;

  /// A new stream of latents of `latent_rows` x `latent_cols`, both >= 1. Throws std::bad_alloc.
  virtual std::unique_ptr<DecoderState> NewState(int64_t latent_rows,
                                                 int64_t latent_cols) const = 0;

  /// Video frames that the next `latent_frames` >= 0 give: 1 + 4 (n - 1) at the start of a stream,
  /// 4 n afterwards.
  virtual int64_t FramesOut(const DecoderState& state, int64_t latent_frames) const = 0;

  /// latents F32 [n, z, h, w] of the host, as the transformer gives them -> frames F32
  /// [FramesOut(n), 8h, 8w, 3] where the context computes, in range(); only TAEHV clamps. The
  /// shapes must be those of the state: anything else is a defect. A device may still be at work.
  virtual void Decode(ops::Context& context, DecoderState& state, const ConstTensorView& latents,
                      const TensorView& frames) const = 0;

  virtual PixelRange range() const = 0;
  virtual int64_t latent_channels() const = 0;
  /// Bytes of the packed weights.
  virtual int64_t weight_bytes() const = 0;
  /// Bytes of one state and of the scratch of one call, for planning: within a block of the arena.
  virtual int64_t WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                               ops::Precision precision) const = 0;
};

/// What a stream of frames remembers between two calls. Belongs to the encoder that made it.
class EncoderState {
 public:
  virtual ~EncoderState() = default;
};

class VideoEncoder {
 public:
  virtual ~VideoEncoder() = default;

  /// A new stream of frames of `rows` x `cols` pixels, both multiples of 8. Throws std::bad_alloc.
  virtual std::unique_ptr<EncoderState> NewState(int64_t rows, int64_t cols) const = 0;

  /// Latent frames that the next `frames` >= 0 complete. Wan: the first frame of a stream gives
  /// one, then every four frames; TAEHV: every four frames. Frames of an incomplete group wait in
  /// the state.
  virtual int64_t LatentsOut(const EncoderState& state, int64_t frames) const = 0;

  /// frames F32 [n, H, W, 3] in range() -> latents F32 [LatentsOut(n), z, H/8, W/8], as the
  /// transformer takes them. The shapes must be those of the state: anything else is a defect.
  virtual void Encode(ops::Context& context, EncoderState& state, const ConstTensorView& frames,
                      const TensorView& latents) const = 0;

  virtual PixelRange range() const = 0;
  virtual int64_t latent_channels() const = 0;
  /// Frames before the first latent frame is complete: Wan 1, TAEHV 4. Video frame 0 is the last of
  /// them; who has no frames before it repeats it.
  virtual int64_t first_group_frames() const = 0;
  /// Bytes of the packed weights.
  virtual int64_t weight_bytes() const = 0;
  /// As VideoDecoder::WorkingBytes, for frames of 8 * latent_rows x 8 * latent_cols.
  virtual int64_t WorkingBytes(int64_t latent_rows, int64_t latent_cols,
                               ops::Precision precision) const = 0;
};

}  // namespace mrt
