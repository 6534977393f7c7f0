#include "model/wan/time_embedding.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"

namespace mrt {
namespace {

constexpr double kFrequencyBase = 10000;
constexpr int64_t kOutputsPerTask = 512;  // so that small models do not pay for waking threads

void Silu(int64_t n, const float* x, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] / (1 + std::exp(-x[i]));
}

}  // namespace

TimeEmbedding::FloatLinear::FloatLinear(const ConstTensorView& weight_out_in,
                                        const ConstTensorView& bias_out)
    : weight(DType::kF32, {weight_out_in.shape[1], weight_out_in.shape[0]}),
      bias(ToFloat32(bias_out)) {
  const int64_t out = weight_out_in.shape[0], in = weight_out_in.shape[1];
  const Tensor rows = ToFloat32(weight_out_in);  // [out, in]
  ParallelFor(in, 16, [&](int64_t begin, int64_t end) {
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = begin; i < end; ++i)
        weight.as<float>()[i * out + o] = rows.as<float>()[o * in + i];
  });
}

void TimeEmbedding::FloatLinear::Run(const float* x, float* y) const {
  const int64_t in = weight.shape()[0], out = weight.shape()[1];
  const float* const w = weight.as<float>();
  const float* const b = bias.as<float>();
  ParallelFor(out, kOutputsPerTask, [&](int64_t begin, int64_t end) {
    std::copy(b + begin, b + end, y + begin);
    for (int64_t i = 0; i < in; ++i) {
      const float xi = x[i];
      for (int64_t o = begin; o < end; ++o) y[o] += xi * w[i * out + o];
    }
  });
}

TimeEmbedding::TimeEmbedding(const WanConfig& config, const Checkpoint& checkpoint)
    : freq_dim_(config.freq_dim) {
  const auto linear = [&](const std::string& name) {
    return FloatLinear(checkpoint.Find(name + ".weight"), checkpoint.Find(name + ".bias"));
  };
  linear0_ = linear("time_embedding.0");
  linear2_ = linear("time_embedding.2");
  projection_ = linear("time_projection.1");
}

void TimeEmbedding::Run(ops::Context& context, std::span<const float> timesteps,
                        const TensorView& embedding, const TensorView& projection) const {
  const ArenaScope scope(context.host_arena());
  const auto n = static_cast<int64_t>(timesteps.size());
  const int64_t dim = embedding.shape.back(), half = freq_dim_ / 2;
  float* const features = context.HostFloat({freq_dim_}).as<float>();
  float* const hidden = context.HostFloat({dim}).as<float>();
  float* const projected = context.HostFloat({6, dim}).as<float>();
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency =
          std::pow(kFrequencyBase, -static_cast<double>(i) / static_cast<double>(half));
      const double angle = double{timesteps[static_cast<size_t>(t)]} * frequency;
      features[i] = static_cast<float>(std::cos(angle));
      features[half + i] = static_cast<float>(std::sin(angle));
    }
    float* const e = embedding.as<float>() + t * dim;
    linear0_.Run(features, hidden);
    Silu(dim, hidden, hidden);
    linear2_.Run(hidden, e);
    Silu(dim, e, hidden);
    projection_.Run(hidden, projected);
    for (int64_t part = 0; part < 6; ++part)
      std::copy_n(projected + part * dim, dim, projection.as<float>() + (part * n + t) * dim);
  }
}

int64_t TimeEmbedding::bytes() const {
  int64_t sum = 0;
  for (const FloatLinear* linear : {&linear0_, &linear2_, &projection_})
    sum += linear->weight.bytes() + linear->bias.bytes();
  return sum;
}

}  // namespace mrt
