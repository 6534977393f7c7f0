// Tests only: two videos that differ by nothing but the order of sums.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace mrt::testing {

/// Where products are small, oneDNN's AVX2 kernel splits a sum among the threads (its AVX-512 ones
/// do not), so the number of threads may change the last bit of a float, and one byte in ten
/// thousand by 1. Allowed is ten times that.
inline void ExpectEqualUpToRounding(const std::vector<uint8_t>& video,
                                    const std::vector<uint8_t>& expected) {
  ASSERT_EQ(video.size(), expected.size());
  ASSERT_FALSE(video.empty());
  size_t different = 0;
  int largest = 0;
  for (size_t i = 0; i < video.size(); ++i) {
    const int difference = std::abs(int{video[i]} - int{expected[i]});
    different += difference > 0;
    largest = std::max(largest, difference);
  }
  EXPECT_LE(largest, 1);
  EXPECT_LE(different, video.size() / 1000);
}

}  // namespace mrt::testing
