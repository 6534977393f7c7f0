// Compares what was computed with what the golden data says and keeps the verdicts.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "monarchrt/verify.h"
#include "ops/linear.h"
#include "tensor/tensor.h"

namespace mrt::verify {

/// float32 limits of the relative L2 error.
inline constexpr double kTensorLimit = 1e-4;   // one module's output
inline constexpr double kRolloutLimit = 1e-3;  // after a whole rollout or run

/// The float32 limit of what comes out of a transformer, which with int8 weights is another one.
constexpr double TransformerLimit(double floating, ops::WeightType weights) {
  constexpr double kInt8Limit = 2e-2;
  return weights == ops::WeightType::kInt8 ? kInt8Limit : floating;
}

class Judge {
 public:
  explicit Judge(monarchrt::VerifyCallback on_line) : on_line_(std::move(on_line)) {}

  /// A bf16 verdict comes after a float32 pass and a pass with emulated rounding over the same
  /// cases. More yardsticks may follow it, of variations of the cases, for which float32 is the
  /// truth.
  enum class Pass {
    kReference,  // only notes which tensors do not hold in float32: they get no yardstick
    kVariation,  // only keeps the tensors for the yardstick pass that follows
    kYardstick,  // only notes the error of rounding, of which the verdict allows twice as much
    kVerdict,    // adds lines, until Flush() with the limits of now
  };
  void set_pass(Pass pass) { pass_ = pass; }

  /// `got` and `want` floating point, of one element count. `limit` holds unless a yardstick pass
  /// has set a larger one for this file and tensor.
  void Compare(const std::string& file, const std::string& tensor, const ConstTensorView& got,
               const ConstTensorView& want, double limit);
  /// Integers that must be equal; max_abs_error counts those that are not.
  void CompareExact(const std::string& file, const std::string& tensor,
                    const std::vector<int32_t>& got, const ConstTensorView& want);
  void Skip(const std::string& file, const std::string& tensor, const std::string& reason);

  /// Whether a tensor of the lines since Flush() is off by more than its yardsticks allow so far.
  bool exceeds_yardstick() const;
  /// Shows these lines.
  void Flush();

  const std::vector<monarchrt::VerifyLine>& lines() const { return lines_; }

 private:
  // The limit of a tensor by its yardsticks, or 0.
  double Allowed(const monarchrt::VerifyLine& line) const;

  monarchrt::VerifyCallback on_line_;
  Pass pass_ = Pass::kVerdict;
  std::set<std::string> wrong_in_float32_;  // "file tensor"
  struct Yardstick {
    double sum_sq = 0;  // of the relative L2 errors
    int samples = 0;
  };
  std::map<std::string, Yardstick> yardsticks_;  // by "file tensor"
  std::map<std::string, Tensor> varied_;         // of the last kVariation, until compared
  std::vector<monarchrt::VerifyLine> lines_;
  size_t shown_ = 0;  // of the lines
};

}  // namespace mrt::verify
