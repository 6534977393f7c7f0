// The UMT5 encoder on a GPU, against itself on the CPU.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "model/umt5/synthetic.h"
#include "model/umt5/umt5.h"
#include "ops/backend.h"
#include "testing/compare.h"

namespace mrt {
namespace {

using ops::Precision;

constexpr Umt5Config kConfig = {.vocabulary = 300,
                                .dim = 256,
                                .dim_attn = 256,
                                .dim_ffn = 512,
                                .heads = 4,
                                .layers = 3,
                                .buckets = 32};

Umt5Encoder Open(const Umt5Config& config) {
  auto encoder = Umt5Encoder::Open(SyntheticUmt5(config));
  EXPECT_TRUE(encoder.ok()) << encoder.status().message();
  return std::move(encoder).value();
}

class Umt5OnAGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (ops::ListGpus().empty()) GTEST_SKIP() << "no GPU that CUDA can use";
    auto made = ops::MakeCudaBackend(0);
    ASSERT_TRUE(made.ok()) << made.status().message();
    backend_ = std::move(made).value();
  }

  std::unique_ptr<ops::Backend> backend_;
};

TEST_F(Umt5OnAGpu, IsAsExactAsItsRounding) {
  const Umt5Encoder here = Open(kConfig);
  Umt5Encoder there = Open(kConfig);
  ASSERT_TRUE(there.RunsOn(*backend_));
  there.MoveMatrices(*backend_);
  ops::Context exact(Precision::kF32), rounded(Precision::kBF16Emulated),
      gpu(Precision::kBF16, backend_.get());
  for (const int n : {1, 17, 64, 65, 200}) {
    std::vector<int32_t> ids;
    for (int i = 0; i < n; ++i) ids.push_back(2 + 7 * i % 60);
    const auto want = here.Encode(exact, ids, 200), emulated = here.Encode(rounded, ids, 200),
               got = there.Encode(gpu, ids, 200), again = there.Encode(gpu, ids, 200);
    ASSERT_TRUE(want.ok() && emulated.ok() && got.ok() && again.ok());
    const auto error = [&](const Tensor& rows) {
      return testing::Compare(rows, *want).relative_l2;
    };
    EXPECT_LE(error(*got), 2 * error(*emulated)) << n << " tokens";
    EXPECT_EQ(testing::Compare(*again, *got).relative_l2, 0) << n << " tokens";
  }
}

TEST_F(Umt5OnAGpu, RefusesHeadsThatNoKernelTakes) {
  Umt5Config narrow = kConfig;
  narrow.heads = 16;
  EXPECT_FALSE(Open(narrow).RunsOn(*backend_));
}

}  // namespace
}  // namespace mrt
