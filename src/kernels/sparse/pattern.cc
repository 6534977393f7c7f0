#include "kernels/sparse/pattern.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>

namespace mrt {
namespace {

// sum of min(x, most) over x in [0, count)
double SumOfLeast(int64_t count, int64_t most) {
  const auto below = static_cast<double>(std::min(count, most));
  const auto above = static_cast<double>(std::max<int64_t>(count - most, 0));
  return below * (below - 1) / 2 + above * static_cast<double>(most);
}

// Pairs of a query frame and a key frame that it sees, at most `reach` apart.
double FramePairs(const SparseShape& s, int64_t reach) {
  const int64_t queries = s.frames_q, n = s.causal_block_frames;
  const int64_t before = s.frames_kv - s.frames_q;  // the key frames before the first query frame
  const double earlier = SumOfLeast(before + queries, reach) - SumOfLeast(before, reach);
  const double later =
      n == 0 ? SumOfLeast(queries, reach) : static_cast<double>(queries) / n * SumOfLeast(n, reach);
  return static_cast<double>(queries) + earlier + later;
}

// Pairs of two places on an axis, at most `reach` < extent apart.
double AxisPairs(int64_t extent, int64_t reach) {
  return static_cast<double>(extent) + 2 * SumOfLeast(extent, reach);
}

double WindowPairs(const SparseShape& s, const WindowReach& w) {
  return FramePairs(s, w.frames) * AxisPairs(s.rows, w.rows) * AxisPairs(s.cols, w.cols);
}

double RadialPairs(const SparseShape& s, int64_t base) {
  double pairs = 0, nearer = 0;
  for (int64_t distance = 0; distance < s.frames_kv; ++distance) {
    const double within = FramePairs(s, distance);
    if (const int64_t width = RadialWidth(base, distance); width > 0)
      pairs += (within - nearer) * AxisPairs(s.tokens(), std::min(width, s.tokens()) - 1);
    nearer = within;
  }
  return pairs;
}

WindowReach ChooseWindow(const SparseShape& s, double budget) {
  WindowReach window;
  for (;;) {
    const struct {
      int64_t WindowReach::*reach;
      int64_t most;
      double share;
    } axes[] = {
        {&WindowReach::frames, s.frames_kv - 1,
         FramePairs(s, window.frames) / FramePairs(s, s.frames_kv - 1)},
        {&WindowReach::rows, s.rows - 1,
         AxisPairs(s.rows, window.rows) / AxisPairs(s.rows, s.rows - 1)},
        {&WindowReach::cols, s.cols - 1,
         AxisPairs(s.cols, window.cols) / AxisPairs(s.cols, s.cols - 1)},
    };
    WindowReach best = window;
    double best_share = 2;  // more than there is
    for (const auto& axis : axes) {
      if (window.*axis.reach == axis.most || axis.share >= best_share) continue;
      WindowReach grown = window;
      ++(grown.*axis.reach);
      if (WindowPairs(s, grown) > budget) continue;
      best = grown;
      best_share = axis.share;
    }
    if (best_share == 2) return window;
    window = best;
  }
}

int64_t Level(int64_t frames) {
  return frames == 0 ? 0 : std::bit_width(static_cast<uint64_t>(frames)) - 1;
}

int64_t ChooseRadialBase(const SparseShape& s, double budget) {
  int64_t fits = 0, too_large = (s.tokens() << Level(s.frames_kv - 1)) + 1;
  while (too_large - fits > 1) {
    const int64_t middle = fits + (too_large - fits) / 2;
    (RadialPairs(s, middle) <= budget ? fits : too_large) = middle;
  }
  return fits;
}

// Scores as unsigned numbers of the same order; zeros of both signs are equal, NaN is the largest.
uint32_t Ordered(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 + 0 is +0
  constexpr int kSign = 31;
  // All bits of a negative number are turned, of others the sign; without a branch, which a CPU
  // could not foresee.
  const uint32_t turned = bits ^ ((0 - (bits >> kSign)) | (uint32_t{1} << kSign));
  return std::isnan(score) ? ~uint32_t{0} : turned;
}

}  // namespace

int64_t RadialWidth(int64_t base, int64_t frames) {
  if (frames == 0) return std::max<int64_t>(base, 1);
  const int64_t level = Level(frames);
  if (const int64_t width = base >> level; width > 0) return width;
  if (base == 0) return 0;
  const int64_t need = ((int64_t{1} << level) + base - 1) / base;
  const auto stride = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(need)));
  return frames % stride == 0 ? 1 : 0;
}

SparsePlan PlanSparse(const SparseShape& shape) {
  SparsePlan plan;
  const double budget = shape.density * AllPairs(shape);
  if (shape.pattern == SparsePattern::kWindow) plan.window = ChooseWindow(shape, budget);
  if (shape.pattern == SparsePattern::kRadial) plan.radial_base = ChooseRadialBase(shape, budget);
  return plan;
}

double KeptPairs(const SparseShape& shape, const SparsePlan& plan) {
  return shape.pattern == SparsePattern::kWindow ? WindowPairs(shape, plan.window)
                                                 : RadialPairs(shape, plan.radial_base);
}

double AllPairs(const SparseShape& shape) {
  const auto tokens = static_cast<double>(shape.tokens());
  double frames = static_cast<double>(shape.frames_q) * shape.frames_kv;
  if (const int64_t n = shape.causal_block_frames; n > 0) {  // block b sees b + 1 blocks
    const double blocks = static_cast<double>(shape.frames_kv) / n;
    frames = blocks * (blocks + 1) / 2 * n * n;
  }
  return frames * tokens * tokens;
}

bool PatternKeeps(const SparseShape& shape, const SparsePlan& plan, const GridPosition& query,
                  const GridPosition& key) {
  const int64_t frames = std::abs(query.frame - key.frame);
  if (shape.pattern == SparsePattern::kRadial)
    return std::abs(query.token - key.token) < RadialWidth(plan.radial_base, frames);
  return frames <= plan.window.frames &&
         std::abs(query.token / shape.cols - key.token / shape.cols) <= plan.window.rows &&
         std::abs(query.token % shape.cols - key.token % shape.cols) <= plan.window.cols;
}

TokenSpan SpanOfFrame(const SparseShape& shape, const SparsePlan& plan, int64_t query_frame,
                      int64_t first_token, int64_t last_token, int64_t frame) {
  const int64_t frames = std::abs(query_frame - frame);
  if (shape.pattern == SparsePattern::kTopK) return {0, shape.tokens()};
  if (shape.pattern == SparsePattern::kWindow) {
    if (frames > plan.window.frames) return {};
    const int64_t first = std::max<int64_t>(first_token / shape.cols - plan.window.rows, 0);
    const int64_t last =
        std::min<int64_t>(last_token / shape.cols + plan.window.rows, shape.rows - 1);
    return {first * shape.cols, (last - first + 1) * shape.cols};
  }
  const int64_t width = RadialWidth(plan.radial_base, frames);
  if (width == 0) return {};
  const int64_t first = std::max<int64_t>(first_token - width + 1, 0);
  return {first, std::min(last_token + width, shape.tokens()) - first};
}

int64_t KeepPattern(const SparseShape& shape, const SparsePlan& plan, const GridPosition& query,
                    const TokenSpan* spans, int64_t frames, int32_t* kept) {
  int64_t count = 0, slot = 0;  // slot of the first key of the frame
  const auto keep = [&](const TokenSpan& span, int64_t first, int64_t last) {
    for (int64_t token = first; token <= last; ++token)
      kept[count++] = static_cast<int32_t>(slot + token - span.first);
  };
  for (int64_t frame = 0; frame < frames; slot += spans[frame].count, ++frame) {
    const TokenSpan& span = spans[frame];
    if (span.count == 0) continue;
    if (shape.pattern == SparsePattern::kRadial) {
      const int64_t width = RadialWidth(plan.radial_base, std::abs(query.frame - frame));
      keep(span, std::max<int64_t>(query.token - width + 1, 0),
           std::min(query.token + width, shape.tokens()) - 1);
      continue;
    }
    const int64_t row = query.token / shape.cols, col = query.token % shape.cols;
    const WindowReach& reach = plan.window;
    const int64_t last_row = std::min<int64_t>(row + reach.rows, shape.rows - 1);
    for (int64_t r = std::max<int64_t>(row - reach.rows, 0); r <= last_row; ++r)
      keep(span, r * shape.cols + std::max<int64_t>(col - reach.cols, 0),
           r * shape.cols + std::min<int64_t>(col + reach.cols, shape.cols - 1));
  }
  return count;
}

int64_t KeepLargest(const float* scores, int64_t size, int64_t count, int32_t* kept) {
  // Until it is known which are kept, `kept` holds the scores.
  for (int64_t i = 0; i < size; ++i) kept[i] = static_cast<int32_t>(Ordered(scores[i]));
  // The smallest score that is kept, digit by digit from the highest: 11, 11 and 10 bits.
  constexpr int kDigitBits = 11, kBits = 32;
  constexpr size_t kDigits = size_t{1} << kDigitBits;
  uint32_t least = 0;       // what is known of it
  int64_t missing = count;  // of those that agree with it so far, so many are kept
  for (int shift = kBits - kDigitBits, known = 0; known < kBits; shift -= kDigitBits) {
    shift = std::max(shift, 0);
    const uint32_t known_mask = known == 0 ? 0 : ~uint32_t{0} << (kBits - known);
    const uint32_t digit_mask = (~uint32_t{0} << shift) & ~known_mask;
    std::array<int32_t, kDigits> histogram = {};
    for (int64_t i = 0; i < size; ++i)
      if (const auto x = static_cast<uint32_t>(kept[i]); (x & known_mask) == least)
        ++histogram[(x & digit_mask) >> shift];
    size_t digit = kDigits - 1;
    for (; histogram[digit] < missing; --digit) missing -= histogram[digit];
    least |= static_cast<uint32_t>(digit) << shift;
    known = kBits - shift;
  }
  int64_t written = 0;
  for (int64_t i = 0; written < count; ++i) {
    const auto x = static_cast<uint32_t>(kept[i]);  // written <= i: it is still there
    if (x < least || (x == least && missing-- <= 0)) continue;
    kept[written++] = static_cast<int32_t>(i);
  }
  return written;
}

}  // namespace mrt
