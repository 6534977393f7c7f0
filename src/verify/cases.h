// One function per kind of golden data. Each computes with the context's precision what the data
// says should come out, and hands both to the judge. A Status is for data that cannot be run at
// all.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "monarchrt/engine.h"
#include "ops/context.h"
#include "verify/judge.h"

namespace mrt::verify {

struct RunOptions {
  std::string implementation;                                   // of the attention; empty: the best
  monarchrt::Precision precision = monarchrt::Precision::kF32;  // what was asked for
  std::string device = "cpu";  // of the last pass; those before it run on the CPU
  bool skip_int8 = false;      // leave out what comes out of a transformer with int8 weights
  int variation = 0;           // of a rollout's noise, which then differs from the file's; 0: none
};

/// A case: its file, and the directory of the model it belongs to.
using Files = std::vector<std::string>;

/// q, k, v -> out, dense_out, grad_q, grad_k, grad_v.
Status VerifyAttention(const std::string& file, ops::Context& context, const RunOptions& options,
                       Judge& judge);
/// Rollouts and bidirectional forwards of the transformer in `directory`.
Status VerifyWan(const std::string& directory, const Files& files, ops::Context& context,
                 const RunOptions& options, Judge& judge);
/// latents -> decoded, video -> encoded.
Status VerifyWanVae(const std::string& directory, const Files& files, ops::Context& context,
                    Judge& judge);
Status VerifyTaehv(const std::string& directory, const Files& files, ops::Context& context,
                   Judge& judge);
/// text_N -> ids_N -> embedding_N.
Status VerifyText(const std::string& directory, const Files& files, ops::Context& context,
                  Judge& judge);
/// Whole runs in a checkpoint tree: prompt -> ids -> context -> latents -> video. The text encoder
/// has a context of its own, which may be the other one.
Status VerifyRuns(const std::string& tree, const Files& files, ops::Context& context,
                  ops::Context& text_context, const RunOptions& options, Judge& judge);

}  // namespace mrt::verify
