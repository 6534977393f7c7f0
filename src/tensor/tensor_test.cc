#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tensor/arena.h"
#include "tensor/checkpoint.h"
#include "tensor/int8_weights.h"
#include "tensor/memory_meter.h"
#include "tensor/printable.h"
#include "tensor/tensor.h"
#include "tensor/weight_reader.h"
#include "testing/expect_failure.h"

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

TEST(Shape, ChecksExtentsOutOfAFile) {
  const auto checked = [](std::vector<int64_t> dims) { return Shape::Checked(dims); };
  EXPECT_EQ(checked({}), Shape());
  EXPECT_EQ(checked({2, 0, 3}), (Shape{2, 0, 3}));
  EXPECT_EQ(checked({int64_t{1} << 59})->elements(), int64_t{1} << 59);
  EXPECT_FALSE(checked({int64_t{1} << 60}));  // times 8 bytes: 2^63
  EXPECT_FALSE(checked({int64_t{1} << 32, int64_t{1} << 32}));
  EXPECT_FALSE(checked({int64_t{1} << 32, int64_t{1} << 32, 0}));
  EXPECT_FALSE(checked({0, int64_t{1} << 62, int64_t{1} << 62}));
  EXPECT_FALSE(checked({3, -1}));
  EXPECT_TRUE(checked(std::vector<int64_t>(8, 1)));
  EXPECT_FALSE(checked(std::vector<int64_t>(9, 1)));
}

TEST(Printable, EscapesAndCuts) {
  EXPECT_EQ(Printable("blocks.0"), "'blocks.0'");
  EXPECT_EQ(Printable("a\n\x1b\xff"), "'a\\x0a\\x1b\\xff'");
  EXPECT_EQ(Printable(std::string(121, 'x')), "'" + std::string(120, 'x') + "...'");
}

TEST(Int8Weights, AreTheMatricesOfBlocks) {
  for (const char* name : {"blocks.0.self_attn.q.weight", "model.blocks.12.cross_attn.o.weight",
                           "a.b.blocks.3.ffn.2.weight", "blocks.29.ffn.0.weight"})
    EXPECT_TRUE(IsBlockMatrix(name)) << name;
  for (const char* name :
       {"", "ffn.0.weight", ".ffn.0.weight", "0.ffn.0.weight", "blocks.ffn.0.weight",
        "blocks..ffn.0.weight", "blocks.x.ffn.0.weight", "myblocks.0.ffn.0.weight",
        "blocks.0.ffn.1.weight", "blocks.0.ffn.0.bias", "blocks.0.ffn.0.weight_scale",
        "blocks.0.attn.q.weight", "blocks.0.self_attn.norm_q.weight", "blocks.0xffn.0.weight",
        "head.head.weight", "blocks.0.norm3.weight"})
    EXPECT_FALSE(IsBlockMatrix(name)) << name;
}

class WeightReaderTest : public ::testing::Test {
 protected:
  void Add(const std::string& name, DType dtype, const Shape& shape) {
    auto tensor = std::make_shared<Tensor>(dtype, shape);
    checkpoint_.Add(name, *tensor, tensor);
  }
  Checkpoint checkpoint_;
};

TEST_F(WeightReaderTest, FindsWeights) {
  Add("w", DType::kBF16, {2, 3});
  WeightReader reader(checkpoint_, "[test]");
  EXPECT_EQ(reader.ShapeOf("w"), (Shape{2, 3}));
  EXPECT_EQ(reader.ShapeOf("v").rank(), 0);
  EXPECT_FALSE(reader.Require("w", {2, 3}).empty());
  EXPECT_TRUE(reader.Optional("v", {1}).empty());
  EXPECT_TRUE(reader.status().ok()) << reader.status().message();
}

TEST_F(WeightReaderTest, ReportsAllFaultsAtOnce) {
  Add("w", DType::kF32, {2, 3});
  Add("ids", DType::kI32, {4});
  WeightReader reader(checkpoint_, "[test]");
  EXPECT_TRUE(reader.Require("w", {3, 2}).empty());
  EXPECT_TRUE(reader.Optional("ids", {4}).empty());
  testing::ExpectFailure(reader.status(), StatusCode::kBadData,
                         "2 tensors are wrong: w (got F32 [2, 3], need [3, 2]), ids (got I32");
  for (int i = 0; i < 30; ++i) reader.Require("absent." + std::to_string(i), {1});
  testing::ExpectFailure(reader.status(), StatusCode::kNotFound,
                         "30 tensors are missing: absent.0");
  testing::ExpectFailure(reader.status(), StatusCode::kNotFound,
                         "absent.18, absent.19 and 10 more; 2 tensors");
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

TEST(Arena, HasOneBlockForAllThatWasReserved) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  Arena arena;
  arena.Reserve(100 * kMiB);
  arena.Reserve(200 * kMiB);  // has one already
  const ArenaScope scope(arena);
  const TensorView a = arena.Allocate(DType::kF32, {10 * kMiB});
  EXPECT_EQ(arena.Allocate(DType::kF32, {15 * kMiB}).data, a.as<float>() + 10 * kMiB);
  EXPECT_EQ(arena.capacity_bytes(), 100 * kMiB);
  arena.Allocate(DType::kU8, {1});
  EXPECT_GT(arena.capacity_bytes(), 100 * kMiB);
}

TEST(MemoryMeter, KnowsTheMostThereWasAtOneTime) {
  MemoryMeter meter;
  const char memory[4] = {};
  meter.Allocated(memory, 100);
  meter.Allocated(memory + 1, 30);
  meter.Freed(memory);
  meter.Freed(memory);      // no longer known
  meter.Freed(memory + 3);  // never known
  EXPECT_EQ(meter.live_bytes(), 30);
  meter.Allocated(memory, 90);
  EXPECT_EQ(meter.live_bytes(), 120);
  EXPECT_EQ(meter.peak_bytes(), 130);
  meter.Allocated(memory + 2, 11);
  EXPECT_EQ(meter.peak_bytes(), 131);
}

}  // namespace
}  // namespace mrt
