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
  /// cases.
  enum class Pass {
    kReference,  // only notes which tensors do not hold in float32: they get no yardstick
    kYardstick,  // only notes the error of rounding, of which the verdict allows twice as much
    kVerdict,    // adds lines
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

  const std::vector<monarchrt::VerifyLine>& lines() const { return lines_; }

 private:
  void Add(monarchrt::VerifyLine line);

  monarchrt::VerifyCallback on_line_;
  Pass pass_ = Pass::kVerdict;
  std::set<std::string> wrong_in_float32_;    // "file tensor"
  std::map<std::string, double> yardsticks_;  // "file tensor" -> relative L2
  std::vector<monarchrt::VerifyLine> lines_;
};

}  // namespace mrt::verify
