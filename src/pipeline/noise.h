// Seeded Gaussian noise: the same bits for every thread count, build and machine.
//
// Generator: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011), keyed by the seed. A value depends on nothing but (seed, latent frame, denoising
// step, position in the frame), so a longer video starts with the noise of a shorter one. Normal
// deviates are the inverse normal distribution function of a 32-bit uniform (Wichura: Algorithm AS
// 241, PPND16, 1988), computed with
// + - * / and sqrt alone, which IEEE 754 rounds the same way everywhere.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/tensor.h"

namespace mrt {

/// One Philox4x32-10 block: four 32-bit words from a counter and a key.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// The x with standard normal distribution function p, 0 < p < 1. Relative error below 1e-15.
double InverseNormal(double p);

/// Fills `out`, F32 [frames, channels, rows, cols], with the noise of latent frames first_frame ...
/// before denoising step `step` (0: the noise a chunk starts from).
void FillNoise(uint64_t seed, int64_t first_frame, int step, const TensorView& out);

}  // namespace mrt
