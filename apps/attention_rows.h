// Measures kernels of the public attention side by side in one run: `bench attention`.
#pragma once

#include <string>
#include <vector>

#include "apps/attention_shape.h"
#include "monarchrt/status.h"

namespace mrt::apps {

/// What is measured, and what came out.
struct AttentionRow {
  monarchrt::AttentionMode mode = monarchrt::AttentionMode::kMonarch;
  std::string impl;
  monarchrt::ElementType element = monarchrt::ElementType::kBF16;
  int threads = 0;
  double flop = 0;         // of its matrix products
  double density = 0;      // AttentionDensity
  std::vector<double> ms;  // of each run
  double relative_l2 = 0;  // ||got - want|| / ||want||, see MeasureAttention

  double MedianMs() const;
  double P95Ms() const;
  double Tflops() const { return flop / (MedianMs() / 1000) / 1e12; }
};

struct AttentionEffort {
  int runs = 20;        // of each row, but
  double seconds = 10;  // no more once a row has taken this long
  int runs_min = 3;
};

/// Runs the rows in turn, round after round, so that a machine that changes its speed does so for
/// all of them; a first round does not count. Inputs are uniform in [-sqrt(3), sqrt(3)) (variance
/// 1) and exact in bfloat16. The results are compared with the definition in double on a sample:
/// of the last head, the last query tile (Monarch), 64 of its last queries (dense, topk) or all
/// queries (window, radial).
monarchrt::Status MeasureAttention(const AttentionShape& shape, const AttentionEffort& effort,
                                   std::vector<AttentionRow>& rows);

}  // namespace mrt::apps
