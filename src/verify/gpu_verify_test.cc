// Golden data on a GPU that is none (testing/fake_gpu.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "monarchrt/verify.h"
#include "testing/fake_gpu.h"
#include "testing/known_defect.h"
#include "testing/sanitizer.h"

namespace monarchrt {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kGolden = MRT_GOLDEN_DIR;

class VerifyOnAGpu : public ::testing::TestWithParam<const char*> {};

TEST_P(VerifyOnAGpu, Holds) {
  if (!mrt::ops::HasNativeBF16()) GTEST_SKIP() << "this CPU has no bf16 arithmetic";
  if (mrt::testing::kSanitized && std::string(GetParam()) == "wan_dit")
    GTEST_SKIP() << "the smaller ones take the same ways";
  const auto lines =
      Verify(kGolden + "/" + GetParam(), {.precision = Precision::kAuto, .device = "cuda"});
  ASSERT_TRUE(lines.ok()) << lines.status().message();
  EXPECT_FALSE(lines->empty());
  const bool attention = std::string(GetParam()) == "attention";
  for (const VerifyLine& line : *lines) {
    if (mrt::testing::AmxConvolutionDefect() != nullptr && line.tensor == "video") continue;
    EXPECT_TRUE(line.ok) << line.file << " " << line.tensor << " rel L2 " << line.relative_l2
                         << " allowed " << line.allowed;
    const bool causal = line.file.find("causal") != line.file.npos;
    EXPECT_EQ(!line.skipped.empty(), attention && (causal || line.tensor.starts_with("grad_")))
        << line.file << " " << line.tensor << ": " << line.skipped;
  }
}

INSTANTIATE_TEST_SUITE_P(All, VerifyOnAGpu,
                         ::testing::Values("attention", "wan_dit", "wan_vae", "taehv", "umt5",
                                           "package"),
                         [](const auto& suite) { return std::string(suite.param); });

TEST(VerifyGpu, RefusesWhatItCannotDo) {
  const auto refusal = [](const VerifyOptions& options) {
    return Verify(kGolden + "/attention", options).status().message();
  };
  EXPECT_THAT(refusal({.precision = Precision::kF32, .device = "cuda"}), StartsWith("[dtype]"));
  EXPECT_THAT(
      refusal({.precision = Precision::kAuto, .implementation = "avx2", .device = "cuda:1"}),
      HasSubstr("'avx2'"));
  EXPECT_THAT(refusal({.device = "gpu"}), StartsWith("[device]"));
}

}  // namespace
}  // namespace monarchrt
