#include "model/vae/synthetic.h"

#include <cmath>

namespace mrt {
namespace {

/// 64 bits from 64 bits (splitmix64's finaliser).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

std::shared_ptr<Tensor> NormalLike(int64_t n, float mean, float deviation) {
  constexpr float kUnit = 0x1p-16f;
  // The sum of four uniform numbers in 0..1 has mean 2 and deviation sqrt(4 / 12).
  const float scale = deviation * std::sqrt(3.0f);
  auto values = std::make_shared<Tensor>(DType::kBF16, Shape{n});
  uint64_t state = 1;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t bits = state = Mix(state);
    float sum = 0;
    for (int part = 0; part < 4; ++part)
      sum += static_cast<float>((bits >> (16 * part)) & 0xffff) * kUnit;
    values->as<BFloat16>()[i] = ToBFloat16(mean + scale * (sum - 2));
  }
  return values;
}

/// Adds the tensors of one coder and follows the width.
struct Coder {
  SyntheticTensors& tensors;

  void Gamma(const std::string& name, const Shape& shape) {
    tensors.Add(name + ".gamma", shape, 1, 0.1f);
  }
  void Residual(const std::string& name, int64_t in, int64_t out) {
    Gamma(name + ".residual.0", {in, 1, 1, 1});
    tensors.AddConv(name + ".residual.2", {out, in, 3, 3, 3});
    Gamma(name + ".residual.3", {out, 1, 1, 1});
    tensors.AddConv(name + ".residual.6", {out, out, 3, 3, 3});
    if (in != out) tensors.AddConv(name + ".shortcut", {out, in, 1, 1, 1});
  }
  void Middle(const std::string& name, int64_t width) {
    Residual(name + ".0", width, width);
    Gamma(name + ".1.norm", {width, 1, 1});
    tensors.AddConv(name + ".1.to_qkv", {3 * width, width, 1, 1});
    tensors.AddConv(name + ".1.proj", {width, width, 1, 1});
    Residual(name + ".2", width, width);
  }
};

}  // namespace

void SyntheticTensors::Add(const std::string& name, const Shape& shape, float mean,
                           float deviation) {
  constexpr int64_t kLine = 32;  // elements of a cache line
  const int64_t n = shape.elements();
  Pool& pool = pools_[{mean, deviation}];
  if (pool.values == nullptr || pool.values->shape()[0] < n)
    pool = {NormalLike(n + n / 2, mean, deviation)};
  if (pool.offset + n > pool.values->shape()[0]) pool.offset = 0;
  checkpoint_.Add(name, {pool.values->as<BFloat16>() + pool.offset, DType::kBF16, shape},
                  pool.values);
  // Not by whole filters.
  pool.offset += (n / 16 / kLine + 1) * kLine;
}

void SyntheticTensors::AddConv(const std::string& name, const Shape& shape, bool bias) {
  const int64_t inputs = shape.elements() / shape[0];
  Add(name + ".weight", shape, 0, 1 / std::sqrt(static_cast<float>(inputs)));
  if (bias) Add(name + ".bias", {shape[0]}, 0, 0);
}

Checkpoint SyntheticWanVae(int base_dim) {
  constexpr int64_t kLatentChannels = 16;
  constexpr int64_t kColors = 3;
  const int64_t base = base_dim;
  const int64_t widths[] = {base, 2 * base, 4 * base, 4 * base};
  SyntheticTensors tensors;
  Coder coder{tensors};

  tensors.AddConv("encoder.conv1", {base, kColors, 3, 3, 3});
  int index = 0;
  int64_t width = base;
  for (int level = 0; level < 4; ++level) {
    const auto next = [&index] { return "encoder.downsamples." + std::to_string(index++); };
    for (int block = 0; block < 2; ++block) {
      coder.Residual(next(), width, widths[level]);
      width = widths[level];
    }
    if (level == 3) break;
    const std::string resample = next();
    tensors.AddConv(resample + ".resample.1", {width, width, 3, 3});
    if (level > 0) tensors.AddConv(resample + ".time_conv", {width, width, 3, 1, 1});
  }
  coder.Middle("encoder.middle", width);
  coder.Gamma("encoder.head.0", {width, 1, 1, 1});
  tensors.AddConv("encoder.head.2", {2 * kLatentChannels, width, 3, 3, 3});
  tensors.AddConv("conv1", {2 * kLatentChannels, 2 * kLatentChannels, 1, 1, 1});

  tensors.AddConv("conv2", {kLatentChannels, kLatentChannels, 1, 1, 1});
  tensors.AddConv("decoder.conv1", {width, kLatentChannels, 3, 3, 3});
  coder.Middle("decoder.middle", width);
  index = 0;
  for (int level = 3; level >= 0; --level) {
    const auto next = [&index] { return "decoder.upsamples." + std::to_string(index++); };
    for (int block = 0; block < 3; ++block) {
      coder.Residual(next(), width, widths[level]);
      width = widths[level];
    }
    if (level == 0) break;
    const std::string resample = next();
    if (level > 1) tensors.AddConv(resample + ".time_conv", {2 * width, width, 3, 1, 1});
    tensors.AddConv(resample + ".resample.1", {width / 2, width, 3, 3});
    width /= 2;
  }
  coder.Gamma("decoder.head.0", {width, 1, 1, 1});
  tensors.AddConv("decoder.head.2", {kColors, width, 3, 3, 3});
  return tensors.Take();
}

}  // namespace mrt
