#include "model/vae/planar.h"

namespace mrt {
namespace {

/// to [n, m] = from [m, n]. Latents are small: a frame at 480x832 has 100,000 elements.
void Transpose(const float* from, int64_t m, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < m; ++j) to[i * m + j] = from[j * n + i];
}

}  // namespace

void PlanarToChannelsLast(const ConstTensorView& x, const TensorView& y) {
  MRT_CHECK(x.shape.rank() == 3 && y.shape.elements() == x.shape.elements());
  Transpose(x.as<float>(), x.shape[0], x.shape[1] * x.shape[2], y.as<float>());
}

void ChannelsLastToPlanar(const ConstTensorView& x, const TensorView& y) {
  MRT_CHECK(y.shape.rank() == 3 && y.shape.elements() == x.shape.elements());
  Transpose(x.as<float>(), y.shape[1] * y.shape[2], y.shape[0], y.as<float>());
}

}  // namespace mrt
