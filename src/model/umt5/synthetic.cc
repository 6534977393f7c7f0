#include "model/umt5/synthetic.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <random>
#include <string>

namespace mrt {
namespace {

constexpr int64_t kOffsetStep = 4099 * 32;   // elements between two tensors; a multiple of a line
constexpr int64_t kSpareElements = 1 << 20;  // room for offsets

// `n` bfloat16 values, uniform in mean +- spread.
std::shared_ptr<Tensor> RandomPool(int64_t n, float mean, float spread) {
  auto pool = std::make_shared<Tensor>(DType::kBF16, Shape{n});
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(mean - spread, mean + spread);
  for (int64_t i = 0; i < n; ++i) pool->as<BFloat16>()[i] = ToBFloat16(uniform(random));
  return pool;
}

// `bytes` of zeros that take no memory until they are touched.
std::shared_ptr<void> LazyZeros(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  return {data, [bytes](void* p) { munmap(p, bytes); }};
}

// Hands out tensors from the pools.
class Umt5Tensors {
 public:
  explicit Umt5Tensors(const Umt5Config& config)
      : dim_(config.dim),
        // A matrix of `dim` inputs then keeps the size of its input.
        spread_(std::sqrt(3.0f / static_cast<float>(config.dim))),
        weights_(RandomPool(LargestMatrix(config) + kSpareElements, 0, spread_)),
        norms_(RandomPool(config.dim, 1, 0.125f)) {}

  void AddMatrix(const std::string& name, int64_t rows, int64_t cols) {
    checkpoint_.Add(name, {weights_->as<BFloat16>() + offset_, DType::kBF16, {rows, cols}},
                    weights_);
    offset_ = (offset_ + kOffsetStep) % kSpareElements;
  }

  void AddNorm(const std::string& name) {
    checkpoint_.Add(name, {norms_->as<BFloat16>(), DType::kBF16, {dim_}}, norms_);
  }

  void AddEmbedding(const std::string& name, int64_t vocabulary) {
    const int64_t elements = vocabulary * dim_;
    const auto owner = LazyZeros(static_cast<size_t>(elements) * sizeof(BFloat16));
    auto* data = static_cast<BFloat16*>(owner.get());
    std::minstd_rand random(2);
    std::uniform_real_distribution<float> uniform(-1, 1);
    const int64_t filled = std::min(vocabulary, kSyntheticEmbeddingRows) * dim_;
    for (int64_t i = 0; i < filled; ++i) data[i] = ToBFloat16(uniform(random));
    checkpoint_.Add(name, {data, DType::kBF16, {vocabulary, dim_}}, owner);
  }

  Checkpoint Take() { return std::move(checkpoint_); }

 private:
  static int64_t LargestMatrix(const Umt5Config& c) {
    return std::max({c.dim * c.dim_attn, c.dim * c.dim_ffn, c.buckets * c.heads});
  }

  int64_t dim_;
  float spread_;
  std::shared_ptr<Tensor> weights_, norms_;
  int64_t offset_ = 0;
  Checkpoint checkpoint_;
};

}  // namespace

Umt5Config Umt5Xxl() {
  return {.vocabulary = 256384,
          .dim = 4096,
          .dim_attn = 4096,
          .dim_ffn = 10240,
          .heads = 64,
          .layers = 24,
          .buckets = 32};
}

Checkpoint SyntheticUmt5(const Umt5Config& config) {
  Umt5Tensors tensors(config);
  tensors.AddEmbedding("token_embedding.weight", config.vocabulary);
  tensors.AddNorm("norm.weight");
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string p = "blocks." + std::to_string(i) + ".";
    for (const char* name : {"q", "k", "v"})
      tensors.AddMatrix(p + "attn." + name + ".weight", config.dim_attn, config.dim);
    tensors.AddMatrix(p + "attn.o.weight", config.dim, config.dim_attn);
    tensors.AddMatrix(p + "pos_embedding.embedding.weight", config.buckets, config.heads);
    tensors.AddMatrix(p + "ffn.gate.0.weight", config.dim_ffn, config.dim);
    tensors.AddMatrix(p + "ffn.fc1.weight", config.dim_ffn, config.dim);
    tensors.AddMatrix(p + "ffn.fc2.weight", config.dim, config.dim_ffn);
    tensors.AddNorm(p + "norm1.weight");
    tensors.AddNorm(p + "norm2.weight");
  }
  return tensors.Take();
}

}  // namespace mrt
