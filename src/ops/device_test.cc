// A context with a backend: where its tensors lie, and that operations run there.
#include <gtest/gtest.h>

#include <cstring>

#include "ops/for_test.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "testing/fake_device.h"

namespace mrt::ops {
namespace {

using testing::FakeDevice;

bool SameBytes(const ConstTensorView& a, const ConstTensorView& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())) == 0;
}

TEST(Device, TensorsThereAreZeroed) {
  FakeDevice device(Precision::kF32);
  Context context(Precision::kF32, &device);
  const ArenaScope scope(context.host_arena());
  for (const int64_t n : {1, 1024, 1025, 100'000}) {
    const Tensor there(DType::kF32, {n}, &device);
    EXPECT_TRUE(SameBytes(Download(context, there), Tensor(DType::kF32, {n}))) << n;
  }
}

TEST(Device, TensorsGoThereAndBack) {
  FakeDevice device(Precision::kF32);
  {
    Context context(Precision::kF32, &device);
    const ArenaScope scope(context.arena()), host_scope(context.host_arena());
    const Tensor x = RandomTensor(DType::kF32, {5, 77}, 1);
    const TensorView there = Upload(context, x.view());
    EXPECT_NE(there.data, x.view().data);
    EXPECT_TRUE(SameBytes(Download(context, there), x));
    const Tensor moved = MoveTo(&device, RandomTensor(DType::kF32, {5, 77}, 1));
    Copy(context, moved, there);
    const Tensor back(DType::kF32, x.shape());
    DownloadTo(context, there, back);
    EXPECT_TRUE(SameBytes(back, x));
    EXPECT_NE(RoomFor(context, back).data, back.view().data);
  }
  EXPECT_EQ(device.allocated_bytes(), 0);
}

TEST(Device, NothingMovesWithoutOne) {
  Context context(Precision::kF32);
  const ArenaScope scope(context.arena());
  EXPECT_EQ(&context.host_arena(), &context.arena());
  const Tensor x(DType::kF32, {3});
  EXPECT_EQ(Upload(context, x.view()).data, x.view().data);
  EXPECT_EQ(Download(context, x).data, x.view().data);
  EXPECT_EQ(RoomFor(context, x).data, x.view().data);
  const void* const data = x.view().data;
  const Tensor same = MoveTo(nullptr, RandomTensor(DType::kF32, {3}, 1));
  DownloadTo(context, same, x);
  EXPECT_EQ(x.view().data, data);
  EXPECT_TRUE(SameBytes(x, same));
}

TEST(Device, ScratchLiesThere) {
  FakeDevice device(Precision::kF32);
  Context context(Precision::kF32, &device);
  const ArenaScope scope(context.arena());
  const TensorView a = context.Float({3}), b = context.Float({3});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data) % 256, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % 256, 0u);
  EXPECT_GT(device.allocated_bytes(), 0);
  EXPECT_EQ(context.host_arena().capacity_bytes(), 0);
  const Tensor ones = RandomTensor(DType::kF32, {3}, 2);
  Copy(context, MoveTo(&device, RandomTensor(DType::kF32, {3}, 2)), a);
  Copy(context, MoveTo(&device, RandomTensor(DType::kF32, {3}, 3)), b);
  Multiply(context, a, b);
  EXPECT_EQ(device.operations(), 1);
  const ArenaScope host_scope(context.host_arena());
  const TensorView got = Download(context, a);
  const Tensor other = RandomTensor(DType::kF32, {3}, 3);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(got.as<float>()[i], ones.as<float>()[i] * other.as<float>()[i]);
}

TEST(Device, LackOfItsMemoryIsThrown) {
  FakeDevice device(Precision::kF32);
  device.set_limit_bytes(1000);
  EXPECT_THROW(Tensor(DType::kF32, {1000}, &device), std::bad_alloc);
  Context context(Precision::kF32, &device);
  const ArenaScope scope(context.arena());
  EXPECT_THROW(context.Float({1}), std::bad_alloc);
}

TEST(Device, KernelsHaveNoNamesThere) {
  FakeDevice device(Precision::kF32);
  AttentionConfig config{.h_reduce = 3};
  const AttentionGrid grid{.rows = 4, .cols = 6, .heads = 1, .head_dim = 32};
  const auto validate = [&] {
    return ValidateAttention(config, grid, 3, 3, Precision::kF32, &device).message();
  };
  EXPECT_NE(validate().find("h_reduce 3"), std::string::npos) << validate();
  config.h_reduce = 2;
  EXPECT_EQ(validate(), "");
  config.implementation = "avx2";
  EXPECT_NE(validate().find("'avx2'"), std::string::npos) << validate();
}

using DeviceDeathTest = ::testing::Test;

TEST(DeviceDeathTest, TheHostCannotReachIt) {
  FakeDevice device(Precision::kF32);
  const Tensor there(DType::kF32, {3}, &device);
  EXPECT_DEATH(std::memset(there.view().data, 0, 4), "");
  Context context(Precision::kF32, &device);
  const Tensor here(DType::kF32, {3});
  EXPECT_DEATH(Multiply(context, there, here), "");
}

}  // namespace
}  // namespace mrt::ops
