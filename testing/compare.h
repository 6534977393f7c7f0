// How tests compare tensors: the two error norms every golden test uses.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/tensor.h"

namespace mrt::testing {

struct Difference {
  double max_abs = 0;      // largest |got - want|
  double relative_l2 = 0;  // ||got - want|| / ||want||; infinite if anything is not finite
};

/// Element by element, in doubles; both floating point, of equal element count.
inline Difference Compare(const ConstTensorView& got, const ConstTensorView& want) {
  MRT_CHECK(got.shape.elements() == want.shape.elements());
  double difference_sq = 0, want_sq = 0, max_abs = 0;
  for (int64_t i = 0; i < want.shape.elements(); ++i) {
    const double g = ElementAsFloat(got, i), w = ElementAsFloat(want, i);
    if (!std::isfinite(g)) return {INFINITY, INFINITY};
    max_abs = std::max(max_abs, std::abs(g - w));
    difference_sq += (g - w) * (g - w);
    want_sq += w * w;
  }
  if (want_sq == 0) return {max_abs, difference_sq == 0 ? 0 : INFINITY};
  return {max_abs, std::sqrt(difference_sq / want_sq)};
}

}  // namespace mrt::testing
