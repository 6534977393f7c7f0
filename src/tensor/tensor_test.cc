#include <gtest/gtest.h>

#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace mrt {
namespace {

TEST(Tensor, IsAlignedZeroedAndSliced) {
  Tensor t(DType::kF32, {3, 5});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.view().data) % 64, 0u);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(t.as<float>()[i], 0.0f);
  t.as<float>()[5] = 2;
  EXPECT_EQ(t.view().Slice(1, 3).as<float>()[0], 2.0f);
  EXPECT_EQ(t.view().Slice(1, 3).shape, (Shape{2, 5}));
  EXPECT_EQ(t.shape().ToString(), "[3, 5]");
}

TEST(Arena, GivesTheSameMemoryAgainAfterAScope) {
  Arena arena;
  const void* first = nullptr;
  for (int round = 0; round < 3; ++round) {
    ArenaScope scope(arena);
    const TensorView a = arena.Allocate(DType::kF32, {1000});
    const TensorView b = arena.Allocate(DType::kBF16, {int64_t{40} << 20});  // larger than a block
    EXPECT_NE(a.data, b.data);
    if (round == 0) first = a.data;
    EXPECT_EQ(a.data, first);
  }
  EXPECT_LE(arena.capacity_bytes(), int64_t{128} << 20);
}

}  // namespace
}  // namespace mrt
