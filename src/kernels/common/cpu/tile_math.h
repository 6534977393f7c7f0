// What the portable attention kernels are made of: small matrix products and a softmax over the
// rows of a block, in float32, with no masks and no tails.
//
// Queries lie transposed ([channel, query], both padded), so that a block of scores has
// one query per vector lane: maxima, sums and exponentials go lane by lane, and keys need no
// padding. Everything here has internal linkage, because it is compiled once per instruction set.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/storage_type.h"

namespace mrt::MRT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
// 6 x 4 accumulators, 4 vectors of b and one of a: 29 of 32 registers.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 4;
#else
#if defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
// 6 x 2 accumulators, 2 vectors of b and one of a: 15 of 16 registers.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;
#endif

constexpr float kLog2e = 1.4426950408889634f;

using Vec = float __attribute__((vector_size(kLanes * sizeof(float))));
using IntVec = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));

inline Vec Load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

inline void Store(Vec v, float* p) { __builtin_memcpy(p, &v, sizeof(v)); }

inline Vec Splat(float x) { return x - Vec{}; }

inline Vec Max(Vec x, Vec y) { return x > y ? x : y; }

/// 2^x with a relative error of 1.7e-7, and exact for integers: a running sum is multiplied by 2^0
/// for every block that brings no new maximum, so an error there would grow with their number. 0
/// below 2^-126. NaN stays NaN. x must be below 128.
inline Vec Exp2(Vec x) {
  // x = n + f, |f| <= 1/2: adding 3 * 2^22 rounds to an integer, whose low bits then hold n + 127.
  constexpr float kRound = 0x1.8p23f + 127;
  const Vec rounded = x + kRound;
  const Vec f = x - (rounded - kRound);
  // The polynomial of degree 5 with p(0) = 1 of least relative error: 9.2e-8 before rounding.
  Vec p = f * 0.00132647f + 0.00967151f;
  p = p * f + 0.05550734f;
  p = p * f + 0.24022242f;
  p = p * f + 0.69314698f;
  p = p * f + 1.0f;
  const Vec power = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(rounded) << 23);
  return x < -126.0f ? Vec{} : p * power;
}

/// c [rows, cols] = a [rows, depth] * b [depth, cols]; cols must be a multiple of kLanes.
struct Product {
  int64_t rows;
  int64_t cols;
  int64_t depth;
  const float* a;  // [rows, depth], or [depth, rows] for MultiplyTransposed
  int64_t a_stride;
  const float* b;
  int64_t b_stride;
  float* c;
  int64_t c_stride;
  // Not null: c = keep[row * keep_stride] * c + a * b.
  const float* keep = nullptr;
  int64_t keep_stride = 1;
};

template <int kRows, int kVectors, bool kTransposed>
inline void MultiplyTile(const Product& m, int64_t row, int64_t col) {
  const float* a = m.a + row * (kTransposed ? 1 : m.a_stride);
  const float* b = m.b + col;
  Vec sum[kRows][kVectors] = {};
  for (int64_t k = 0; k < m.depth; ++k) {
    Vec b_k[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) b_k[v] = Load(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec a_rk = Splat(kTransposed ? a[r] : a[r * m.a_stride]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] += a_rk * b_k[v];
    }
    a += kTransposed ? m.a_stride : 1;
    b += m.b_stride;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* c = m.c + (row + r) * m.c_stride + col;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Vec kept = m.keep ? m.keep[(row + r) * m.keep_stride] * Load(c + v * kLanes) : Vec{};
      Store(kept + sum[r][v], c + v * kLanes);
    }
  }
}

// All rows of kVectors vectors of columns, the last ones in a tile of fewer rows. With one vector
// more than a tile has, the tiles are as much lower.
template <int kVectors, bool kTransposed>
inline void MultiplyColumns(const Product& m, int64_t col) {
  constexpr int kRows =
      kTileRows * kTileVectors / (kVectors > kTileVectors ? kVectors : kTileVectors);
  int64_t row = 0;
  for (; row + kRows <= m.rows; row += kRows)
    MultiplyTile<kRows, kVectors, kTransposed>(m, row, col);
  switch (m.rows - row) {
    case 5: return MultiplyTile<5, kVectors, kTransposed>(m, row, col);
    case 4: return MultiplyTile<4, kVectors, kTransposed>(m, row, col);
    case 3: return MultiplyTile<3, kVectors, kTransposed>(m, row, col);
    case 2: return MultiplyTile<2, kVectors, kTransposed>(m, row, col);
    case 1: return MultiplyTile<1, kVectors, kTransposed>(m, row, col);
    default: return;
  }
  static_assert(kTileRows == 6);
}

template <bool kTransposed>
inline void MultiplyAny(const Product& m) {
  constexpr int64_t kTileCols = kTileVectors * kLanes;
  // One vector alone would wait for its own sums: it goes with the tile before it.
  constexpr int64_t kLast = kTileVectors == 2 ? 3 * kLanes : 0;
  int64_t col = 0;
  for (; col + kTileCols <= m.cols && m.cols - col != kLast; col += kTileCols)
    MultiplyColumns<kTileVectors, kTransposed>(m, col);
  const int64_t vectors = (m.cols - col) / kLanes;
  if (vectors == 3) return MultiplyColumns<3, kTransposed>(m, col);
  if constexpr (kTileVectors > 2)
    if (vectors == 2) return MultiplyColumns<2, kTransposed>(m, col);
  if (vectors == 1) MultiplyColumns<1, kTransposed>(m, col);
}

/// c = a * b.
inline void Multiply(const Product& m) { MultiplyAny<false>(m); }

/// c = transpose of a * b.
inline void MultiplyTransposed(const Product& m) { MultiplyAny<true>(m); }

// The running maximum before the first block. Finite, so that scores of -infinity alone give sums
// of 0 and not NaN.
constexpr float kNoMaximum = -FLT_MAX;

/// A softmax over the rows of many blocks, one query per column: [cols] each.
struct RunningSoftmax {
  float* max;   // kNoMaximum before the first block
  float* sum;   // 0 before the first block
  float* keep;  // out: what the sums of the blocks before must be multiplied by
};

/// x [rows, cols] (base 2) becomes 2^(x - max), with the running maximum.
inline void UpdateSoftmax(int64_t rows, int64_t cols, float* x, int64_t x_stride,
                          const RunningSoftmax& state) {
  for (int64_t col = 0; col < cols; col += kLanes) {
    float* x_col = x + col;
    const Vec max_before = Load(state.max + col);
    Vec max = max_before;
    for (int64_t row = 0; row < rows; ++row) max = Max(Load(x_col + row * x_stride), max);
    const Vec keep = Exp2(max_before - max);
    Vec sum = keep * Load(state.sum + col);
    for (int64_t row = 0; row < rows; ++row) {
      const Vec p = Exp2(Load(x_col + row * x_stride) - max);
      sum += p;
      Store(p, x_col + row * x_stride);
    }
    Store(max, state.max + col);
    Store(sum, state.sum + col);
    Store(keep, state.keep + col);
  }
}

template <int kStep, int... kLane>
inline Vec InterleaveLow(Vec x, Vec y, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(x, y, (kLane & kStep ? kLanes + kLane - kStep : kLane)...);
}

template <int kStep, int... kLane>
inline Vec InterleaveHigh(Vec x, Vec y, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(x, y, (kLane & kStep ? kLanes + kLane : kLane + kStep)...);
}

/// Rows whose numbers differ by kStep change places with lanes whose numbers differ by it; all
/// steps together transpose.
template <int kStep>
inline void TransposeLanes(Vec (&x)[kLanes]) {
  constexpr std::make_integer_sequence<int, kLanes> kAll;
#pragma GCC unroll 16
  for (int row = 0; row < kLanes; ++row) {
    if (row & kStep) continue;
    const Vec low = InterleaveLow<kStep>(x[row], x[row + kStep], kAll);
    x[row + kStep] = InterleaveHigh<kStep>(x[row], x[row + kStep], kAll);
    x[row] = low;
  }
  if constexpr (2 * kStep < kLanes) TransposeLanes<2 * kStep>(x);
}

/// to [cols, rows rounded up to kLanes] = factor * transpose of from [rows, cols], with zeros in
/// what was added; cols must be a multiple of kLanes.
inline void Transpose(int64_t rows, int64_t cols, float factor, const float* from,
                      int64_t from_stride, float* to, int64_t to_stride) {
  for (int64_t row = 0; row < rows; row += kLanes)
    for (int64_t col = 0; col < cols; col += kLanes) {
      Vec x[kLanes];
#pragma GCC unroll 16
      for (int64_t lane = 0; lane < kLanes; ++lane)
        x[lane] =
            row + lane < rows ? factor * Load(from + (row + lane) * from_stride + col) : Vec{};
      TransposeLanes<1>(x);
#pragma GCC unroll 16
      for (int64_t lane = 0; lane < kLanes; ++lane)
        Store(x[lane], to + (col + lane) * to_stride + row);
    }
}

inline int64_t Least(int64_t x, int64_t y) { return x < y ? x : y; }

inline void Fill(float* x, int64_t count, float value) {
  for (int64_t i = 0; i < count; ++i) x[i] = value;
}

inline float FromBits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}

inline uint32_t ToBits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}

/// Elements [first, first + count) of a stored tensor as floats.
inline void LoadFloats(const void* data, StorageType type, int64_t first, int64_t count,
                       float* __restrict__ to) {
  if (type == StorageType::kF32) {
    __builtin_memcpy(to, static_cast<const float*>(data) + first,
                     static_cast<size_t>(count) * sizeof(float));
    return;
  }
  const uint16_t* from = static_cast<const uint16_t*>(data) + first;
  for (int64_t i = 0; i < count; ++i) to[i] = FromBits(uint32_t{from[i]} << 16);
}

/// Stores factor * x; bfloat16 is rounded to nearest, ties to even, and NaN stays NaN.
inline void StoreFloats(const float* __restrict__ x, float factor, int64_t count, void* data,
                        StorageType type, int64_t first) {
  if (type == StorageType::kF32) {
    float* to = static_cast<float*>(data) + first;
    for (int64_t i = 0; i < count; ++i) to[i] = factor * x[i];
    return;
  }
  uint16_t* to = static_cast<uint16_t*>(data) + first;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = ToBits(factor * x[i]);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to[i] = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : rounded);
  }
}

}  // namespace
}  // namespace mrt::MRT_ISA
