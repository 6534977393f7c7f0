// Which attention each layer uses in each pass of a chunk.
#pragma once

#include <cstdint>
#include <vector>

#include "model/wan/transformer.h"
#include "monarchrt/engine.h"
#include "ops/attention.h"

namespace mrt {

/// The passes of a chunk are its denoising steps, then the clean pass at t = 0.
class AttentionTable {
 public:
  /// The same everywhere.
  AttentionTable(const ops::AttentionConfig& all = {})  // NOLINT: implicit on purpose
      : different_{all} {}

  /// `all`, and over it the rules, the last that fits first. InvalidArgument for a number out of
  /// its range, for a layer the model does not have and for a step the schedule does not have.
  static Result<AttentionTable> Make(const monarchrt::AttentionOptions& all,
                                     const std::vector<monarchrt::AttentionRule>& rules,
                                     int64_t layers, int64_t steps);

  LayerAttention Step(int64_t step) const;
  LayerAttention CleanPass() const;

  /// The settings in use: the one for all, if any layer is left with it in a pass, then the rules.
  const std::vector<ops::AttentionConfig>& different() const { return different_; }

 private:
  std::vector<ops::AttentionConfig> different_;
  std::vector<std::vector<ops::AttentionConfig>> passes_;  // of each layer; none: different_[0]
};

/// "dense", "monarch" ...
const char* ModeName(const ops::AttentionConfig& config);

}  // namespace mrt
