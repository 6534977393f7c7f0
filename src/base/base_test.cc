#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "base/cpu_features.h"
#include "base/float16.h"
#include "base/large_memory.h"
#include "base/memory_info.h"
#include "base/status.h"
#include "base/threads.h"

namespace mrt {
namespace {

TEST(Float16, BFloat16RoundsToNearestEven) {
  EXPECT_EQ(ToBFloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(ToBFloat16(1.0f + 0x1p-8f).bits, 0x3f80);             // a tie: down to even
  EXPECT_EQ(ToBFloat16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);         // a tie: up to even
  EXPECT_EQ(ToBFloat16(1.0f + 0x1p-8f + 0x1p-20f).bits, 0x3f81);  // above the tie
  EXPECT_TRUE(std::isnan(RoundToBFloat16(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isinf(RoundToBFloat16(std::numeric_limits<float>::max())));
}

TEST(Float16, EveryHalfConvertsExactly) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float x = ToFloat(Float16{static_cast<uint16_t>(bits)});
    const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    if (exponent == 31) {
      EXPECT_EQ(mantissa != 0, std::isnan(x));
      continue;
    }
    const double magnitude =
        exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
    EXPECT_EQ(x, static_cast<float>(bits & 0x8000 ? -magnitude : magnitude));
  }
}

TEST(Float16, HalfRoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const Float16 half{static_cast<uint16_t>(bits)};
    const float x = ToFloat(half);
    EXPECT_EQ(ToFloat16(x).bits, bits);
    EXPECT_EQ(ToFloat16(-x).bits, bits | 0x8000u);
    // Half way to the next one, which for the largest is where infinity begins.
    const float next = bits == 0x7bff ? 65536.0f : ToFloat(Float16{uint16_t(bits + 1)});
    const float middle = (x + next) / 2;
    EXPECT_EQ(ToFloat16(middle).bits, bits + bits % 2) << x;
    EXPECT_EQ(ToFloat16(std::nextafter(middle, 0.0f)).bits, bits) << x;
    EXPECT_EQ(ToFloat16(std::nextafter(middle, 1e9f)).bits, bits + 1) << x;
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ToFloat16(-kInfinity).bits, 0xfc00);
  EXPECT_EQ(ToFloat16(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(ToFloat16(std::numeric_limits<float>::denorm_min()).bits, 0);
  EXPECT_TRUE(std::isnan(ToFloat(ToFloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(LargeMemory, IsAlignedAndWritable) {
  for (const int64_t bytes : {1, 100, (2 << 20) - 1, 2 << 20, (5 << 20) + 1}) {
    char* const data = static_cast<char*>(AllocateLarge(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % (bytes < 2 << 20 ? 64 : 2 << 20), 0u) << bytes;
    data[0] = data[bytes - 1] = 1;
    std::free(data);
  }
}

TEST(Threads, EveryIndexRunsOnce) {
  for (int threads : {1, 2, 5}) {
    SetThreadCount(threads);
    std::vector<std::atomic<int>> hits(1000);
    ParallelFor(1000, 7, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++hits[i];
    });
    std::atomic<int> worker_max = 0;
    ParallelTasks(1000, [&](int64_t task, int worker) {
      ++hits[task];
      int seen = worker_max;
      while (worker > seen && !worker_max.compare_exchange_weak(seen, worker)) {
      }
    });
    EXPECT_LT(worker_max, threads);
    for (const auto& hit : hits) EXPECT_EQ(hit, 2);
  }
  SetThreadCount(0);
  EXPECT_EQ(ThreadCount(), UsableCpuCount());
}

Result<int> Half(int x) {
  if (x % 2) return InvalidArgument("[half] got " + std::to_string(x) + ", need an even number");
  return x / 2;
}

Result<int> Quarter(int x) {
  MRT_ASSIGN_OR_RETURN(const int half, Half(x));
  return Half(half);
}

TEST(Status, TravelsThroughTheHelpers) {
  EXPECT_EQ(Quarter(8).value(), 2);
  EXPECT_EQ(Quarter(6).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Quarter(6).status().message(), "[half] got 3, need an even number");
}

TEST(Machine, IsDescribed) {
  EXPECT_FALSE(GetCpuFeatures().brand.empty());
  EXPECT_GT(AvailableMemoryBytes(), 0);
  EXPECT_LE(AvailableMemoryBytes(), TotalMemoryBytes());
  EXPECT_GT(PeakResidentBytes(), 1 << 20);
}

#if defined(__x86_64__) && !defined(__clang__)
// GCC knows the levels by name; we spell them out for clang 14.
TEST(Machine, HasTheLevelsThatTheCompilerSees) {
  if (std::getenv("MRT_CPU_LIMIT") != nullptr) GTEST_SKIP() << "MRT_CPU_LIMIT hides features";
  EXPECT_EQ(GetCpuFeatures().avx2, __builtin_cpu_supports("x86-64-v3") != 0);
  EXPECT_EQ(GetCpuFeatures().avx512, __builtin_cpu_supports("x86-64-v4") != 0);
}
#endif

}  // namespace
}  // namespace mrt
