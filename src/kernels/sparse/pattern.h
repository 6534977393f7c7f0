// Which keys kWindow and kRadial keep, and how large their patterns become for a density.
#pragma once

#include <cstdint>

#include "kernels/sparse/sparse.h"

namespace mrt {

/// A key is kept that is at most so far away on each axis.
struct WindowReach {
  int64_t frames = 0;
  int64_t rows = 0;
  int64_t cols = 0;
};

/// Of one shape.
struct SparsePlan {
  WindowReach window;       // kWindow
  int64_t radial_base = 0;  // kRadial: the width at distances 0 and 1
};

/// kWindow: grows step by step from a query's own position, each time by one along the axis of
/// which it covers the smallest share of all pairs and along which it still fits the density; so
/// the box cannot grow along any axis. kRadial: the largest base that fits.
SparsePlan PlanSparse(const SparseShape& shape);

/// kRadial: at a distance of `frames` a key is kept that is less than so many tokens away. With
/// level = floor(log2(frames)), or 0 at distance 0, it is floor(base / 2^level). Where that is 0,
/// every frame whose distance is a multiple of the smallest power of two >= 2^level / base keeps
/// the one token at the query's place, and the others none. At distance 0 it is never less than 1.
int64_t RadialWidth(int64_t base, int64_t frames);

/// Pairs of a query and a key that the plan keeps; kWindow and kRadial only.
double KeptPairs(const SparseShape& shape, const SparsePlan& plan);

/// All pairs of a query and a key that it sees.
double AllPairs(const SparseShape& shape);

struct GridPosition {
  int64_t frame = 0;  // among the key frames
  int64_t token = 0;  // within the frame
};

/// Whether a query keeps a key that it sees: the definition of both patterns.
bool PatternKeeps(const SparseShape& shape, const SparsePlan& plan, const GridPosition& query,
                  const GridPosition& key);

/// Tokens [first, first + count) of a frame.
struct TokenSpan {
  int64_t first = 0;
  int64_t count = 0;
};

/// The tokens of key frame `frame` that the queries [first_token, last_token] of frame
/// `query_frame` may keep: all with kTopK, few too many with the others.
TokenSpan SpanOfFrame(const SparseShape& shape, const SparsePlan& plan, int64_t query_frame,
                      int64_t first_token, int64_t last_token, int64_t frame);

/// Writes which of the keys in spans[0 ... frames), numbered one after the other, the query keeps,
/// in rising order; returns how many.
int64_t KeepPattern(const SparseShape& shape, const SparsePlan& plan, const GridPosition& query,
                    const TokenSpan* spans, int64_t frames, int32_t* kept);

/// The same for kTopK: the `count` largest of `scores`. `kept` has room for all of them.
int64_t KeepLargest(const float* scores, int64_t size, int64_t count, int32_t* kept);

}  // namespace mrt
