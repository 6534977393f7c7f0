// A video codec on a device that the host cannot reach, against the same on the CPU.
#pragma once

#include <gtest/gtest.h>

#include "testing/compare.h"
#include "testing/fake_device.h"
#include "testing/video_codec.h"

namespace mrt::testing {

/// Expects what the CPU gives, both ways. The device runs the operations of the CPU, so that in
/// float32 nothing but the place differs, and no bit may. In bfloat16 a CPU with AMX rounds less
/// often than that: it adds to residuals and upsamples within its convolutions. Codec(precision,
/// backend) has a context, a decoder, an encoder; `latents` [n, z, rows, cols], `video` F32
/// [frames, rows, cols, 3].
template <typename Codec>
void ExpectTheSameOnADevice(const ConstTensorView& latents, const Tensor& video) {
  for (const ops::Precision precision : {ops::Precision::kF32, ops::Precision::kBF16}) {
    if (precision == ops::Precision::kBF16 && !ops::HasNativeBF16()) continue;
    FakeDevice device(precision);
    Codec here(precision), there(precision, &device);
    const Tensor frames = Decode(there.context, *there.decoder, latents);
    const Tensor encoded = Encode(there.context, *there.encoder, video);
    const double rounding = precision == ops::Precision::kBF16 ? 2e-2 : 0;
    EXPECT_LE(Compare(frames, Decode(here.context, *here.decoder, latents)).relative_l2, rounding);
    EXPECT_LE(Compare(encoded, Encode(here.context, *here.encoder, video)).relative_l2, rounding);
    EXPECT_GT(device.operations(), 100);
  }
}

}  // namespace mrt::testing
