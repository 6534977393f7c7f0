#include "model/wan/synthetic.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "model/wan/weights.h"

namespace mrt {
namespace {

constexpr int64_t kOffsetStep = 4099 * 32;  // elements between two tensors; a multiple of a line

/// `n` bfloat16 values, uniform in mean +- spread.
std::shared_ptr<Tensor> RandomPool(int64_t n, float mean, float spread) {
  auto pool = std::make_shared<Tensor>(DType::kBF16, Shape{n});
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(mean - spread, mean + spread);
  for (int64_t i = 0; i < n; ++i) pool->as<BFloat16>()[i] = ToBFloat16(uniform(random));
  return pool;
}

}  // namespace

WanConfig Wan21_1_3B() {
  return {.dim = 1536,
          .ffn_dim = 8960,
          .freq_dim = 256,
          .num_heads = 12,
          .num_layers = 30,
          .in_dim = 16,
          .out_dim = 16,
          .text_dim = 4096,
          .text_len = 512};
}

Checkpoint SyntheticWan(const WanConfig& config) {
  const std::vector<NamedShape> tensors = WanTensors(config);
  int64_t largest = 0;
  for (const NamedShape& tensor : tensors) largest = std::max(largest, tensor.shape.elements());
  const int64_t spare = largest / 2 + 32;  // room for offsets
  // A Linear of `dim` inputs then keeps the size of its input.
  const float spread = std::sqrt(3.0f / static_cast<float>(config.dim));
  const std::shared_ptr<Tensor> weights = RandomPool(largest + spare, 0, spread);
  const std::shared_ptr<Tensor> norms = RandomPool(config.dim, 1, 0.125f);

  Checkpoint checkpoint;
  int64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    const bool is_norm = name.find("norm") != std::string::npos && name.ends_with(".weight");
    if (is_norm) {
      checkpoint.Add(name, {norms->as<BFloat16>(), DType::kBF16, shape}, norms);
      continue;
    }
    checkpoint.Add(name, {weights->as<BFloat16>() + offset, DType::kBF16, shape}, weights);
    offset = (offset + kOffsetStep) % (spare / 32 * 32);
  }
  return checkpoint;
}

}  // namespace mrt
