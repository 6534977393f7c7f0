#include "kernels/dense/dense.h"

#include <cmath>
#include <string>

namespace mrt {
namespace {

// Elements of q, or of k: so that every byte offset and scratch size fits in an int64_t.
constexpr int64_t kElementsMax = int64_t{1} << 36;

Status Bad(const std::string& what) { return InvalidArgument("[dense] got " + what); }

// tokens x heads x head_dim, all at least 1.
bool FitsLimits(const DenseShape& s, int64_t tokens) {
  int64_t elements = 0;
  return !__builtin_mul_overflow(tokens, int64_t{s.heads} * s.head_dim, &elements) &&
         elements <= kElementsMax;
}

Status CheckCausal(const DenseShape& s) {
  const int64_t n = s.causal_block_frames;
  if (n < 0) return Bad("causal_block_frames " + std::to_string(n) + ", need at least 0");
  if (n == 0) return {};
  if (s.tokens_q != s.frames_kv * s.tokens_per_frame)
    return Bad("tokens_q " + std::to_string(s.tokens_q) + ", need frames_kv " +
               std::to_string(s.frames_kv) + " times tokens_per_frame " +
               std::to_string(s.tokens_per_frame) + " when block-causal");
  if (s.frames_kv % n != 0)
    return Bad("causal_block_frames " + std::to_string(n) + ", need a divisor of frames_kv " +
               std::to_string(s.frames_kv));
  return {};
}

}  // namespace

BiasPlace FindBias(const DenseArgs& args, int64_t head, int64_t query) {
  if (args.key_bias) return {};
  const DenseShape& s = args.shape;
  const int64_t keys = s.frames_kv * s.tokens_per_frame;
  return {.first = (head * s.tokens_q + query) * keys, .query_stride = keys};
}

Status ValidateDense(const DenseShape& s) {
  const struct {
    const char* name;
    int64_t value;
  } extents[] = {{"heads", s.heads},
                 {"tokens_q", s.tokens_q},
                 {"tokens_per_frame", s.tokens_per_frame},
                 {"frames_kv", s.frames_kv},
                 {"head_dim", s.head_dim}};
  for (const auto& extent : extents)
    if (extent.value < 1)
      return Bad(std::string(extent.name) + " " + std::to_string(extent.value) +
                 ", need at least 1");
  int64_t tokens_kv = 0;
  if (__builtin_mul_overflow(s.tokens_per_frame, int64_t{s.frames_kv}, &tokens_kv) ||
      !FitsLimits(s, s.tokens_q) || !FitsLimits(s, tokens_kv))
    return Bad("a shape of more than 2^36 elements, need less");
  MRT_RETURN_IF_ERROR(CheckCausal(s));
  if (!std::isfinite(s.scale))
    return Bad("scale " + std::to_string(s.scale) + ", need a finite number");
  if (s.storage != StorageType::kF32 && s.storage != StorageType::kBF16)
    return Bad("an unknown storage type, need kF32 or kBF16");
  return {};
}

double DenseFlop(const DenseShape& shape) {
  // Pairs of a query and a key.
  double pairs = static_cast<double>(shape.tokens_q) * static_cast<double>(shape.frames_kv) *
                 static_cast<double>(shape.tokens_per_frame);
  if (const int64_t n = shape.causal_block_frames; n > 0) {  // block b sees b + 1 blocks
    const double blocks = static_cast<double>(shape.frames_kv) / n;
    pairs *= (blocks + 1) / (2 * blocks);
  }
  return 4 * pairs * shape.heads * shape.head_dim;
}

int64_t VisibleKeyFrames(const DenseShape& shape, int64_t token) {
  const int64_t n = shape.causal_block_frames;
  if (n == 0) return shape.frames_kv;
  return (token / (n * shape.tokens_per_frame) + 1) * n;
}

}  // namespace mrt
