// After its first call with a shape, an operation leaves the heap alone. This binary counts.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "base/threads.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/for_test.h"
#include "ops/linear.h"
#include "ops/rowwise.h"

namespace {
std::atomic<int64_t> news = 0;
std::atomic<int64_t> bytes = 0;

void* Allocate(size_t size, size_t alignment) {
  ++news;
  bytes += static_cast<int64_t>(size);
  const size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, rounded > 0 ? rounded : alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

// Not inlined: g++ would see free() on the result of new and warn, not knowing that new is ours.
[[gnu::noinline]] void Release(void* p) { std::free(p); }
}  // namespace

void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept { Release(p); }
void operator delete(void* p, size_t) noexcept { Release(p); }
void operator delete(void* p, std::align_val_t) noexcept { Release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { Release(p); }

namespace mrt::ops {
namespace {

/// What oneDNN 2.6 itself needs for each run: about 300 bytes in 7 pieces, whatever the shape.
constexpr int64_t kVendorNewsMax = 10;
constexpr int64_t kVendorBytesMax = 512;

class AllocationTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const char* reason = Unsupported(GetParam())) GTEST_SKIP() << reason;
  }

  /// Calls `run` three times; the last must allocate at most that much, and the arena not grow.
  template <typename Run>
  void ExpectQuiet(const char* what, int64_t news_max, int64_t bytes_max, Run run) {
    run();
    run();
    const int64_t arena = context_.arena().capacity_bytes();
    const int64_t news_before = news, bytes_before = bytes;
    run();
    EXPECT_LE(news - news_before, news_max) << what;
    EXPECT_LE(bytes - bytes_before, bytes_max) << what;
    EXPECT_EQ(context_.arena().capacity_bytes(), arena) << what;
  }
  template <typename Run>
  void ExpectNone(const char* what, Run run) {
    ExpectQuiet(what, 0, 0, run);
  }

  Context context_{GetParam()};
};

TEST_P(AllocationTest, Products) {
  const DType act = context_.activation();
  const Tensor weight = RandomTensor(DType::kF32, {96, 200}, 1);
  const Linear linear(context_, weight, {});
  const Tensor x = RandomActivation(context_, {600, 200}, 2), y(act, {600, 96});
  ExpectQuiet("Linear", kVendorNewsMax, kVendorBytesMax,
              [&] { linear.Run(context_, x, y, Activation::kGeluTanh); });
  const Tensor residual(DType::kF32, {600, 96}), gate = RandomTensor(DType::kF32, {3, 96}, 3);
  for (const ConstTensorView& each : {ConstTensorView(), ConstTensorView(gate)}) {
    const int64_t products = each.empty() ? 1 : 3;
    ExpectQuiet("Linear::AddTo", products * kVendorNewsMax, products * kVendorBytesMax,
                [&] { linear.AddTo(context_, x, residual, each); });
  }
  const Tensor conv_weight = RandomTensor(DType::kF32, {32, 16, 3, 3, 3}, 1);
  const Conv conv(context_, conv_weight, {}, {1, 1, 1, 1, 1, 1});
  const Tensor video = RandomActivation(context_, {4, 30, 40, 16}, 2), z(act, {2, 30, 40, 32});
  ExpectQuiet("Conv", kVendorNewsMax, kVendorBytesMax, [&] { conv.Run(context_, video, z); });
  const Tensor a = RandomTensor(act, {4, 100, 64}, 1),
               b = RandomTensor(DType::kF32, {4, 64, 50}, 2);
  const Tensor c(act, {4, 100, 50});
  ExpectQuiet("BatchedMatmul", kVendorNewsMax, kVendorBytesMax,
              [&] { BatchedMatmul(context_, a, b, false, c); });
}

TEST_P(AllocationTest, RowwiseOperations) {
  const DType act = context_.activation();
  const Tensor x = RandomTensor(DType::kF32, {600, 96}, 1), w = RandomTensor(DType::kF32, {96}, 2);
  const Tensor y(act, {600, 96});
  ExpectNone("row-wise", [&] {
    LayerNormModulate(context_, x, w, w, 1e-6f, y);
    RmsNorm(context_, y, w, 1e-6f, y);
    ChannelNorm(context_, y, w, true, y);
    Add(context_, y, y, true);
    Multiply(context_, y, y);
    Softmax(context_, y, 1);
    Cast(context_, y, x);
    ArenaScope scope(context_.arena());
    Cast(context_, x, context_.Activation({600, 96}));
  });
}

INSTANTIATE_TEST_SUITE_P(All, AllocationTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& test) { return PrecisionName(test.param); });

}  // namespace
}  // namespace mrt::ops
