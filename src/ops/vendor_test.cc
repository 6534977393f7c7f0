// The path that good machines never take: oneDNN has no fast kernel for a weight's usual layout.
#include "ops/cpu/vendor.h"

#include <gtest/gtest.h>

#include "ops/for_test.h"

namespace mrt::ops {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
constexpr auto kF32 = dnnl::memory::data_type::f32;
constexpr int64_t kIn = 40, kOut = 24, kBatch = 9;

dnnl::matmul::primitive_desc Describe(const Desc& weights) {
  return {{{{kBatch, kIn}, kF32, Tag::ab}, weights, {{kBatch, kOut}, kF32, Tag::ab}},
          Attributes(Activation::kNone),
          CpuEngine(),
          /*allow_empty=*/true};
}

TEST(PackedWeight, IsRepackedOnceForAnotherLayout) {
  const Tensor weight = RandomTensor(DType::kF32, {kOut, kIn}, 1);
  const Desc plain({kIn, kOut}, kF32, Tag::ba), packed({kIn, kOut}, kF32, Tag::BA16a16b);
  const Desc other({kIn, kOut}, kF32, Tag::ab);
  const PackedWeight pack(weight, plain, packed, /*round=*/false);
  EXPECT_EQ(pack.In(packed).get_desc(), packed);
  EXPECT_EQ(pack.bytes(), static_cast<int64_t>(packed.get_size()));
  const dnnl::memory& repacked = pack.In(other);
  const auto* got = static_cast<const float*>(repacked.get_data_handle());
  for (int64_t i = 0; i < kIn; ++i)
    for (int64_t o = 0; o < kOut; ++o)
      ASSERT_EQ(got[i * kOut + o], weight.as<float>()[o * kIn + i]);
  EXPECT_EQ(&pack.In(other), &repacked);
  EXPECT_EQ(pack.bytes(), static_cast<int64_t>(packed.get_size() + other.get_size()));
}

TEST(PreferLayout, LeavesALayoutThatHasOnlyReferenceLoops) {
  const Desc any({kIn, kOut}, kF32, Tag::any), odd({kIn, kOut}, kF32, Tag::AB16b16a);
  const auto alone = Describe(odd);
  ASSERT_TRUE(alone.get(/*allow_empty=*/true) == nullptr || IsReference(alone.impl_info_str()));
  const auto picked = PreferLayout(odd, any, Describe);
  EXPECT_FALSE(IsReference(picked.impl_info_str()));
  EXPECT_NE(picked.weights_desc(), odd);
  const Desc good = Describe(any).weights_desc();
  EXPECT_EQ(PreferLayout(good, any, Describe).weights_desc(), good);
}

TEST(PreferLayout, ThrowsIfThereIsNoKernelAtAll) {
  const auto nothing = [](const Desc&) { return dnnl::matmul::primitive_desc(); };
  const Desc any({kIn, kOut}, kF32, Tag::any);
  EXPECT_THROW(PreferLayout(any, any, nothing), dnnl::error);
}

TEST(Prepared, RunsAWeightInTheLayoutItAsksFor) {
  const Tensor weight = RandomTensor(DType::kF32, {kOut, kIn}, 1);
  const Tensor x = RandomTensor(DType::kF32, {kBatch, kIn}, 2), y(DType::kF32, {kBatch, kOut});
  const Desc plain({kIn, kOut}, kF32, Tag::ba), odd({kIn, kOut}, kF32, Tag::AB16b16a);
  const PackedWeight pack(weight, plain, odd, /*round=*/false);
  const auto pd = PreferLayout(odd, Desc({kIn, kOut}, kF32, Tag::any), Describe);
  Prepared prepared(dnnl::matmul(pd), pd, /*bias=*/false);
  Context context(Precision::kF32);
  prepared.Run(context, x.view().data, pack.In(prepared.weights_desc()), {}, y.view().data);
  const auto want = [&](int64_t i) {
    double sum = 0;
    for (int64_t k = 0; k < kIn; ++k)
      sum += static_cast<double>(x.as<float>()[i / kOut * kIn + k]) *
             weight.as<float>()[i % kOut * kIn + k];
    return sum;
  };
  ASSERT_EQ(Mismatch(context, y, Output::kFloat, want, 8), "");
}

// What Linear::AddTo relies on: neither reference loops nor another layout of the weight.
TEST(Attributes, AddingToTheOutputKeepsTheKernel) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    if (dtype == DType::kBF16 && !HasNativeBF16()) continue;
    const auto type = VendorType(dtype);
    for (const int64_t rows : {1, 9, 600})
      for (const auto& [in, out] : {std::pair<int64_t, int64_t>{1, 1}, {7, 65}, {256, 256}}) {
        const auto describe = [&, in = in, out = out](bool add) {
          return dnnl::matmul::primitive_desc({{{rows, in}, type, Tag::ab},
                                               {{in, out}, type, Tag::any},
                                               {{1, out}, kF32, Tag::ab},
                                               {{rows, out}, kF32, Tag::ab}},
                                              Attributes(Activation::kNone, add), CpuEngine());
        };
        const auto plain = describe(false), adding = describe(true);
        EXPECT_STREQ(adding.impl_info_str(), plain.impl_info_str());
        EXPECT_EQ(adding.weights_desc(), plain.weights_desc());
        EXPECT_FALSE(IsReference(adding.impl_info_str()));
      }
  }
}

TEST(HasNativeBF16, MeansThatOneDnnHasAKernel) {
  if (!HasNativeBF16()) GTEST_SKIP() << "CPU has no AVX-512 BF16";
  constexpr auto kBF16 = dnnl::memory::data_type::bf16;
  const dnnl::matmul::primitive_desc pd({{{kBatch, kIn}, kBF16, Tag::ab},
                                         {{kIn, kOut}, kBF16, Tag::any},
                                         {{kBatch, kOut}, kBF16, Tag::ab}},
                                        CpuEngine());
  EXPECT_FALSE(IsReference(pd.impl_info_str()));
}

}  // namespace
}  // namespace mrt::ops
