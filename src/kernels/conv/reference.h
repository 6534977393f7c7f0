// Convolution as cuda/conv_cuda.h defines it, in doubles: what the kernel is tested against.
#pragma once

#include <span>
#include <vector>

#include "kernels/conv/cuda/conv_cuda.h"

namespace mrt {

/// x [time, rows, cols, in], weight [out, in, taps], bias [out] or empty -> y [out_time, out_rows,
/// out_cols, out] without activation. The shape must be valid.
std::vector<double> ConvReference(const ConvCudaShape& shape, std::span<const double> x,
                                  std::span<const double> weight, std::span<const double> bias);

double ActivationReference(ConvCudaActivation activation, double x);

}  // namespace mrt
