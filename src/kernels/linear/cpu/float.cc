// A float32 Linear: products of a block of rows with panels of the weight, then what follows them.
#include "kernels/linear/cpu/float.h"

#include "kernels/common/cpu/tile_math.h"

namespace mrt::MRT_ISA {
namespace {

constexpr int kPanelVectors = kFloatPanel / kLanes;

// 1 + tanh(u / 2) = 2 / (1 + exp(-u)), and Exp2 takes at most 127.
Vec Logistic(Vec minus_u_base_2) {
  const Vec most = Splat(126.0f);
  return 1.0f / (1.0f + Exp2(minus_u_base_2 > most ? most : minus_u_base_2));
}

Vec Silu(Vec x) { return x * Logistic(x * -kLog2e); }

Vec GeluTanh(Vec x) {
  constexpr float kTwiceRootTwoOverPi = 1.59576912f;
  return x * Logistic(x * (-kTwiceRootTwoOverPi * kLog2e) * (x * x * 0.044715f + 1.0f));
}

Vec Relu(Vec x) { return x < 0.0f ? Vec{} : x; }

// Calls store(y, column, sum + bias) for every vector of the task.
template <typename Body>
void ForEachVector(const LinearArgs& args, const FloatLinearTask& t, Body store) {
  for (int64_t row = 0; row < t.rows; ++row) {
    float* const y = static_cast<float*>(args.y.data) + (t.first_row + row) * args.out;
    for (int64_t at = 0; at < t.cols; at += kFloatPanel) {
      const float* const sums = t.sums + at * t.rows + row * kFloatPanel;
#pragma GCC unroll 4
      for (int v = 0; v < kPanelVectors; ++v) {
        const int64_t col = t.first_col + at + v * kLanes;
        store(y + col, col, Load(sums + v * kLanes) + Load(args.bias + col));
      }
    }
  }
}

void StoreResults(const LinearArgs& args, const FloatLinearTask& t) {
  if (args.add && args.gate != nullptr)
    return ForEachVector(args, t, [&](float* y, int64_t col, Vec x) {
      Store(Load(y) + Load(args.gate + col) * x, y);
    });
  if (args.add)
    return ForEachVector(args, t, [](float* y, int64_t, Vec x) { Store(Load(y) + x, y); });
  switch (args.epilogue) {
    case Epilogue::kNone:
      return ForEachVector(args, t, [](float* y, int64_t, Vec x) { Store(x, y); });
    case Epilogue::kGeluTanh:
      return ForEachVector(args, t, [](float* y, int64_t, Vec x) { Store(GeluTanh(x), y); });
    case Epilogue::kSilu:
      return ForEachVector(args, t, [](float* y, int64_t, Vec x) { Store(Silu(x), y); });
    case Epilogue::kRelu:
      return ForEachVector(args, t, [](float* y, int64_t, Vec x) { Store(Relu(x), y); });
  }
}

static_assert(kFloatTileRows == kTileRows && kFloatTileStride == kLanes);

// x [rows, depth] of rows `in` apart -> t.tiles, where six rows' inputs follow one another.
void PackTiles(const FloatLinearTask& t, const float* x, int64_t in, int64_t depth) {
  const int64_t whole = depth / kLanes * kLanes;
  for (int64_t row = 0; row < t.rows; row += kTileRows) {
    const int64_t rows = Least(kTileRows, t.rows - row);
    float* const tile = t.tiles + row / kTileRows * t.depth * kFloatTileStride;
    Transpose(rows, whole, 1, x + row * in, in, tile, kFloatTileStride);
    for (int64_t k = whole; k < depth; ++k)
      for (int64_t r = 0; r < rows; ++r) tile[k * kFloatTileStride + r] = x[(row + r) * in + k];
  }
}

}  // namespace

// A part of a panel stays in L1 while all rows pass; the rows' inputs stay in L2.
void RunFloatTask(const LinearArgs& args, const FloatLinearTask& t) {
  const float one = 1;
  const float* const x = static_cast<const float*>(args.x) + t.first_row * args.in;
  const float* const weight = static_cast<const float*>(args.weight) + t.first_col * args.in;
  for (int64_t k = 0; k < args.in; k += t.depth) {
    const int64_t depth = Least(t.depth, args.in - k);
    PackTiles(t, x + k, args.in, depth);
    for (int64_t col = 0; col < t.cols; col += kFloatPanel)
      for (int64_t row = 0; row < t.rows; row += kTileRows)
        MultiplyTransposed({.rows = Least(kTileRows, t.rows - row),
                            .cols = kFloatPanel,
                            .depth = depth,
                            .a = t.tiles + row / kTileRows * t.depth * kFloatTileStride,
                            .a_stride = kFloatTileStride,
                            .b = weight + col * args.in + k * kFloatPanel,
                            .b_stride = kFloatPanel,
                            .c = t.sums + col * t.rows + row * kFloatPanel,
                            .c_stride = kFloatPanel,
                            .keep = k == 0 ? nullptr : &one,
                            .keep_stride = 0});
  }
  StoreResults(args, t);
}

}  // namespace mrt::MRT_ISA
