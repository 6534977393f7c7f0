#include "kernels/monarch/monarch.h"

#include <string>

#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

// Elements of q, or of k: so that every byte offset and scratch size fits in an int64_t.
constexpr int64_t kElementsMax = int64_t{1} << 36;
// Passes over the keys grow with the square of the steps; nobody is known to use more than 4.
constexpr int kIterationsMax = 64;
// Tokens of q, or of k: so that b1 and b2 are ints.
constexpr int64_t kTokensMax = (int64_t{1} << 31) - 1;

Status Bad(const std::string& what) { return InvalidArgument("[monarch] got " + what); }

std::string Number(const char* name, int64_t value) {
  return std::string(name) + " " + std::to_string(value);
}

Status CheckDivides(const char* part_name, int part, const char* whole_name, int whole) {
  if (part >= 1 && whole % part == 0) return {};
  return Bad(Number(part_name, part) + ", need a divisor of " + Number(whole_name, whole));
}

// frames x rows x cols tokens of heads x head_dim, all at least 1.
bool FitsLimits(const MonarchShape& s, int frames) {
  int64_t tokens = 0, elements = 0;
  if (__builtin_mul_overflow(int64_t{frames} * s.rows, int64_t{s.cols}, &tokens)) return false;
  if (tokens > kTokensMax) return false;
  if (__builtin_mul_overflow(tokens, int64_t{s.heads} * s.head_dim, &elements)) return false;
  return elements <= kElementsMax;
}

Status CheckCausal(const MonarchShape& s) {
  if (s.causal_block_frames < 0)
    return Bad(Number("causal_block_frames", s.causal_block_frames) + ", need at least 0");
  if (s.causal_block_frames == 0) return {};
  if (s.frames_q != s.frames_kv)
    return Bad(Number("frames_q", s.frames_q) + " and " + Number("frames_kv", s.frames_kv) +
               ", need equal numbers when block-causal");
  MRT_RETURN_IF_ERROR(
      CheckDivides("causal_block_frames", s.causal_block_frames, "frames_q", s.frames_q));
  return CheckDivides("f_tied", s.f_tied, "causal_block_frames", s.causal_block_frames);
}

}  // namespace

Status ValidateMonarch(const MonarchShape& s) {
  const struct {
    const char* name;
    int value;
  } extents[] = {{"heads", s.heads},
                 {"frames_q", s.frames_q},
                 {"frames_kv", s.frames_kv},
                 {"rows", s.rows},
                 {"cols", s.cols},
                 {"head_dim", s.head_dim},
                 {"iterations", s.iterations},
                 {"f_tied", s.f_tied}};
  for (const auto& extent : extents)
    if (extent.value < 1) return Bad(Number(extent.name, extent.value) + ", need at least 1");
  if (s.iterations > kIterationsMax)
    return Bad(Number("iterations", s.iterations) + ", need at most " +
               std::to_string(kIterationsMax));
  if (!FitsLimits(s, s.frames_q) || !FitsLimits(s, s.frames_kv))
    return Bad("a shape of more than 2^31 - 1 tokens or 2^36 elements, need less");
  MRT_RETURN_IF_ERROR(CheckDivides("f_tied", s.f_tied, "frames_q", s.frames_q));
  MRT_RETURN_IF_ERROR(CheckDivides("f_tied", s.f_tied, "frames_kv", s.frames_kv));
  MRT_RETURN_IF_ERROR(CheckDivides("h_reduce", s.h_reduce, "rows", s.rows));
  MRT_RETURN_IF_ERROR(CheckDivides("w_reduce", s.w_reduce, "cols", s.cols));
  MRT_RETURN_IF_ERROR(CheckCausal(s));
  if (s.storage > StorageType::kF16)
    return Bad("an unknown storage type, need kF32, kBF16 or kF16");
  if (s.storage == StorageType::kF16 && s.kv_bf16)
    return Bad("bf16 keys beside f16 queries, need f16 for both");
  return {};
}

double MonarchSparsity(const MonarchShape& shape) {
  const double b1 = shape.b1(), b2 = shape.b2();
  return 1 - (b1 + b2) / (b1 * b2);
}

double MonarchFlop(const MonarchShape& shape) {
  double tile_pairs = static_cast<double>(TileCount(shape, shape.frames_q)) *
                      static_cast<double>(TileCount(shape, shape.frames_kv));
  if (const int64_t n = shape.causal_block_frames; n > 0) {  // block b sees b + 1 blocks
    const double blocks = static_cast<double>(shape.frames_q) / n;
    tile_pairs *= (blocks + 1) / (2 * blocks);
  }
  const double b1 = shape.b1(), b2 = shape.b2();
  // q.K, kbar and vbar are b1 products of b2 x b2; q.kbar and L.vbar are b2 of b1 x b1.
  return 2.0 * shape.heads * shape.head_dim * shape.iterations * tile_pairs *
         (3 * b1 * b2 * b2 + 2 * b2 * b1 * b1);
}

int64_t TileCount(const MonarchShape& shape, int64_t frames) {
  return frames / shape.f_tied * shape.h_reduce * shape.w_reduce;
}

int64_t VisibleKeyTiles(const MonarchShape& shape, int64_t a) {
  const int64_t block_frames = shape.causal_block_frames;
  if (block_frames == 0) return TileCount(shape, shape.frames_kv);
  const int64_t block = a / TileCount(shape, block_frames);
  return TileCount(shape, (block + 1) * block_frames);
}

TileRow FindTileRow(const MonarchShape& shape, int64_t tile, int64_t row) {
  const int64_t tile_rows = shape.rows / shape.h_reduce;
  const int64_t column_cut = tile % shape.w_reduce;
  const int64_t row_cut = tile / shape.w_reduce % shape.h_reduce;
  const int64_t frame_group = tile / (int64_t{shape.w_reduce} * shape.h_reduce);
  const int64_t grid_row = row_cut * tile_rows + row % tile_rows;
  return {.frame = frame_group * shape.f_tied + row / tile_rows,
          .token = grid_row * shape.cols + column_cut * shape.b2()};
}

}  // namespace mrt
