#include "kernels/sparse/sparse.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/sparse/pattern.h"

namespace mrt {
namespace {

// Elements of q, or of k: so that every byte offset and scratch size fits in an int64_t.
constexpr int64_t kElementsMax = int64_t{1} << 36;
// Keys have numbers of 31 bits.
constexpr int64_t kKeysMax = INT32_MAX;
// Frames, rows and columns of kWindow and kRadial, and causal blocks: no video has more, and what
// is kept is counted fast.
constexpr int kExtentMax = 1 << 16;

Status Bad(const std::string& what) { return InvalidArgument("[sparse] got " + what); }

bool FitsLimits(const SparseShape& s, int frames) {
  int64_t elements = frames;
  for (const int extent : {s.rows, s.cols, s.heads, s.head_dim})
    if (__builtin_mul_overflow(elements, int64_t{extent}, &elements)) return false;
  return elements <= kElementsMax;
}

Status CheckExtents(const SparseShape& s) {
  const struct {
    const char* name;
    int value;
    bool bounded;
  } extents[] = {{"heads", s.heads, false},      {"head_dim", s.head_dim, false},
                 {"frames_q", s.frames_q, true}, {"frames_kv", s.frames_kv, true},
                 {"rows", s.rows, true},         {"cols", s.cols, true}};
  const bool placed = s.pattern != SparsePattern::kTopK;
  for (const auto& extent : extents) {
    if (extent.value < 1)
      return Bad(std::string(extent.name) + " " + std::to_string(extent.value) +
                 ", need at least 1");
    if (placed && extent.bounded && extent.value > kExtentMax)
      return Bad(std::string(extent.name) + " " + std::to_string(extent.value) + ", need at most " +
                 std::to_string(kExtentMax) + " for window and radial");
  }
  if (!FitsLimits(s, s.frames_q) || !FitsLimits(s, s.frames_kv))
    return Bad("a shape of more than 2^36 elements, need less");
  if (s.frames_kv * s.tokens() > kKeysMax) return Bad("more than 2^31 - 1 keys, need less");
  if (placed && s.frames_q > s.frames_kv)
    return Bad("frames_q " + std::to_string(s.frames_q) + " and frames_kv " +
               std::to_string(s.frames_kv) +
               ", need queries that are the last of the keys for window and radial");
  return {};
}

Status CheckCausal(const SparseShape& s) {
  const int n = s.causal_block_frames;
  if (n < 0) return Bad("causal_block_frames " + std::to_string(n) + ", need at least 0");
  if (n == 0) return {};
  if (s.frames_q != s.frames_kv)
    return Bad("frames_q " + std::to_string(s.frames_q) + " and frames_kv " +
               std::to_string(s.frames_kv) + ", need equal numbers when block-causal");
  if (s.frames_kv % n != 0)
    return Bad("causal_block_frames " + std::to_string(n) + ", need a divisor of frames_kv " +
               std::to_string(s.frames_kv));
  if (s.frames_kv / n > kExtentMax)
    return Bad(std::to_string(s.frames_kv / n) + " causal blocks, need at most " +
               std::to_string(kExtentMax));
  return {};
}

// Pairs of a query and a key that kTopK keeps.
double TopKPairs(const SparseShape& s) {
  const int64_t block = s.causal_block_frames == 0 ? s.frames_q : s.causal_block_frames;
  double kept = 0;
  for (int64_t a = 0; a < s.frames_q; a += block)
    kept += static_cast<double>(block * s.tokens()) *
            static_cast<double>(KeptByTopK(s.density, VisibleFrames(s, a) * s.tokens()));
  return kept;
}

double KeptPairs(const SparseShape& s) {
  return s.pattern == SparsePattern::kTopK ? TopKPairs(s) : KeptPairs(s, PlanSparse(s));
}

}  // namespace

Status ValidateSparse(const SparseShape& s) {
  if (s.pattern != SparsePattern::kTopK && s.pattern != SparsePattern::kWindow &&
      s.pattern != SparsePattern::kRadial)
    return Bad("an unknown pattern, need kTopK, kWindow or kRadial");
  if (!(s.density > 0 && s.density <= 1))
    return Bad("density " + std::to_string(s.density) + ", need more than 0 and at most 1");
  MRT_RETURN_IF_ERROR(CheckExtents(s));
  MRT_RETURN_IF_ERROR(CheckCausal(s));
  if (s.storage != StorageType::kF32 && s.storage != StorageType::kBF16)
    return Bad("an unknown storage type, need kF32 or kBF16");
  return {};
}

int64_t VisibleFrames(const SparseShape& shape, int64_t a) {
  const int64_t n = shape.causal_block_frames;
  return n == 0 ? shape.frames_kv : (a / n + 1) * n;
}

int64_t KeptByTopK(double density, int64_t seen) {
  return std::clamp<int64_t>(std::llround(density * static_cast<double>(seen)), 1, seen);
}

double SparseDensity(const SparseShape& shape) { return KeptPairs(shape) / AllPairs(shape); }

double SparseFlop(const SparseShape& shape) {
  const double kept = KeptPairs(shape);
  const double scores = shape.pattern == SparsePattern::kTopK ? AllPairs(shape) : kept;
  return 2 * (scores + kept) * shape.heads * shape.head_dim;
}

}  // namespace mrt
