// A panel of 32 columns of the packed weight is [steps, 2 tiles, 16, 16 columns] of 4 bytes: pairs
// of bf16, or four int8. A step is 64 bytes of a row of x, which is read as it lies. Both come from
// L2; what the next panel and the next inputs need is fetched there meanwhile. The finished sums of
// one block get bias, epilogue and their place in y between the products of the next one, which
// would otherwise wait for them.
#include "kernels/linear/cpu/amx.h"

#include "kernels/common/cpu/amx_epilogue.h"
#include "kernels/common/cpu/amx_math.h"

namespace mrt::amx {
namespace {

constexpr int64_t kTileBytes = kTileRows * kTileRowBytes;
constexpr int64_t kStepBytes = 2 * kTileBytes;   // of a panel
constexpr int64_t kTileFloats = kTileRows * 16;  // or s32

// A finished block of sums on its way to y.
struct Finish {
  const float* sums = nullptr;  // 2 x 2 tiles, one after the other
  char* y = nullptr;            // the block's first element
  int64_t first_row = 0;
  int64_t col = 0;
  int64_t rows = 0;
  int64_t done = 0;  // rows
};

// The sums of 16 columns, before the bias. `low` is 2 tiles behind `sums`, if there are two digits.
template <LinearType kType>
inline __m512 LoadSums(const LinearArgs& args, const Finish& f, int64_t row, int64_t col,
                       const float* sums) {
  if constexpr (kType == LinearType::kBF16) return _mm512_loadu_ps(sums);
  const LinearScales& scales = args.scales;
  const __m512i weight_sum = _mm512_loadu_si512(scales.weight_sum + col);
  const auto digit = [&](const float* s32, int32_t zero) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(
        _mm512_loadu_si512(s32), _mm512_mullo_epi32(weight_sum, _mm512_set1_epi32(zero))));
  };
  const int32_t zero = scales.zero[f.first_row + row];
  const __m512 exact =
      args.x_low == nullptr
          ? digit(sums, zero)
          : _mm512_fmadd_ps(digit(sums, zero / kDigitBase), _mm512_set1_ps(kDigitBase),
                            digit(sums + 2 * kTileFloats, zero % kDigitBase));
  return _mm512_mul_ps(_mm512_mul_ps(exact, _mm512_loadu_ps(scales.scale + col)),
                       _mm512_set1_ps(scales.row_scale[f.first_row + row]));
}

template <LinearType kType>
inline void FinishRow(const LinearArgs& args, Finish& f) {
  const int64_t row = f.done++;
  const float* sums = f.sums + row / kTileRows * 2 * kTileFloats + row % kTileRows * 16;
  const float* bias = args.bias + f.col;
  __m512 low = _mm512_add_ps(LoadSums<kType>(args, f, row, f.col, sums), _mm512_loadu_ps(bias));
  __m512 high = _mm512_add_ps(LoadSums<kType>(args, f, row, f.col + 16, sums + kTileFloats),
                              _mm512_loadu_ps(bias + 16));
  char* const y = f.y + row * args.out * StorageBytes(args.y.storage);
  if (args.add) {
    auto* const to = reinterpret_cast<float*>(y);
    const float* gate = args.gate;
    const __m512 one = _mm512_set1_ps(1);
    const __m512 gate_low = gate == nullptr ? one : _mm512_loadu_ps(gate + f.col);
    const __m512 gate_high = gate == nullptr ? one : _mm512_loadu_ps(gate + f.col + 16);
    _mm512_storeu_ps(to, _mm512_fmadd_ps(low, gate_low, _mm512_loadu_ps(to)));
    _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(high, gate_high, _mm512_loadu_ps(to + 16)));
    return;
  }
  low = Activate(args.epilogue, low);
  high = Activate(args.epilogue, high);
  if (args.y.storage == StorageType::kBF16) {
    _mm512_storeu_si512(y, ToBf16(low, high));
  } else {
    _mm512_storeu_ps(y, low);
    _mm512_storeu_ps(y + kTileRowBytes, high);
  }
}

struct Block {
  const char* x;      // 16 rows
  const char* below;  // the next 16, or the second digits
  int64_t x_stride;   // bytes between rows
  const char* weight;
  int64_t steps;
  char* sums;
};

// As MultiplyTiles<2, 2, kAdd>, with side(step) between the products.
template <LinearType kType, bool kAdd, typename Side>
inline void MultiplyBlock(const Block& m, const Side& side) {
  __asm__ volatile("" : : : "memory");
  if constexpr (kAdd) {
    _tile_loadd(0, m.sums, kTileRowBytes);
    _tile_loadd(1, m.sums + kTileBytes, kTileRowBytes);
    _tile_loadd(2, m.sums + 2 * kTileBytes, kTileRowBytes);
    _tile_loadd(3, m.sums + 3 * kTileBytes, kTileRowBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  constexpr bool kInt8 = kType == LinearType::kInt8;
  const char* weight = m.weight;
  for (int64_t step = 0; step < m.steps; ++step, weight += kStepBytes) {
    _tile_loadd(6, weight, kTileRowBytes);
    _tile_loadd(4, m.x + step * kTileRowBytes, m.x_stride);
    if constexpr (kInt8) _tile_dpbusd(0, 4, 6);
    if constexpr (!kInt8) _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, weight + kTileBytes, kTileRowBytes);
    if constexpr (kInt8) _tile_dpbusd(1, 4, 7);
    if constexpr (!kInt8) _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, m.below + step * kTileRowBytes, m.x_stride);
    if constexpr (kInt8) _tile_dpbusd(2, 5, 6);
    if constexpr (!kInt8) _tile_dpbf16ps(2, 5, 6);
    if constexpr (kInt8) _tile_dpbusd(3, 5, 7);
    if constexpr (!kInt8) _tile_dpbf16ps(3, 5, 7);
    side(step);
  }
  _tile_stored(0, m.sums, kTileRowBytes);
  _tile_stored(1, m.sums + kTileBytes, kTileRowBytes);
  _tile_stored(2, m.sums + 2 * kTileBytes, kTileRowBytes);
  _tile_stored(3, m.sums + 3 * kTileBytes, kTileRowBytes);
  __asm__ volatile("" : : : "memory");
}

// The rows of a task, in blocks.
struct Rows {
  const char* x;  // the task's first row
  int64_t below;  // where Block::below is, seen from Block::x
  int64_t stride;
  int64_t of_block;
  int64_t blocks;
  const char* padded;  // the last block, or null if it is full
};

void PadRows(const char* from, int64_t bytes, int64_t bytes_padded, char* to) {
  for (int64_t at = 0; at < bytes_padded; at += kTileRowBytes)
    _mm512_storeu_si512(to + at,
                        at < bytes ? _mm512_loadu_si512(from + at) : _mm512_setzero_si512());
}

Rows RowsOf(const LinearArgs& args, const LinearTask& task) {
  const int64_t stride = LinearRowBytes(args.type, args.in), of_block = LinearBlockRows(args);
  const int64_t left = task.rows % of_block, first = task.first_row * stride;
  const auto* x = static_cast<const char*>(args.x) + first;
  Rows rows{.x = x,
            .below = kTileRows * stride,
            .stride = stride,
            .of_block = of_block,
            .blocks = CeilDiv(task.rows, of_block)};
  const bool digits = args.x_low != nullptr;
  const char* const low = digits ? static_cast<const char*>(args.x_low) + first : x;
  if (digits) rows.below = low - x;
  if (left == 0) return rows;
  const int64_t last = (rows.blocks - 1) * of_block * stride;
  PadRows(x + last, left * stride, of_block * stride, task.padded);
  if (digits)
    PadRows(low + last, left * stride, of_block * stride, task.padded + of_block * stride);
  rows.padded = task.padded;
  return rows;
}

// Some inputs of a task.
struct Depth {
  int64_t first;  // step
  int64_t steps;
  bool last;
};

template <LinearType kType, bool kAdd>
void RunDepth(const LinearArgs& args, const LinearTask& task, const Rows& rows, const Depth& depth,
              Finish& finish) {
  const int64_t panel_bytes = rows.stride / kTileRowBytes * kStepBytes;
  const int64_t panels = task.cols / kLinearBlock;
  const int64_t y_stride = args.out * StorageBytes(args.y.storage);
  const int64_t finish_rows = CeilDiv(kLinearBlock, depth.steps);
  const int64_t panel_lines = CeilDiv(kStepBytes / kTileRowBytes, rows.blocks);  // for each step
  const int64_t next_rows = depth.last ? 0 : CeilDiv(rows.of_block, panels);     // for each block
  const char* const next_x = rows.x + (depth.first + depth.steps) * kTileRowBytes;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t col = task.first_col + panel * kLinearBlock;
    const char* weight = static_cast<const char*>(args.weight) + col / kLinearBlock * panel_bytes +
                         depth.first * kStepBytes;
    const bool last_panel = panel + 1 == panels && !depth.last;
    const char* line = last_panel ? weight - panel * panel_bytes + depth.steps * kStepBytes
                                  : weight + panel_bytes;  // of what is multiplied next
    for (int64_t block = 0; block < rows.blocks; ++block) {
      const int64_t n = panel * rows.blocks + block, row = block * rows.of_block;
      const bool padded = rows.padded != nullptr && block + 1 == rows.blocks;
      char* const sums = task.sums == nullptr ? task.results + n % 2 * kLinearBlockBytes
                                              : task.sums + n * kLinearBlockBytes;
      const int64_t left = task.rows - row, y_row = task.first_row + row;
      const Finish next = {
          reinterpret_cast<const float*>(sums),
          static_cast<char*>(args.y.data) + y_row * y_stride + col * StorageBytes(args.y.storage),
          y_row, col, left < rows.of_block ? left : rows.of_block};
      const auto side = [&](int64_t step) {
        if (depth.last)
          for (int64_t i = step * finish_rows; i < (step + 1) * finish_rows && i < next.rows; ++i) {
            _mm_prefetch(next.y + i * y_stride, _MM_HINT_T0);
            if (args.y.storage == StorageType::kF32)
              _mm_prefetch(next.y + i * y_stride + kTileRowBytes, _MM_HINT_T0);
          }
        for (int64_t i = 0; i < panel_lines; ++i, line += kTileRowBytes)
          _mm_prefetch(line, _MM_HINT_T1);
        for (int64_t i = n * next_rows; i < (n + 1) * next_rows && i < task.rows; ++i)
          _mm_prefetch(next_x + i * rows.stride + step * kTileRowBytes, _MM_HINT_T1);
        for (int64_t i = 0; i < finish_rows && finish.done < finish.rows; ++i)
          FinishRow<kType>(args, finish);
      };
      const char* const x =
          (padded ? rows.padded : rows.x + row * rows.stride) + depth.first * kTileRowBytes;
      const int64_t below = padded ? kTileRows * rows.stride : rows.below;
      MultiplyBlock<kType, kAdd>({x, x + below, rows.stride, weight, depth.steps, sums}, side);
      if (depth.last) finish = next;
    }
  }
}

template <LinearType kType>
void RunTypedTask(const LinearArgs& args, const LinearTask& task) {
  ConfigureTiles();
  const Rows rows = RowsOf(args, task);
  const int64_t steps = rows.stride / kTileRowBytes;
  Finish finish;
  for (int64_t first = 0; first < steps; first += task.steps) {
    const int64_t left = steps - first;
    const Depth depth{first, left < task.steps ? left : task.steps, left <= task.steps};
    if (first == 0) RunDepth<kType, false>(args, task, rows, depth, finish);
    if (first > 0) RunDepth<kType, true>(args, task, rows, depth, finish);
  }
  ReleaseTiles();
  while (finish.done < finish.rows) FinishRow<kType>(args, finish);
}

}  // namespace

void RunTask(const LinearArgs& args, const LinearTask& task) {
  if (args.type == LinearType::kBF16) RunTypedTask<LinearType::kBF16>(args, task);
  if (args.type == LinearType::kInt8) RunTypedTask<LinearType::kInt8>(args, task);
}

void PackPanel(const void* weight, int64_t row_bytes, int64_t panel, void* packed) {
  const char* from = static_cast<const char*>(weight) + panel * kLinearBlock * row_bytes;
  char* to = static_cast<char*>(packed) + panel * kLinearBlock * row_bytes;
  for (int64_t at = 0; at < row_bytes; at += kTileRowBytes)
    for (int64_t tile = 0; tile < 2; ++tile, to += kTileBytes) {
      const char* rows[16];
      for (int64_t n = 0; n < 16; ++n) rows[n] = from + (tile * 16 + n) * row_bytes + at;
      __m512i fours[16];  // of bytes
      LoadTransposed(rows, 16, fours);
      for (int64_t n = 0; n < 16; ++n) _mm512_storeu_si512(to + n * kTileRowBytes, fours[n]);
    }
}

}  // namespace mrt::amx
