// What MemoryPool keeps, gives again and gives back.
#include "tensor/memory_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <new>
#include <random>
#include <vector>

namespace mrt {
namespace {

constexpr int kLane = 0, kOtherLane = 1;

class MemoryPoolTest : public ::testing::Test {
 protected:
  void SetLimit(int64_t bytes) { limit_ = bytes; }
  int64_t held() const { return held_; }  // of the source
  int64_t allocations() const { return allocations_; }

 private:
  void* Allocate(int64_t bytes) {
    if (held_ + bytes > limit_) throw std::bad_alloc();
    void* const data = std::malloc(static_cast<size_t>(bytes));
    sizes_[data] = bytes;
    held_ += bytes;
    ++allocations_;
    return data;
  }
  void Free(void* data) {
    held_ -= sizes_.at(data);
    sizes_.erase(data);
    std::free(data);
  }

  std::map<void*, int64_t> sizes_;
  int64_t limit_ = INT64_MAX, held_ = 0, allocations_ = 0;

 protected:
  MemoryPool pool{{.allocate = [this](int64_t bytes) { return Allocate(bytes); },
                   .free = [this](void* data) { Free(data); }}};
};

TEST_F(MemoryPoolTest, GivesAgainWhatWasFreed) {
  void* const a = pool.Allocate(1000, kLane);
  void* const b = pool.Allocate(2000, kLane);
  EXPECT_NE(a, b);
  EXPECT_EQ(pool.kept_bytes(), 0);
  pool.Free(a, kLane);
  pool.Free(b, kLane);
  EXPECT_EQ(pool.kept_bytes(), 3000);
  EXPECT_EQ(held(), 3000);
  EXPECT_EQ(pool.Allocate(2000, kLane), b);
  EXPECT_EQ(pool.Allocate(900, kLane), a) << "up to an eighth larger";
  EXPECT_EQ(allocations(), 2);
  EXPECT_EQ(pool.kept_bytes(), 0);
  pool.Free(a, kLane);
  pool.Free(b, kLane);
}

TEST_F(MemoryPoolTest, WhatIsMuchLargerOrOfAnotherLaneIsNotGiven) {
  void* const big = pool.Allocate(3000, kLane);
  void* const kept = pool.Allocate(1000, kLane);
  pool.Free(kept, kLane);
  void* const small = pool.Allocate(800, kLane);
  EXPECT_EQ(allocations(), 3);
  pool.Free(big, kLane);
  pool.Free(small, kLane);
  void* const other = pool.Allocate(3000, kOtherLane);
  EXPECT_EQ(allocations(), 4);
  pool.Free(other, kOtherLane);
}

TEST_F(MemoryPoolTest, HoldsNoMoreThanWasEverUsed) {
  void* const a = pool.Allocate(1000, kLane);
  void* const b = pool.Allocate(500, kLane);
  pool.Free(a, kLane);
  pool.Free(b, kLane);
  void* const c = pool.Allocate(300, kLane);  // the smallest that is enough goes: 500
  EXPECT_EQ(held(), 1300);
  EXPECT_EQ(pool.kept_bytes(), 1000);
  void* const d = pool.Allocate(2000, kLane);
  EXPECT_EQ(held(), 2300);
  EXPECT_EQ(pool.kept_bytes(), 0);
  pool.Free(c, kLane);
  pool.Free(d, kLane);

  std::mt19937 random(1);
  std::vector<void*> used;
  int64_t most = held();
  for (int i = 0; i < 2000; ++i) {
    if (used.size() < 5 || random() % 2 == 0) {
      used.push_back(pool.Allocate(1 + random() % 1000, kLane));
    } else {
      std::swap(used[random() % used.size()], used.back());
      pool.Free(used.back(), kLane);
      used.pop_back();
    }
    most = std::max(most, held() - pool.kept_bytes());
    ASSERT_LE(held(), most);
  }
  for (void* data : used) pool.Free(data, kLane);
}

TEST_F(MemoryPoolTest, KeepsNothingWhereMemoryIsShort) {
  void* const a = pool.Allocate(1000, kLane);
  pool.Free(a, kLane);
  SetLimit(1500);
  void* const b = pool.Allocate(700, kOtherLane);  // with what was kept it would be 1700
  EXPECT_EQ(held(), 700);
  EXPECT_THROW(pool.Allocate(801, kLane), std::bad_alloc);
  void* const c = pool.Allocate(800, kLane);
  EXPECT_EQ(held(), 1500);
  pool.Free(b, kLane);
  EXPECT_THROW(pool.Allocate(2000, kLane), std::bad_alloc);
  EXPECT_EQ(held(), 800) << "a refusal keeps nothing either";
  pool.Free(c, kLane);
  EXPECT_EQ(pool.kept_bytes(), 800);
}

}  // namespace
}  // namespace mrt
