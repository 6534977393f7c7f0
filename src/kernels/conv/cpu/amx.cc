// A block of sums is 2 rows x 16 columns x 32 output channels: 2 x 2 tiles. For one row of the
// kernel the inputs of a pixel lie together, kernel_cols * in of them, and those of the next pixel
// begin `in` further on, so the tiles read frames as they lie. Rows above and below a frame are a
// row of zeros; blocks that look over its sides have their input copied, with zeros, at the start
// of a task. The weight is packed as for a Linear (src/kernels/linear). As there, the finished sums
// of one block get bias and epilogue between the products of the next one.
#include "kernels/conv/cpu/amx.h"

#include "kernels/common/cpu/amx_epilogue.h"
#include "kernels/common/cpu/amx_math.h"

namespace mrt::amx {
namespace {

constexpr int64_t kTileBytes = kTileRows * kTileRowBytes;
constexpr int64_t kStepBytes = 2 * kTileBytes;  // of a panel
constexpr int64_t kTileFloats = kTileRows * 16;
// A block reads kernel_rows + stride rows of each of at most kConvSegmentsMax frames.
constexpr int64_t kFetchRowsMax = kConvSegmentsMax * (1 + kConvStrideMax);

// A finished block of sums on its way to y.
struct Finish {
  const float* sums = nullptr;  // 2 x 2 tiles, one after the other
  char* y = nullptr;            // the block's first element
  int64_t channel = 0;          // the first one
  int64_t rows = 0, cols = 0;   // that are there
  int64_t done = 0;             // pixels
};

inline __m512 FromBf16(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

inline void StorePixel(const ConvArgs& args, int64_t channel, char* y, __m512 low, __m512 high) {
  const int64_t left = args.shape.out - channel;
  const __mmask32 there = left >= kConvPanel ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
  const auto there_high = static_cast<__mmask16>(there >> 16);
  const auto there_low = static_cast<__mmask16>(there);
  if (args.y.storage == StorageType::kBF16) {
    if (args.add) {
      const __m512i old = _mm512_maskz_loadu_epi16(there, y);
      low = _mm512_add_ps(low, FromBf16(_mm512_castsi512_si256(old)));
      high = _mm512_add_ps(high, FromBf16(_mm512_extracti64x4_epi64(old, 1)));
    }
    _mm512_mask_storeu_epi16(y, there,
                             ToBf16(Activate(args.epilogue, low), Activate(args.epilogue, high)));
    return;
  }
  if (args.add) {
    low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(there_low, y));
    high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(there_high, y + kTileRowBytes));
  }
  _mm512_mask_storeu_ps(y, there_low, Activate(args.epilogue, low));
  _mm512_mask_storeu_ps(y + kTileRowBytes, there_high, Activate(args.epilogue, high));
}

inline void FinishPixel(const ConvArgs& args, Finish& f) {
  const int64_t pixel = f.done++, row = pixel / kTileRows, col = pixel % kTileRows;
  if (row >= f.rows || col >= f.cols) return;
  const float* sums = f.sums + row * 2 * kTileFloats + col * 16;
  const float* bias = args.bias + f.channel;
  const __m512 low = _mm512_add_ps(_mm512_loadu_ps(sums), _mm512_loadu_ps(bias));
  const __m512 high =
      _mm512_add_ps(_mm512_loadu_ps(sums + kTileFloats), _mm512_loadu_ps(bias + 16));
  char* const y = f.y + (row * args.y_row + col * args.y_col) * StorageBytes(args.y.storage);
  StorePixel(args, f.channel, y, low, high);
}

// Where the two rows of a block begin, for each row of the kernel.
struct BlockInput {
  const char* upper[kConvSegmentsMax];
  const char* lower[kConvSegmentsMax];
};

struct Geometry {
  int64_t segments;       // kernel_time * kernel_rows
  int64_t segment_steps;  // of 64 bytes
  int64_t pixel_bytes;
  int64_t row_bytes;    // of a frame
  int64_t tile_stride;  // from one pixel of y to the next
  int64_t edge_bytes;   // of a row of an edge
};

Geometry GeometryOf(const ConvArgs& args) {
  const ConvShape& s = args.shape;
  const int64_t pixel_bytes = s.in * 2;
  return {.segments = s.kernel_time * s.kernel_rows,
          .segment_steps = s.kernel_cols * pixel_bytes / kTileRowBytes,
          .pixel_bytes = pixel_bytes,
          .row_bytes = args.cols * pixel_bytes,
          .tile_stride = s.stride * pixel_bytes,
          .edge_bytes = CeilDiv(ConvBlockInputRowBytes(s), kTileRowBytes) * kTileRowBytes};
}

// Row `row` of a frame, which may be outside, from column `col` on.
inline const char* InputAt(const ConvArgs& args, const ConvTask& task, const Geometry& g,
                           int64_t time, int64_t row, int64_t col) {
  if (row < 0 || row >= args.rows) return task.zeros;
  return static_cast<const char*>(args.frames[time]) + row * g.row_bytes + col * g.pixel_bytes;
}

// The input of a block, [time, rows, columns] with zeros outside of the frame.
void CopyEdge(const ConvArgs& args, const ConvTask& task, const Geometry& g, int64_t out_row,
              int64_t out_col, char* to) {
  const ConvShape& s = args.shape;
  const int64_t first_col = out_col * s.stride - s.pad_left;
  for (int64_t time = 0; time < s.kernel_time; ++time)
    for (int64_t r = 0; r < ConvBlockInputRows(s); ++r, to += g.edge_bytes)
      for (int64_t c = 0; c < ConvBlockInputCols(s); ++c) {
        const int64_t row = out_row * s.stride - s.pad_top + r, col = first_col + c;
        const bool inside = col >= 0 && col < args.cols;
        const char* const from = inside ? InputAt(args, task, g, time, row, col) : task.zeros;
        for (int64_t at = 0; at < g.pixel_bytes; at += kTileRowBytes)
          _mm512_storeu_si512(to + c * g.pixel_bytes + at, _mm512_loadu_si512(from + at));
      }
}

// What a block reads that no block before it has read: some rows, of each some bytes. Asked for
// line by line while the block before is multiplied.
struct Fetch {
  const char* rows[kFetchRowsMax];
  int64_t count = 0;
  int64_t bytes = 0;  // of a row
  int64_t row = 0, at = 0;

  int64_t lines() const { return count * CeilDiv(bytes, kTileRowBytes); }
  void Next() {
    if (row == count) return;
    _mm_prefetch(rows[row] + at, _MM_HINT_T1);
    at += kTileRowBytes;
    if (at < bytes) return;
    at = 0;
    ++row;
  }
};

// The blocks of a task, row by row of blocks. `edges` walks through the copies.
class Blocks {
 public:
  Blocks(const ConvArgs& args, const ConvTask& task, const Geometry& g)
      : args_(args),
        task_(task),
        g_(g),
        edge_bytes_(args.shape.kernel_time * ConvBlockInputRows(args.shape) * g.edge_bytes) {}

  void CopyEdges() const {
    char* edge = task_.edges;
    for (int64_t row = 0; row < task_.rows; row += kConvBlockRows)
      for (int64_t col = 0; col < task_.cols; col += kConvBlockCols)
        if (ConvBlockLeaves(args_, task_.first_col + col)) {
          CopyEdge(args_, task_, g_, task_.first_row + row, task_.first_col + col, edge);
          edge += edge_bytes_;
        }
  }

  Fetch FetchOf(int64_t out_row, int64_t out_col) const {
    const ConvShape& s = args_.shape;
    Fetch fetch;
    if (ConvBlockLeaves(args_, out_col)) return fetch;  // it has been copied
    const int64_t rows = ConvBlockInputRows(s);
    const int64_t older = rows - kConvBlockRows * s.stride;  // the blocks above have read them
    const int64_t shared = out_row == task_.first_row || older < 0 ? 0 : older;
    fetch.bytes = kConvBlockCols * g_.tile_stride;
    const int64_t top = out_row * s.stride - s.pad_top;
    const int64_t col = out_col * s.stride - s.pad_left + s.kernel_cols - s.stride;
    for (int64_t time = 0; time < s.kernel_time; ++time)
      for (int64_t r = shared; r < rows; ++r)
        if (top + r >= 0 && top + r < args_.rows)
          fetch.rows[fetch.count++] = InputAt(args_, task_, g_, time, top + r, col);
    return fetch;
  }

  void Find(int64_t out_row, int64_t out_col, const char*& edge, BlockInput& input) const {
    const ConvShape& s = args_.shape;
    const bool leaves = ConvBlockLeaves(args_, out_col);
    // The lower row of the last block may not be there.
    const int64_t next = out_row + 1 < args_.out_rows ? s.stride : 0;
    const int64_t top = out_row * s.stride - s.pad_top, left = out_col * s.stride - s.pad_left;
    for (int64_t time = 0, n = 0; time < s.kernel_time; ++time)
      for (int64_t r = 0; r < s.kernel_rows; ++r, ++n) {
        if (leaves) {
          input.upper[n] = edge + (time * ConvBlockInputRows(s) + r) * g_.edge_bytes;
          input.lower[n] = input.upper[n] + next * g_.edge_bytes;
        } else {
          input.upper[n] = InputAt(args_, task_, g_, time, top + r, left);
          input.lower[n] = InputAt(args_, task_, g_, time, top + r + next, left);
        }
      }
    if (leaves) edge += edge_bytes_;
  }

 private:
  const ConvArgs& args_;
  const ConvTask& task_;
  const Geometry& g_;
  int64_t edge_bytes_;  // of a block
};

// 2 x kColTiles tiles; side(step) runs between the products.
template <int kColTiles, typename Side>
inline void MultiplyBlock(const Geometry& g, const BlockInput& input, const char* weight,
                          char* sums, const Side& side) {
  __asm__ volatile("" : : : "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  int64_t step = 0;
  for (int64_t segment = 0; segment < g.segments; ++segment) {
    const char* upper = input.upper[segment];
    const char* lower = input.lower[segment];
    for (int64_t i = 0; i < g.segment_steps; ++i, ++step, weight += kStepBytes) {
      _tile_loadd(6, weight, kTileRowBytes);
      _tile_loadd(4, upper + i * kTileRowBytes, g.tile_stride);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kColTiles == 2) {
        _tile_loadd(7, weight + kTileBytes, kTileRowBytes);
        _tile_dpbf16ps(1, 4, 7);
      }
      _tile_loadd(5, lower + i * kTileRowBytes, g.tile_stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kColTiles == 2) _tile_dpbf16ps(3, 5, 7);
      side(step);
    }
  }
  _tile_stored(0, sums, kTileRowBytes);
  _tile_stored(1, sums + kTileBytes, kTileRowBytes);
  _tile_stored(2, sums + 2 * kTileBytes, kTileRowBytes);
  _tile_stored(3, sums + 3 * kTileBytes, kTileRowBytes);
  __asm__ volatile("" : : : "memory");
}

template <int kColTiles>
void RunPanel(const ConvArgs& args, const ConvTask& task, const Geometry& g, const Blocks& blocks,
              int64_t panel, Finish& finish) {
  const int64_t steps = g.segments * g.segment_steps;
  const char* const weight = static_cast<const char*>(args.weight) + panel * steps * kStepBytes;
  const int64_t count = CeilDiv(task.rows, kConvBlockRows) * CeilDiv(task.cols, kConvBlockCols);
  const int64_t finish_pixels = CeilDiv(kConvBlockRows * kConvBlockCols, steps);
  const int64_t panel_lines = CeilDiv(kStepBytes / kTileRowBytes, count);  // for each step
  const bool last_panel = (panel + 1) * kConvPanel >= args.shape.out;
  const char* line =
      last_panel ? static_cast<const char*>(args.weight) : weight + steps * kStepBytes;
  const char* edge = task.edges;
  int64_t n = panel * count;
  for (int64_t row = 0; row < task.rows; row += kConvBlockRows)
    for (int64_t col = 0; col < task.cols; col += kConvBlockCols, ++n) {
      const int64_t y_row = task.first_row + row, y_col = task.first_col + col;
      BlockInput input;
      blocks.Find(y_row, y_col, edge, input);
      char* const sums = task.results + n % 2 * kConvBlockBytes;
      const int64_t y_at = y_row * args.y_row + y_col * args.y_col + panel * kConvPanel;
      const Finish next = {
          .sums = reinterpret_cast<const float*>(sums),
          .y = static_cast<char*>(args.y.data) + y_at * StorageBytes(args.y.storage),
          .channel = panel * kConvPanel,
          .rows = task.rows - row,
          .cols = task.cols - col};
      Fetch fetch;
      if (panel == 0) {
        const bool row_ends = col + kConvBlockCols >= task.cols;
        const int64_t next_row = row_ends ? y_row + kConvBlockRows : y_row;
        if (next_row < task.first_row + task.rows)
          fetch = blocks.FetchOf(next_row, row_ends ? task.first_col : y_col + kConvBlockCols);
      }
      const int64_t fetch_lines = CeilDiv(fetch.lines(), steps);
      const auto side = [&](int64_t step) {
        for (int64_t i = step * finish_pixels; i < (step + 1) * finish_pixels && i < 32; ++i)
          _mm_prefetch(
              next.y + (i / 16 * args.y_row + i % 16 * args.y_col) * StorageBytes(args.y.storage),
              _MM_HINT_T0);
        for (int64_t i = 0; i < panel_lines; ++i, line += kTileRowBytes)
          _mm_prefetch(line, _MM_HINT_T1);
        for (int64_t i = 0; i < fetch_lines; ++i) fetch.Next();
        for (int64_t i = 0; i < finish_pixels && finish.done < 32; ++i) FinishPixel(args, finish);
      };
      MultiplyBlock<kColTiles>(g, input, weight, sums, side);
      finish = next;
    }
}

}  // namespace

void RunConvTask(const ConvArgs& args, const ConvTask& task) {
  ConfigureTiles();
  const Geometry g = GeometryOf(args);
  const Blocks blocks(args, task, g);
  blocks.CopyEdges();
  Finish finish{.done = 32};
  for (int64_t panel = 0; panel * kConvPanel < args.shape.out; ++panel) {
    const bool narrow = args.shape.out - panel * kConvPanel <= kConvPanel / 2;
    if (narrow) RunPanel<1>(args, task, g, blocks, panel, finish);
    if (!narrow) RunPanel<2>(args, task, g, blocks, panel, finish);
  }
  ReleaseTiles();
  while (finish.done < 32) FinishPixel(args, finish);
}

}  // namespace mrt::amx
