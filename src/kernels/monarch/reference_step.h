// One refinement step for one head and one query tile: shared by the reference and its gradients.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/rounding.h"
#include "kernels/monarch/monarch.h"

namespace mrt {

/// A row-major array of doubles, zero at first.
template <int kRank>
class Array {
 public:
  Array() = default;
  template <typename... Extents>
  explicit Array(Extents... extents) : extents_{static_cast<int64_t>(extents)...} {
    static_assert(sizeof...(Extents) == kRank);
    int64_t elements = 1;
    for (int64_t extent : extents_) elements *= extent;
    data_.resize(static_cast<size_t>(elements));
  }
  template <typename... Indices>
  double& operator()(Indices... indices) {
    return data_[Offset(indices...)];
  }
  template <typename... Indices>
  double operator()(Indices... indices) const {
    return data_[Offset(indices...)];
  }

 private:
  template <typename... Indices>
  size_t Offset(Indices... indices) const {
    static_assert(sizeof...(Indices) == kRank);
    int64_t offset = 0;
    int axis = 0;
    ((offset = offset * extents_[axis++] + indices), ...);
    return static_cast<size_t>(offset);
  }
  std::array<int64_t, kRank> extents_ = {};
  std::vector<double> data_;
};

/// The extents of one query tile's problem.
struct TileExtents {
  int64_t f = 0;  // key tiles it sees
  int64_t i = 0;  // rows of a tile: also k
  int64_t j = 0;  // columns of a tile: also l
  int64_t d = 0;  // head_dim
  double s = 1;   // 1/sqrt(head_dim)
};

TileExtents ExtentsOf(const MonarchShape& shape, int64_t a);

/// The tokens of one head in tiles: tiles [first, first + count) of x [frames, rows, cols, heads,
/// head_dim] -> [count, row, column, head_dim].
Array<4> GatherTiles(const MonarchShape& shape, std::span<const double> x, int64_t head,
                     int64_t first, int64_t count);

/// Adds tiles [first, ...) back to where they came from.
void ScatterTiles(const MonarchShape& shape, const Array<4>& tiles, int64_t head, int64_t first,
                  int64_t count, std::span<double> x);

/// What a step reads of the step before it.
struct MonarchWeights {
  Array<3> damping;  // [f,k,j]: min(1 / (n + 1e-6), 1e4)
  Array<4> qbar;     // [f,k,j,d]
};

/// What a step computes.
struct MonarchStep {
  Array<4> r;     // [f,k,j,l]
  Array<4> kbar;  // [f,j,k,d]
  Array<4> vbar;  // [f,j,k,d]
  Array<3> c;     // [f,j,k]
  Array<4> left;  // [j,i,f,k]: L
};

/// L = identity.
MonarchWeights FirstWeights(const TileExtents& e, const Array<4>& q);
/// The weights that follow from the L of the step before.
MonarchWeights NextWeights(const TileExtents& e, const Array<4>& q, const MonarchStep& before,
                           Rounding rounding);
/// q [1,i,j,d], keys and values [f,k,l,d].
MonarchStep RunMonarchStep(const TileExtents& e, const Array<4>& q, const Array<4>& keys,
                           const Array<4>& values, const MonarchWeights& weights,
                           Rounding rounding);

}  // namespace mrt
