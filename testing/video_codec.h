// What the tests of the two video codecs share: golden layouts, streams in pieces, memory, damaged
// checkpoints.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "model/vae/video_codec.h"
#include "ops/transfer.h"
#include "tensor/checkpoint.h"

namespace mrt::testing {

/// The value of a Result, which must be ok.
template <typename T>
T ValueOf(Result<T> result) {
  EXPECT_TRUE(result.ok()) << result.status().message();
  MRT_CHECK(result.ok());
  return std::move(result).value();
}

/// [n, c, rows, cols] of any floating point dtype as F32 [n, rows, cols, c].
inline Tensor ToChannelsLast(const ConstTensorView& x) {
  const int64_t n = x.shape[0], c = x.shape[1], pixels = x.shape[2] * x.shape[3];
  Tensor y(DType::kF32, {n, x.shape[2], x.shape[3], c});
  for (int64_t i = 0; i < n; ++i)
    for (int64_t channel = 0; channel < c; ++channel)
      for (int64_t p = 0; p < pixels; ++p)
        y.as<float>()[(i * pixels + p) * c + channel] =
            ElementAsFloat(x, (i * c + channel) * pixels + p);
  return y;
}

/// Decodes latents [n, z, rows, cols] in calls of `pieces` latent frames each, or in one.
inline Tensor Decode(ops::Context& context, const VideoDecoder& decoder,
                     const ConstTensorView& latents, std::vector<int64_t> pieces = {}) {
  const Tensor input = ToFloat32(latents);
  const Shape& shape = input.shape();
  if (pieces.empty()) pieces = {shape[0]};
  const auto state = decoder.NewState(shape[2], shape[3]);
  Tensor frames(DType::kF32, {decoder.FramesOut(*state, shape[0]), kPixelsPerLatent * shape[2],
                              kPixelsPerLatent * shape[3], 3});
  int64_t done = 0, frames_done = 0;
  for (const int64_t n : pieces) {
    const int64_t frames_n = decoder.FramesOut(*state, n);
    const TensorView here = frames.view().Slice(frames_done, frames_done + frames_n);
    const ArenaScope scope(context.arena());
    const TensorView made = ops::RoomFor(context, here);
    decoder.Decode(context, *state, input.view().Slice(done, done + n), made);
    ops::DownloadTo(context, made, here);
    done += n;
    frames_done += frames_n;
  }
  EXPECT_EQ(done, shape[0]);
  EXPECT_EQ(frames_done, frames.shape()[0]);
  return frames;
}

/// Encodes frames F32 [n, rows, cols, 3] in calls of `pieces` frames each, or in one.
inline Tensor Encode(ops::Context& context, const VideoEncoder& encoder, const Tensor& frames,
                     std::vector<int64_t> pieces = {}) {
  const Shape& shape = frames.shape();
  if (pieces.empty()) pieces = {shape[0]};
  const auto state = encoder.NewState(shape[1], shape[2]);
  Tensor latents(DType::kF32, {encoder.LatentsOut(*state, shape[0]), encoder.latent_channels(),
                               shape[1] / kPixelsPerLatent, shape[2] / kPixelsPerLatent});
  int64_t done = 0, latents_done = 0;
  for (const int64_t n : pieces) {
    const int64_t latents_n = encoder.LatentsOut(*state, n);
    encoder.Encode(context, *state, frames.view().Slice(done, done + n),
                   latents.view().Slice(latents_done, latents_done + latents_n));
    done += n;
    latents_done += latents_n;
  }
  EXPECT_EQ(done, shape[0]);
  EXPECT_EQ(latents_done, latents.shape()[0]);
  return latents;
}

inline bool SameBits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.view().data, b.view().data, static_cast<size_t>(a.bytes())) == 0;
}

inline void ExpectDecodesInAnyPieces(ops::Context& context, const VideoDecoder& decoder,
                                     const ConstTensorView& latents) {
  ASSERT_EQ(latents.shape[0], 4);
  const Tensor whole = Decode(context, decoder, latents);
  EXPECT_EQ(whole.shape()[0], 13);
  for (const std::vector<int64_t>& pieces :
       {std::vector<int64_t>{1, 1, 2}, {3, 1}, {1, 1, 1, 1}, {0, 2, 0, 2}})
    EXPECT_TRUE(SameBits(whole, Decode(context, decoder, latents, pieces)))
        << ::testing::PrintToString(pieces);
}

inline void ExpectEncodesInAnyPieces(ops::Context& context, const VideoEncoder& encoder,
                                     const Tensor& frames) {
  const int64_t n = frames.shape()[0];
  const Tensor whole = Encode(context, encoder, frames);
  EXPECT_EQ(whole.shape()[0], 4);
  for (const std::vector<int64_t>& pieces :
       {std::vector<int64_t>{1, n - 1}, {n - 2, 2}, {4, n - 4}, {0, 3, 4, n - 7}})
    EXPECT_TRUE(SameBits(whole, Encode(context, encoder, frames, pieces)))
        << ::testing::PrintToString(pieces);
}

/// Smooth numbers of about the size of latents.
inline Tensor SomeLatents(int64_t frames, int64_t channels, int64_t rows, int64_t cols) {
  Tensor latents(DType::kF32, {frames, channels, rows, cols});
  for (int64_t i = 0; i < latents.shape().elements(); ++i)
    latents.as<float>()[i] = std::sin(0.7f * static_cast<float>(i % 9973));
  return latents;
}

/// The arena holds as much after 12 latent frames as after 2.
inline void ExpectBoundedMemory(ops::Context& context, const VideoDecoder& decoder) {
  constexpr int64_t kRows = 24,
                    kCols = 24;  // twelve latent frames would overflow a block of the arena
  Decode(context, decoder, SomeLatents(2, decoder.latent_channels(), kRows, kCols));
  const int64_t capacity = context.arena().capacity_bytes();
  EXPECT_GT(capacity, 0);
  Decode(context, decoder, SomeLatents(12, decoder.latent_channels(), kRows, kCols));
  EXPECT_EQ(context.arena().capacity_bytes(), capacity);
}

/// Nothing is mapped on its own from then on: such a block counts the addresses, up to 2 MB, that
/// are skipped to align it.
inline int64_t HeapBytes() {
  mallopt(M_MMAP_MAX, 0);
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

/// WorkingBytes is what the state and the arena take, but for what the arena's blocks waste, and
/// for the addresses that malloc skips so that large tensors begin at 2 MB.
inline void ExpectPlannedMemory(ops::Context& context, const VideoDecoder& decoder) {
  constexpr int64_t kRows = 40, kCols = 48;
  constexpr double kArenaBlockBytes = 32 << 20;
  const int64_t before = HeapBytes();
  const auto state = decoder.NewState(kRows, kCols);
  const int64_t state_bytes = HeapBytes() - before;
  if (state_bytes == 0) GTEST_SKIP() << "this build has another allocator";
  const Tensor latents = SomeLatents(2, decoder.latent_channels(), kRows, kCols);
  Tensor frames(DType::kF32, {decoder.FramesOut(*state, 2), kPixelsPerLatent * kRows,
                              kPixelsPerLatent * kCols, 3});
  decoder.Decode(context, *state, latents, frames);
  const auto used = static_cast<double>(state_bytes + context.arena().capacity_bytes());
  const auto planned = static_cast<double>(decoder.WorkingBytes(kRows, kCols, context.precision()));
  EXPECT_GE(planned, 0.95 * used - kArenaBlockBytes);
  EXPECT_LE(planned, 1.05 * used);
}

inline void ExpectPlannedMemory(ops::Context& context, const VideoEncoder& encoder) {
  constexpr int64_t kRows = 40, kCols = 48;
  constexpr double kArenaBlockBytes = 32 << 20;
  const int64_t before = HeapBytes();
  const auto state = encoder.NewState(kPixelsPerLatent * kRows, kPixelsPerLatent * kCols);
  const int64_t state_bytes = HeapBytes() - before;
  if (state_bytes == 0) GTEST_SKIP() << "this build has another allocator";
  const Tensor frames =
      SomeLatents(5, kPixelsPerLatent * kRows, kPixelsPerLatent * kCols, 3);  // [5, H, W, 3]
  Tensor latents(DType::kF32,
                 {encoder.LatentsOut(*state, 5), encoder.latent_channels(), kRows, kCols});
  encoder.Encode(context, *state, frames, latents);
  const auto used = static_cast<double>(state_bytes + context.arena().capacity_bytes());
  const auto planned = static_cast<double>(encoder.WorkingBytes(kRows, kCols, context.precision()));
  EXPECT_GE(planned, 0.95 * used - kArenaBlockBytes);
  EXPECT_LE(planned, 1.05 * used);
}

inline void ExpectRoundTripIsFinite(ops::Context& context, const VideoEncoder& encoder,
                                    const VideoDecoder& decoder) {
  const Tensor frames = Decode(context, decoder, SomeLatents(3, decoder.latent_channels(), 4, 6));
  const Tensor latents = Encode(context, encoder, frames);
  double sum_sq = 0;
  for (int64_t i = 0; i < latents.shape().elements(); ++i) {
    ASSERT_TRUE(std::isfinite(latents.as<float>()[i]));
    sum_sq += latents.as<float>()[i] * latents.as<float>()[i];
  }
  EXPECT_GT(sum_sq, 0);
}

/// The checkpoint without some of its tensors, which must be there.
inline Checkpoint Without(const Checkpoint& whole, const std::set<std::string>& names) {
  auto owner = std::make_shared<Checkpoint>(whole);
  Checkpoint part;
  for (const auto& [name, tensor] : owner->tensors())
    if (names.count(name) == 0) part.Add(name, tensor, owner);
  EXPECT_EQ(part.tensors().size() + names.size(), whole.tensors().size());
  return part;
}

/// The checkpoint with another tensor in the place of one of its own; its elements must not be
/// read.
inline Checkpoint WithShape(const Checkpoint& whole, const std::string& name, DType dtype,
                            const Shape& shape) {
  EXPECT_FALSE(whole.Find(name).empty()) << name;
  const auto byte = std::make_shared<int64_t>(0);
  Checkpoint changed = whole;
  changed.Add(name, {byte.get(), dtype, shape}, byte);
  return changed;
}

}  // namespace mrt::testing
