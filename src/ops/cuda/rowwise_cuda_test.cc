// The operations on rows, on CUDA and on the CPU.
#include "ops/rowwise.h"

#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "ops/cuda/test_util.h"

namespace mrt::ops {
namespace {

// Parts of a warp, warps and blocks, each with whole vectors and with a rest.
constexpr int64_t kWidths[] = {1,   7,   8,    16,   20,   64,   96,   100,  192,  256,  300,
                               384, 768, 1023, 1536, 1537, 2048, 3000, 5120, 8960, 12288};
constexpr int64_t kRows = 15;

std::string Of(int64_t width) { return "width " + std::to_string(width); }

Tensor RandomFloats(const Shape& shape, uint32_t seed) {
  return RandomTensor(DType::kF32, shape, seed);
}

TEST_F(CudaOpsTest, LayerNormModulate) {
  for (int64_t width : kWidths)
    for (int64_t groups : {1, 3, 15}) {
      const Tensor x = RandomFloats({kRows, width}, 1), scale = RandomFloats({groups, width}, 2);
      const Tensor shift = RandomFloats({groups, width}, 3), want(DType::kF32, {kRows, width});
      LayerNormModulate(here(), x, scale, shift, 1e-6f, want);
      const Tensor y = Poisoned(DType::kBF16, {kRows, width});
      LayerNormModulate(there(), There(x), There(scale), There(shift), 1e-6f, y);
      ASSERT_EQ(FirstMismatch(Here(y), want, Bf16Step(20)), "")
          << Of(width) << ", groups " << groups;
    }
}

TEST_F(CudaOpsTest, LayerNorm) {
  for (int64_t width : kWidths) {
    const Tensor x = RandomFloats({kRows, width}, 1), weight = RandomFloats({width}, 2);
    const Tensor bias = RandomFloats({width}, 3), want(DType::kF32, {kRows, width});
    LayerNorm(here(), x, weight, bias, 1e-5f, want);
    const Tensor y = Poisoned(DType::kBF16, {kRows, width});
    LayerNorm(there(), There(x), There(weight), There(bias), 1e-5f, y);
    ASSERT_EQ(FirstMismatch(Here(y), want, Bf16Step(20)), "") << Of(width);
  }
}

TEST_F(CudaOpsTest, RmsNormOfEveryDType) {
  for (int64_t width : kWidths)
    for (DType from : {DType::kBF16, DType::kF32})
      for (DType to : {DType::kBF16, DType::kF32}) {
        const Tensor x = RandomTensor(from, {kRows, width}, 1), weight = RandomFloats({width}, 2);
        const Tensor want(DType::kF32, {kRows, width});
        RmsNorm(here(), ToFloat32(x), weight, 1e-6f, want,
                to == DType::kF32 ? Output::kFloat : Output::kActivation);
        const Tensor y = Poisoned(to, {kRows, width});
        RmsNorm(there(), There(x), There(weight), 1e-6f, y);
        ASSERT_EQ(FirstMismatch(Here(y), want, to == DType::kF32 ? FloatSums(10) : Bf16Step(10)),
                  "")
            << Of(width) << ", " << DTypeName(from) << " to " << DTypeName(to);
      }
}

TEST_F(CudaOpsTest, RmsNormInPlace) {
  for (int64_t width : kWidths) {
    const Bf16Pair x({kRows, width}, 1);
    const Tensor weight = RandomFloats({width}, 2), y = There(x.bf16);
    RmsNorm(here(), x.f32, weight, 1e-6f, x.f32);
    RmsNorm(there(), y, There(weight), 1e-6f, y);
    ASSERT_EQ(FirstMismatch(Here(y), x.f32, Bf16Step(10)), "") << Of(width);
  }
}

TEST_F(CudaOpsTest, ChannelNorm) {
  for (int64_t width : kWidths)
    for (bool silu : {false, true}) {
      const Bf16Pair x({3, 5, 7, width}, 1);
      const Tensor gamma = RandomFloats({width}, 2), want(DType::kF32, x.f32.shape());
      // A row of zeros stays one.
      std::memset(x.bf16.view().data, 0, static_cast<size_t>(2 * width));
      std::memset(x.f32.view().data, 0, static_cast<size_t>(4 * width));
      ChannelNorm(here(), x.f32, gamma, silu, want);
      const Tensor y = Poisoned(DType::kBF16, x.bf16.shape());
      ChannelNorm(there(), There(x.bf16), There(gamma), silu, y);
      ASSERT_EQ(FirstMismatch(Here(y), want, Bf16Step(20)), "") << Of(width) << ", silu " << silu;
    }
}

TEST_F(CudaOpsTest, RowsThatStartAnywhere) {
  // Slices of a tensor whose rows are no multiple of 16 bytes.
  const Bf16Pair x({9, 12}, 1);
  const Tensor weight = RandomFloats({12}, 2), want(DType::kF32, {8, 12});
  RmsNorm(here(), x.f32.view().Slice(1, 9), weight, 1e-6f, want);
  const Tensor y = Poisoned(DType::kBF16, {9, 12}), from = There(x.bf16);
  RmsNorm(there(), from.view().Slice(1, 9), There(weight), 1e-6f, y.view().Slice(1, 9));
  const Tensor got = Here(y);
  ASSERT_EQ(FirstMismatch(got.view().Slice(1, 9), want, Bf16Step(10)), "");
  EXPECT_TRUE(std::isnan(ElementAsFloat(got, 11))) << "the row before was written";
}

struct Heads {
  int64_t heads, head_dim;
};
constexpr Heads kHeads[] = {{1, 2}, {3, 22}, {5, 16}, {2, 64}, {12, 128}, {40, 128}};

struct RotaryCase {
  int64_t tokens;
  Heads heads;
  Bf16Pair x;
  Tensor weight, cos, sin;

  RotaryCase(int64_t token_count, Heads h)
      : tokens(token_count),
        heads(h),
        x({token_count, h.heads, h.head_dim}, 1),
        weight(RandomFloats({h.heads * h.head_dim}, 2)),
        cos(RandomFloats({token_count, h.head_dim / 2}, 3)),
        sin(RandomFloats({token_count, h.head_dim / 2}, 4)) {}
  std::string Name() const {
    return std::to_string(heads.heads) + " heads of " + std::to_string(heads.head_dim);
  }
};

TEST_F(CudaOpsTest, RmsNormRope) {
  for (const Heads& heads : kHeads) {
    const RotaryCase c(33, heads);
    RmsNormRope(here(), c.x.f32, {.weight = c.weight, .cos = c.cos, .sin = c.sin, .eps = 1e-6f});
    const Tensor y = There(c.x.bf16), weight = There(c.weight), cos = There(c.cos);
    const Tensor sin = There(c.sin);
    RmsNormRope(there(), y, {.weight = weight, .cos = cos, .sin = sin, .eps = 1e-6f});
    ASSERT_EQ(FirstMismatch(Here(y), c.x.f32, Bf16Step(40)), "") << c.Name();
  }
}

TEST_F(CudaOpsTest, KeysAndValuesLieTokenByToken) {
  constexpr int64_t kFrames = 3, kTokens = 11;
  for (const Heads& heads : kHeads) {
    const RotaryCase c(kFrames * kTokens, heads);
    const Tensor x = There(c.x.bf16), weight = There(c.weight), cos = There(c.cos);
    const Tensor sin = There(c.sin);
    // Two of them one after the other, and room between that and the first.
    const int64_t slots[kFrames] = {3, 0, 1};
    const Shape storage{kFrames + 1, kTokens, heads.heads, heads.head_dim};
    const Tensor keys = Poisoned(DType::kBF16, storage), values = Poisoned(DType::kBF16, storage);
    std::vector<void*> key_frames, value_frames;
    for (const int64_t slot : slots) {
      key_frames.push_back(keys.view().Slice(slot, slot + 1).data);
      value_frames.push_back(values.view().Slice(slot, slot + 1).data);
    }
    const KvFrames kv{key_frames, value_frames, DType::kBF16};
    StoreKeys(there(), x, {.weight = weight, .cos = cos, .sin = sin, .eps = 1e-6f}, kv);
    StoreValues(there(), x, kv);
    const Tensor rotated = CopyOf(c.x.f32);
    RmsNormRope(here(), rotated, {.weight = c.weight, .cos = c.cos, .sin = c.sin, .eps = 1e-6f});
    for (int64_t f = 0; f < kFrames; ++f) {
      const int64_t begin = f * kTokens, end = begin + kTokens;
      const auto at = [&](const Tensor& x) {
        const Shape frame{kTokens, heads.heads, heads.head_dim};
        return Here(x.view().Slice(slots[f], slots[f] + 1).Reshape(frame));
      };
      ASSERT_EQ(FirstMismatch(at(keys), rotated.view().Slice(begin, end), Bf16Step(40)), "")
          << c.Name() << ", keys of frame " << f;
      ASSERT_EQ(FirstMismatch(at(values), c.x.f32.view().Slice(begin, end), {}), "")
          << c.Name() << ", values of frame " << f;
    }
  }
}

constexpr int64_t kCounts[] = {1, 7, 8, 9, 255, 2048, 4097, 1'000'003};

TEST_F(CudaOpsTest, AddAndMultiply) {
  for (int64_t count : kCounts) {
    const Bf16Pair a({count}, 1), b({count}, 2);
    const Tensor floats = RandomFloats({count}, 3), there_b = There(b.bf16);
    for (bool relu : {false, true}) {
      const Tensor want = CopyOf(a.f32), got = There(a.bf16);
      Add(here(), want, b.f32, relu);
      Add(there(), got, there_b, relu);
      ASSERT_EQ(FirstMismatch(Here(got), want, Bf16Step(4)), "") << count << ", relu " << relu;
    }
    const Tensor want_float = CopyOf(floats), got_float = There(floats);
    Add(here(), want_float, b.f32, /*relu=*/false, Output::kFloat);
    Add(there(), got_float, there_b);
    ASSERT_EQ(FirstMismatch(Here(got_float), want_float, FloatSums(4)), "") << count << ", F32";
    Add(here(), want_float, floats, /*relu=*/false, Output::kFloat);
    Add(there(), got_float, There(floats));
    ASSERT_EQ(FirstMismatch(Here(got_float), want_float, FloatSums(4)), "") << count << ", F32 2";
    const Tensor want = CopyOf(a.f32), got = There(a.bf16);
    Multiply(here(), want, b.f32);
    Multiply(there(), got, there_b);
    ASSERT_EQ(FirstMismatch(Here(got), want, Bf16Step(4)), "") << count << ", product";
  }
}

TEST_F(CudaOpsTest, CastIsExact) {
  for (int64_t count : kCounts) {
    const Tensor x = RandomFloats({count}, 1), want = CopyOf(x);
    for (int64_t i = 0; i < count; ++i) want.as<float>()[i] = RoundToBFloat16(want.as<float>()[i]);
    const Tensor narrow = Poisoned(DType::kBF16, {count}), wide = Poisoned(DType::kF32, {count});
    Cast(there(), There(x), narrow);
    Cast(there(), narrow, wide);
    ASSERT_EQ(FirstMismatch(Here(narrow), want, {}), "") << count;
    ASSERT_EQ(FirstMismatch(Here(wide), want, {}), "") << count;
  }
}

TEST_F(CudaOpsTest, ScaleBias) {
  for (int64_t width : kWidths)
    for (DType dtype : {DType::kBF16, DType::kF32}) {
      const Tensor x = RandomFloats({kRows, width}, 1), scale = RandomFloats({width}, 2);
      const Tensor bias = RandomFloats({width}, 3), want(DType::kF32, {kRows, width});
      const bool is_float = dtype == DType::kF32;
      ScaleBias(here(), x, scale, bias, want, is_float ? Output::kFloat : Output::kActivation);
      const Tensor y = Poisoned(dtype, {kRows, width});
      ScaleBias(there(), There(x), There(scale), There(bias), y);
      ASSERT_EQ(FirstMismatch(Here(y), want, is_float ? FloatSums(8) : Bf16Step(8)), "")
          << Of(width) << ", " << DTypeName(dtype);
    }
}

TEST_F(CudaOpsTest, Softmax) {
  for (int64_t width : {1, 5, 8, 100, 255, 2048, 2056, 6240, 14401})
    for (DType dtype : {DType::kBF16, DType::kF32})
      for (float scale : {0.5f, 20.0f}) {
        const Tensor x = RandomTensor(dtype, {2, 7, width}, 1), want = ToFloat32(x), y = There(x);
        const bool is_float = dtype == DType::kF32;
        Softmax(here(), want, scale, is_float ? Output::kFloat : Output::kActivation);
        Softmax(there(), y, scale);
        // exp of about 100 has an error of 1e-5.
        ASSERT_EQ(FirstMismatch(Here(y), want, {1e-6, is_float ? 1e-4 : 0x1p-7}), "")
            << Of(width) << ", " << DTypeName(dtype) << ", scale " << scale;
      }
}

TEST_F(CudaOpsTest, UpsampleNearest2x) {
  for (int64_t channels : {1, 7, 8, 96})
    for (DType dtype : {DType::kBF16, DType::kF32}) {
      const Tensor x = RandomTensor(dtype, {2, 3, 5, channels}, 1);
      const Tensor want(dtype, {2, 6, 10, channels});
      UpsampleNearest2x(here(), x, want);
      const Tensor y = Poisoned(dtype, {2, 6, 10, channels});
      UpsampleNearest2x(there(), There(x), y);
      ASSERT_EQ(FirstMismatch(Here(y), want, {}), "")
          << channels << " channels, " << DTypeName(dtype);
    }
}

TEST_F(CudaOpsTest, ClampAndToBytesGiveTheBitsOfTheCpu) {
  const std::vector<float> odd = {std::numeric_limits<float>::quiet_NaN(),
                                  std::numeric_limits<float>::infinity(),
                                  -std::numeric_limits<float>::infinity(), 3e38f, -0.0f};
  for (const int64_t count : {1, 7, 8, 9, 4099, 100'000})
    for (const auto& [low, high] : {std::pair{-1.0f, 1.0f}, {0.0f, 1.0f}}) {
      const Tensor x = RandomTensor(DType::kF32, {count}, 1, 1.3f);
      for (int64_t i = 0; i < count; i += 35)
        x.as<float>()[i] = odd[static_cast<size_t>(i / 35 % 5)];
      const Tensor want(DType::kU8, {count}), y = Poisoned(DType::kU8, {count});
      const Tensor there_x = There(x);
      ToBytes(here(), x, low, high, want);
      ToBytes(there(), there_x, low, high, y);
      EXPECT_EQ(std::memcmp(Here(y).view().data, want.view().data, static_cast<size_t>(count)), 0)
          << count;
      Clamp(here(), x, low, high);
      Clamp(there(), there_x, low, high);
      EXPECT_EQ(
          std::memcmp(Here(there_x).view().data, x.view().data, static_cast<size_t>(x.bytes())), 0)
          << count;
    }
}

TEST_F(CudaOpsTest, NoRows) {
  const Tensor act(DType::kBF16, {0, 16}, &backend()), floats(DType::kF32, {0, 16}, &backend());
  const Tensor weight = There(RandomFloats({16}, 1));
  RmsNorm(there(), act, weight, 1e-6f, act);
  LayerNorm(there(), floats, weight, weight, 1e-6f, act);
  Add(there(), act, act);
  Cast(there(), floats, act);
  Softmax(there(), floats, 1);
  backend().Synchronize();
}

}  // namespace
}  // namespace mrt::ops
