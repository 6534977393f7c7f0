// Runs golden data and says how far this machine's results are from it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "monarchrt/engine.h"
#include "monarchrt/export.h"
#include "monarchrt/status.h"

namespace monarchrt {

struct VerifyOptions {
  Precision precision = Precision::kF32;
  int threads = 0;             // 0: all CPUs this process may use
  std::string implementation;  // an attention kernel's name, or empty for the best; CPU only
  /// As EngineOptions::device. What a GPU does not compute comes as skipped: gradients, sparse or
  /// refined attention; text is encoded on the CPU. Precision must be kAuto or kBF16 there.
  std::string device = "cpu";
};

/// The verdict on one tensor.
struct VerifyLine {
  std::string file;
  std::string tensor;
  double max_abs_error = 0;
  double relative_l2 = 0;  // ||got - want|| / ||want||
  /// Of relative_l2. float32: 1e-4, and 1e-3 after a whole rollout or run; bf16: twice the error of
  /// float32 arithmetic rounded wherever bf16 is stored; int8: 2e-2 of what comes out of a
  /// transformer, or what bf16 may be off where activations are bf16 and that is more.
  double allowed = 0;
  bool ok = false;
  std::string skipped;  // why nothing was compared, or empty; then ok is true
};

using VerifyCallback = std::function<void(const VerifyLine& line)>;

/// Recognises what lies at `path` and runs it: a safetensors file of attention data, of a rollout,
/// a forward pass, an autoencoder or text case (its model lies beside it); a directory of such
/// files; a `wan_dit`, `wan_vae`, `umt5` or `taehv` folder; a tree with run_*.safetensors; or a
/// directory of all these. Calls `on_line` as results come. A wrong result is not an error: look at
/// VerifyLine::ok. A path that holds nothing to verify is NotFound.
MRT_API Result<std::vector<VerifyLine>> Verify(const std::string& path,
                                               const VerifyOptions& options,
                                               const VerifyCallback& on_line = {});

/// {"ok": bool, "lines": [{"file", "tensor", "max_abs_error", "relative_l2", "allowed", "ok",
/// "skipped"}]}
MRT_API std::string ToJson(const std::vector<VerifyLine>& lines);

}  // namespace monarchrt
