// The row-wise kernels, once for every instruction set: MRT_ISA names the namespace. The vectors
// are the compiler's own (GCC and Clang vector extensions), as wide as the instruction set has
// them.
//
// Compiled with flags of its own, this file must not leave a weak symbol behind (the linker could
// keep the AVX-512 copy for everyone): all helpers are in the anonymous namespace, and nothing
// inline from another header is called.
#include "kernels/rowwise/rowwise.h"

namespace mrt::MRT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;

// 1.5 * 2^23: adding it leaves no fraction bits, and the integer in the low bits.
constexpr float kRoundToInteger = 12582912.0f;

// Channels that rotary embedding treats at once.
constexpr int64_t kRopeChunk = 64;
static_assert(kRopeChunk % kLanes == 0);

using Vec = float __attribute__((vector_size(kVectorBytes)));
using IntVec = int32_t __attribute__((vector_size(kVectorBytes)));
using UintVec = uint32_t __attribute__((vector_size(kVectorBytes)));
using LongVec = uint64_t __attribute__((vector_size(kVectorBytes)));
using HalfWords = uint16_t __attribute__((vector_size(kVectorBytes / 2)));
using Bytes = uint8_t __attribute__((vector_size(kLanes)));

/// How many elements a step touches: all lanes, or the rest of a row.
struct Full {};
struct Part {
  int64_t count;  // 1 .. kLanes - 1
};

Vec Splat(float x) { return x - Vec{}; }

// Storage: bfloat16 is the upper half of a float.

struct F32 {
  using Element = float;
  static Vec Load(const float* p, Full) {
    Vec v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
  }
  static void Store(float* p, Vec v, Full) { __builtin_memcpy(p, &v, sizeof(v)); }
};

struct BF16 {
  using Element = uint16_t;
  static Vec Load(const uint16_t* p, Full) {
    HalfWords h;
    __builtin_memcpy(&h, p, sizeof(h));
    return (Vec)(__builtin_convertvector(h, UintVec) << 16);
  }
  static UintVec Round(Vec v) {
    const UintVec u = (UintVec)v;
    const UintVec nearest_even = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const UintVec quiet_nan = (u >> 16) | 0x40u;
    return (u & 0x7fffffffu) > 0x7f800000u ? quiet_nan : nearest_even;
  }
  static void Store(uint16_t* p, Vec v, Full) {
    const HalfWords h = __builtin_convertvector(Round(v), HalfWords);
    __builtin_memcpy(p, &h, sizeof(h));
  }
};

// The rest of a row goes through a full vector, so every formula below is written once.

template <class S>
Vec Load(const typename S::Element* p, Full full) {
  return S::Load(p, full);
}
template <class S>
Vec Load(const typename S::Element* p, Part part) {
  typename S::Element lanes[kLanes] = {};
  for (int64_t i = 0; i < part.count; ++i) lanes[i] = p[i];
  return S::Load(lanes, Full());
}
template <class S>
void Store(typename S::Element* p, Vec v, Full full) {
  S::Store(p, v, full);
}
template <class S>
void Store(typename S::Element* p, Vec v, Part part) {
  typename S::Element lanes[kLanes];
  S::Store(lanes, v, Full());
  for (int64_t i = 0; i < part.count; ++i) p[i] = lanes[i];
}

/// Calls step(column, Full or Part) along a row.
template <class Step>
void ForColumns(int64_t width, Step step) {
  int64_t c = 0;
  for (; c + kLanes <= width; c += kLanes) step(c, Full());
  if (c < width) step(c, Part{width - c});
}

Vec KeepLanes(Vec v, Full, float) { return v; }
Vec KeepLanes(Vec v, Part part, float otherwise) {
  for (int i = 0; i < kLanes; ++i)
    if (i >= part.count) v[i] = otherwise;
  return v;
}

/// As a tree: a chain of log2(lanes) additions, not of as many as lanes.
float SumLanes(Vec v) {
  float lanes[kLanes];
  __builtin_memcpy(lanes, &v, sizeof(v));
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}
float MaxLanes(Vec v) {
  float max = v[0];
  for (int i = 1; i < kLanes; ++i) max = v[i] > max ? v[i] : max;
  return max;
}

/// Sum over a row of term(column, Full or Part). Four accumulators hide the latency of the
/// addition.
template <class Term>
float SumColumns(int64_t width, Term term) {
  Vec sum0 = {}, sum1 = {}, sum2 = {}, sum3 = {};
  int64_t c = 0;
  for (; c + 4 * kLanes <= width; c += 4 * kLanes) {
    sum0 += term(c, Full());
    sum1 += term(c + kLanes, Full());
    sum2 += term(c + 2 * kLanes, Full());
    sum3 += term(c + 3 * kLanes, Full());
  }
  for (; c + kLanes <= width; c += kLanes) sum0 += term(c, Full());
  if (c < width) sum1 += KeepLanes(term(c, Part{width - c}), Part{width - c}, 0.0f);
  return SumLanes((sum0 + sum1) + (sum2 + sum3));
}

/// exp(x), relative error below 3e-7; x is clamped to where the result is a normal number.
Vec Exp(Vec x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLog2ELow = 1.925963033e-8f;  // what float32 cuts off log2(e)
  const Vec low = Splat(-87.0f), high = Splat(88.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vec shifted = x * kLog2E + kRoundToInteger;
  const Vec r = x * kLog2ELow + (x * kLog2E - (shifted - kRoundToInteger));  // -0.5 .. 0.5
  // 2^r: the polynomial of degree 5 with the least relative error, 9.2e-8.
  Vec p = r * 0.00132647f + 0.00967151f;
  p = p * r + 0.05550734f;
  p = p * r + 0.24022242f;
  p = p * r + 0.69314698f;
  p = p * r + 1.0f;
  // The low bits of `shifted` become the exponent; those of kRoundToInteger are shifted out.
  return (Vec)((UintVec)p + ((UintVec)shifted << 23));
}

Vec Silu(Vec x) { return x / (1.0f + Exp(-x)); }

Vec GeluTanh(Vec x) {
  constexpr float kTwiceRootTwoOverPi = 1.59576912f;  // 1 + tanh(u / 2) = 2 / (1 + exp(-u))
  return x / (1.0f + Exp(x * -kTwiceRootTwoOverPi * (x * x * 0.044715f + 1.0f)));
}

Vec Relu(Vec x) { return x < 0.0f ? Vec{} : x; }

template <class S>
const typename S::Element* Row(const RowsIn& x, int64_t row, int64_t width) {
  return static_cast<const typename S::Element*>(x.data) + row * width;
}
template <class S>
typename S::Element* Row(const RowsOut& x, int64_t row, int64_t width) {
  return static_cast<typename S::Element*>(x.data) + row * width;
}

/// Calls body(X(), Y()) with the storage types of x and y.
template <class Body>
void WithStorage(StorageType x, Body body) {
  if (x == StorageType::kF32) return body(F32());
  body(BF16());
}
template <class Body>
void WithStorage(StorageType x, StorageType y, Body body) {
  WithStorage(x, [&](auto x_storage) {
    WithStorage(y, [&](auto y_storage) { body(x_storage, y_storage); });
  });
}

template <class X, class Y>
void LayerNormRows(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  for (int64_t row = begin; row < end; ++row) {
    const auto* x = Row<X>(args.x, row, width);
    auto* y = Row<Y>(args.y, row, width);
    const float* scale = args.scale + row / args.rows_per_group * width;
    const float* shift = args.shift + row / args.rows_per_group * width;
    const auto value = [&](int64_t c, auto n) { return Load<X>(x + c, n); };
    const float mean = SumColumns(width, value) / static_cast<float>(width);
    const float sum_sq = SumColumns(width, [&](int64_t c, auto n) {
      const Vec d = Load<X>(x + c, n) - mean;
      return d * d;
    });
    const float inverse = 1.0f / __builtin_sqrtf(sum_sq / static_cast<float>(width) + args.eps);
    ForColumns(width, [&](int64_t c, auto n) {
      const Vec normal = (Load<X>(x + c, n) - mean) * inverse;
      Store<Y>(y + c,
               normal * (Load<F32>(scale + c, n) + args.scale_offset) + Load<F32>(shift + c, n), n);
    });
  }
}

/// 1 / sqrt(mean(x^2) + eps)
template <class X>
float InverseRms(const typename X::Element* x, int64_t width, float eps) {
  const float sum_sq = SumColumns(width, [&](int64_t c, auto n) {
    const Vec v = Load<X>(x + c, n);
    return v * v;
  });
  return 1.0f / __builtin_sqrtf(sum_sq / static_cast<float>(width) + eps);
}

template <class X, class Y>
void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  for (int64_t row = begin; row < end; ++row) {
    const auto* x = Row<X>(args.x, row, width);
    auto* y = Row<Y>(args.y, row, width);
    const float inverse = InverseRms<X>(x, width, args.eps);
    ForColumns(width, [&](int64_t c, auto n) {
      Store<Y>(y + c, Load<X>(x + c, n) * inverse * Load<F32>(args.weight + c, n), n);
    });
  }
}

template <class X, class Y>
void ChannelNormRows(const ChannelNormArgs& args, int64_t begin, int64_t end) {
  constexpr float kNormMin = 1e-12f;
  const int64_t width = args.width;
  for (int64_t row = begin; row < end; ++row) {
    const auto* x = Row<X>(args.x, row, width);
    auto* y = Row<Y>(args.y, row, width);
    const float norm = __builtin_sqrtf(SumColumns(width, [&](int64_t c, auto n) {
      const Vec v = Load<X>(x + c, n);
      return v * v;
    }));
    const float factor =
        __builtin_sqrtf(static_cast<float>(width)) / (norm > kNormMin ? norm : kNormMin);
    if (args.silu) {
      ForColumns(width, [&](int64_t c, auto n) {
        Store<Y>(y + c, Silu(Load<X>(x + c, n) * factor * Load<F32>(args.gamma + c, n)), n);
      });
    } else {
      ForColumns(width, [&](int64_t c, auto n) {
        Store<Y>(y + c, Load<X>(x + c, n) * factor * Load<F32>(args.gamma + c, n), n);
      });
    }
  }
}

void LayerNorm(const LayerNormArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage, args.y.storage,
              [&](auto x, auto y) { LayerNormRows<decltype(x), decltype(y)>(args, begin, end); });
}

void RmsNorm(const RmsNormArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage, args.y.storage,
              [&](auto x, auto y) { RmsNormRows<decltype(x), decltype(y)>(args, begin, end); });
}

void ChannelNorm(const ChannelNormArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage, args.y.storage,
              [&](auto x, auto y) { ChannelNormRows<decltype(x), decltype(y)>(args, begin, end); });
}

void AddGated(const AddGatedArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    float* x = args.x + row * args.width;
    const float* y = args.y + row * args.width;
    ForColumns(args.width, [&](int64_t c, auto n) {
      Store<F32>(x + c, Load<F32>(x + c, n) + Load<F32>(args.gate + c, n) * Load<F32>(y + c, n), n);
    });
  }
}

/// x = op(x, y). The rows of both are one run of memory.
template <class Op>
void ForPairs(const BinaryArgs& args, int64_t begin, int64_t end, Op op) {
  WithStorage(args.x.storage, args.y.storage, [&](auto x_storage, auto y_storage) {
    using X = decltype(x_storage);
    using Y = decltype(y_storage);
    auto* x = Row<X>(args.x, begin, args.width);
    const auto* y = Row<Y>(args.y, begin, args.width);
    ForColumns((end - begin) * args.width, [&](int64_t c, auto n) {
      Store<X>(x + c, op(Load<X>(x + c, n), Load<Y>(y + c, n)), n);
    });
  });
}

void Add(const BinaryArgs& args, int64_t begin, int64_t end) {
  ForPairs(args, begin, end, [](Vec x, Vec y) { return x + y; });
}

void AddRelu(const BinaryArgs& args, int64_t begin, int64_t end) {
  ForPairs(args, begin, end, [](Vec x, Vec y) { return Relu(x + y); });
}

void Multiply(const BinaryArgs& args, int64_t begin, int64_t end) {
  ForPairs(args, begin, end, [](Vec x, Vec y) { return x * y; });
}

void ScaleBias(const ScaleBiasArgs& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  WithStorage(args.x.storage, args.y.storage, [&](auto x_storage, auto y_storage) {
    using X = decltype(x_storage);
    using Y = decltype(y_storage);
    for (int64_t row = begin; row < end; ++row) {
      const auto* x = Row<X>(args.x, row, width);
      auto* y = Row<Y>(args.y, row, width);
      ForColumns(width, [&](int64_t c, auto n) {
        Store<Y>(y + c,
                 Load<X>(x + c, n) * Load<F32>(args.scale + c, n) + Load<F32>(args.bias + c, n), n);
      });
    }
  });
}

/// One token, channels [d, d + count) of every head. The angles are spread over the pairs once.
template <class X, class Y>
void NormRopeChannels(const RmsNormRopeArgs& args, float inverse, int64_t token, int64_t d,
                      int64_t count) {
  float cos_both[kRopeChunk], sin_signed[kRopeChunk];  // (cos, cos), (-sin, sin) for each pair
  const float* cos = args.cos + token * (args.head_dim / 2) + d / 2;
  const float* sin = args.sin + token * (args.head_dim / 2) + d / 2;
  for (int64_t i = 0; i < count / 2; ++i) {
    cos_both[2 * i] = cos_both[2 * i + 1] = cos[i];
    sin_signed[2 * i] = -sin[i];
    sin_signed[2 * i + 1] = sin[i];
  }
  const auto* x = Row<X>(args.x, token * args.heads, args.head_dim) + d;
  auto* y = Row<Y>(args.y, token, args.y_strides.token) + d;
  const float* weight = args.weight + d;
  for (int64_t head = 0; head < args.heads; ++head) {
    ForColumns(count, [&](int64_t c, auto n) {
      const Vec v = Load<X>(x + c, n) * inverse * Load<F32>(weight + c, n);
      const LongVec pairs = (LongVec)v;
      const Vec swapped = (Vec)((pairs << 32) | (pairs >> 32));  // (v1, v0)
      Store<Y>(y + c, v * Load<F32>(cos_both + c, n) + swapped * Load<F32>(sin_signed + c, n), n);
    });
    x += args.head_dim;
    y += args.y_strides.head;
    weight += args.head_dim;
  }
}

void RmsNormRope(const RmsNormRopeArgs& args, int64_t begin, int64_t end) {
  const int64_t width = args.heads * args.head_dim;
  WithStorage(args.x.storage, args.y.storage, [&](auto x_storage, auto y_storage) {
    using X = decltype(x_storage);
    for (int64_t token = begin; token < end; ++token) {
      const float inverse = InverseRms<X>(Row<X>(args.x, token, width), width, args.eps);
      for (int64_t d = 0; d < args.head_dim; d += kRopeChunk) {
        const int64_t left = args.head_dim - d;
        NormRopeChannels<X, decltype(y_storage)>(args, inverse, token, d,
                                                 left < kRopeChunk ? left : kRopeChunk);
      }
    }
  });
}

void MoveTokens(const MoveTokensArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage, args.y.storage, [&](auto x_storage, auto y_storage) {
    using X = decltype(x_storage);
    using Y = decltype(y_storage);
    for (int64_t token = begin; token < end; ++token)
      for (int64_t head = 0; head < args.heads; ++head) {
        const auto* x = Row<X>(args.x, token * args.heads + head, args.head_dim);
        auto* y = Row<Y>(args.y, token, args.y_strides.token) + head * args.y_strides.head;
        ForColumns(args.head_dim,
                   [&](int64_t c, auto n) { Store<Y>(y + c, Load<X>(x + c, n), n); });
      }
  });
}

/// The exponentials are computed twice: storing them unnormalised would round them once more.
template <class X>
void SoftmaxRows(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  for (int64_t row = begin; row < end; ++row) {
    auto* x = Row<X>(args.x, row, width);
    Vec maxima = Splat(-__builtin_inff());
    ForColumns(width, [&](int64_t c, auto n) {
      const Vec v = KeepLanes(Load<X>(x + c, n) * args.scale, n, -__builtin_inff());
      maxima = v > maxima ? v : maxima;
    });
    const float max = MaxLanes(maxima);
    const auto power = [&](int64_t c, auto n) { return Exp(Load<X>(x + c, n) * args.scale - max); };
    const float inverse = 1.0f / SumColumns(width, power);
    ForColumns(width, [&](int64_t c, auto n) { Store<X>(x + c, power(c, n) * inverse, n); });
  }
}

void Softmax(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage,
              [&](auto storage) { SoftmaxRows<decltype(storage)>(args, begin, end); });
}

void Cast(const CastArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage, args.y.storage, [&](auto x_storage, auto y_storage) {
    const auto* x = Row<decltype(x_storage)>(args.x, begin, args.width);
    auto* y = Row<decltype(y_storage)>(args.y, begin, args.width);
    ForColumns((end - begin) * args.width, [&](int64_t c, auto n) {
      Store<decltype(y_storage)>(y + c, Load<decltype(x_storage)>(x + c, n), n);
    });
  });
}

void Round(const RoundArgs& args, int64_t begin, int64_t end) {
  float* x = args.x + begin * args.width;
  ForColumns((end - begin) * args.width, [&](int64_t c, auto n) {
    Store<F32>(x + c, (Vec)(BF16::Round(Load<F32>(x + c, n)) << 16), n);
  });
}

/// Whole numbers below 2^22 as integers.
UintVec ToIntegers(Vec x) { return (UintVec)(x + kRoundToInteger) & 0x3fffffu; }

void StoreBytes(uint8_t* to, UintVec x, Full) {
  const Bytes bytes = __builtin_convertvector(x, Bytes);
  __builtin_memcpy(to, &bytes, sizeof(bytes));
}
void StoreBytes(uint8_t* to, UintVec x, Part part) {
  for (int64_t i = 0; i < part.count; ++i) to[i] = (uint8_t)x[i];
}

struct Extent {
  float min, max;  // of a row and 0
  bool finite;
};

template <class X>
Extent ExtentOf(const typename X::Element* x, int64_t width) {
  Vec min = {}, max = {};
  UintVec magnitude = {};  // as bits: their order is that of the numbers, NaN above infinity
  ForColumns(width, [&](int64_t c, auto n) {
    const Vec v = Load<X>(x + c, n);
    min = v < min ? v : min;
    max = v > max ? v : max;
    const UintVec bits = (UintVec)v & 0x7fffffffu;
    magnitude = bits > magnitude ? bits : magnitude;
  });
  uint32_t largest = 0;
  for (int i = 0; i < kLanes; ++i) largest = magnitude[i] > largest ? magnitude[i] : largest;
  return {-MaxLanes(-min), MaxLanes(max), largest < 0x7f800000u};
}

/// Finds scale and zero of a row. False if it has none: then they are set for a row of zeros or
/// NaN.
bool FindScale(const QuantizeArgs& args, int64_t row, const Extent& extent) {
  constexpr float kTooSmall = 0x1p-100f;  // well above where 1 / scale is infinite
  // Divided first: the difference of the largest numbers is infinite.
  const auto steps = (float)args.steps;
  const float scale = extent.max / steps - extent.min / steps;
  const bool usable = extent.finite && scale >= kTooSmall;
  const float zero = (-extent.min * (1.0f / scale) + kRoundToInteger) - kRoundToInteger;
  args.scale[row] = usable ? scale : extent.finite ? 0.0f : __builtin_nanf("");
  args.zero[row] = usable ? (int32_t)zero : 0;
  return usable;
}

template <class X>
void QuantizeRows(const QuantizeArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const auto* x = Row<X>(args.x, row, args.width);
    uint8_t* q = args.q + row * args.width;
    uint8_t* low = args.q_low != nullptr ? args.q_low + row * args.width : nullptr;
    if (!FindScale(args, row, ExtentOf<X>(x, args.width))) {
      __builtin_memset(q, 0, (size_t)args.width);
      if (low != nullptr) __builtin_memset(low, 0, (size_t)args.width);
      continue;
    }
    const float inverse = 1.0f / args.scale[row];
    const auto zero = (float)args.zero[row];
    // Rounded before the zero is added: ties then go to even numbers of scales.
    const auto value = [&](int64_t c, auto n) {
      const Vec scales = (Load<X>(x + c, n) * inverse + kRoundToInteger) - kRoundToInteger;
      return ToIntegers(scales + zero);
    };
    if (low == nullptr) {
      ForColumns(args.width, [&](int64_t c, auto n) { StoreBytes(q + c, value(c, n), n); });
      continue;
    }
    ForColumns(args.width, [&](int64_t c, auto n) {
      const UintVec v = value(c, n);
      StoreBytes(q + c, v / (uint32_t)kDigitBase, n);
      StoreBytes(low + c, v % (uint32_t)kDigitBase, n);
    });
  }
}

void Quantize(const QuantizeArgs& args, int64_t begin, int64_t end) {
  WithStorage(args.x.storage,
              [&](auto storage) { QuantizeRows<decltype(storage)>(args, begin, end); });
}

IntVec LoadInts(const int32_t* p, Full) {
  IntVec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
IntVec LoadInts(const int32_t* p, Part part) {
  IntVec v = {};
  for (int64_t i = 0; i < part.count; ++i) v[i] = p[i];
  return v;
}

/// Calls finish(y, column, Full or Part, value) for all of the rows.
template <class Y, class Finish>
void DequantizeRows(const DequantizeArgs& args, int64_t begin, int64_t end, Finish finish) {
  for (int64_t row = begin; row < end; ++row) {
    const int32_t* sum = args.sum + row * args.width;
    auto* y = Row<Y>(args.y, row, args.width);
    const float row_scale = args.row_scale[row];
    const auto store = [&](int64_t c, auto n, Vec exact) {
      const Vec scaled = exact * Load<F32>(args.scale + c, n) * row_scale;
      finish(y, c, n, scaled + Load<F32>(args.bias + c, n));
    };
    // Each digit on its own fits an int32, and what is left of it is exact or nearly so as float.
    const auto digit = [&](const int32_t* sums, int32_t zero, int64_t c, auto n) {
      return __builtin_convertvector(
          LoadInts(sums + c, n) - LoadInts(args.weight_sum + c, n) * zero, Vec);
    };
    const int32_t zero = args.zero[row];
    if (args.sum_low == nullptr) {
      ForColumns(args.width, [&](int64_t c, auto n) { store(c, n, digit(sum, zero, c, n)); });
      continue;
    }
    const int32_t* low = args.sum_low + row * args.width;
    ForColumns(args.width, [&](int64_t c, auto n) {
      store(c, n,
            digit(sum, zero / kDigitBase, c, n) * (float)kDigitBase +
                digit(low, zero % kDigitBase, c, n));
    });
  }
}

void DequantizeAndAdd(const DequantizeArgs& args, int64_t begin, int64_t end) {
  if (args.gate == nullptr)
    return DequantizeRows<F32>(args, begin, end, [](float* y, int64_t c, auto n, Vec x) {
      Store<F32>(y + c, Load<F32>(y + c, n) + x, n);
    });
  DequantizeRows<F32>(args, begin, end, [&](float* y, int64_t c, auto n, Vec x) {
    Store<F32>(y + c, Load<F32>(y + c, n) + Load<F32>(args.gate + c, n) * x, n);
  });
}

void Dequantize(const DequantizeArgs& args, int64_t begin, int64_t end) {
  if (args.add) return DequantizeAndAdd(args, begin, end);
  WithStorage(args.y.storage, [&](auto storage) {
    using Y = decltype(storage);
    const auto store = [&](auto epilogue) {
      DequantizeRows<Y>(args, begin, end, [&](auto* y, int64_t c, auto n, Vec x) {
        Store<Y>(y + c, epilogue(x), n);
      });
    };
    switch (args.epilogue) {
      case Epilogue::kNone: return store([](Vec x) { return x; });
      case Epilogue::kGeluTanh: return store(GeluTanh);
      case Epilogue::kSilu: return store(Silu);
      case Epilogue::kRelu: return store(Relu);
    }
  });
}

}  // namespace

extern const RowwiseKernels kRowwiseKernels;
const RowwiseKernels kRowwiseKernels = {
    .layer_norm = LayerNorm,
    .rms_norm = RmsNorm,
    .channel_norm = ChannelNorm,
    .add_gated = AddGated,
    .add = Add,
    .add_relu = AddRelu,
    .multiply = Multiply,
    .scale_bias = ScaleBias,
    .rms_norm_rope = RmsNormRope,
    .move_tokens = MoveTokens,
    .softmax = Softmax,
    .cast = Cast,
    .round = Round,
    .quantize = Quantize,
    .dequantize = Dequantize,
};

}  // namespace mrt::MRT_ISA
