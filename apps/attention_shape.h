// The shapes that `bench attention` measures: as text from the command line.
#pragma once

#include <string>

#include "monarchrt/attention.h"

namespace mrt::apps {

/// One attention problem. Of `options` the mode and the implementation are set later, per row.
struct AttentionShape {
  std::string name;  // "A", or the text it was made from
  monarchrt::AttentionOptions options;
  monarchrt::AttentionProblem problem;
};

/// A name (A: Wan 2.1 1.3B at 480x832 with a full window, B: the same with one query frame, C: at
/// 720x1280 with tiles of three frames, D: a small model of 4 heads of 64), or a list such as
/// "heads=12,head_dim=128,grid=30x52,q=3,kv=21,tiles=1,1,1,iterations=1,density=0.053" over the
/// values of A.
monarchrt::Result<AttentionShape> ParseAttentionShape(const std::string& text);

}  // namespace mrt::apps
