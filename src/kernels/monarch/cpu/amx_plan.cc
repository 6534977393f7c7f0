#include <algorithm>

#include "base/threads.h"
#include "kernels/common/cpu/scratch.h"
#include "kernels/monarch/cpu/amx.h"
#include "kernels/monarch/tiling.h"

namespace mrt {
namespace {

constexpr int64_t kTileColumns = 16;
constexpr int64_t kCacheLine = 64;

// Rows of keys between two updates of the output, unless one key tile has more. What lies between
// (kbar and vbar) and what is updated (the output) are both too large for L2, so few updates are
// better than many; more rows than these gain nothing.
constexpr int64_t kBlockRowsMax = 224;
// Fewer tasks per thread than this would leave threads idle at the end, unless they are the same
// for all.
constexpr int64_t kTasksPerThreadMin = 4;

int64_t CeilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }

char* TakeBytes(ScratchCarver& carver, int64_t bytes) {
  return reinterpret_cast<char*>(carver.Take(CeilDiv(bytes, int64_t{sizeof(float)})));
}

MonarchAmxWork Carve(const MonarchShape& s, int64_t column_tiles, ScratchCarver& carver) {
  const int64_t b1 = s.b1(), b2 = s.b2(), d = s.head_dim;
  const int64_t columns = column_tiles * kTileColumns;
  MonarchAmxWork w;
  w.column_tiles = column_tiles;
  w.key_tiles_per_block = std::max(int64_t{1}, kBlockRowsMax / b1);
  w.l_tiles = CeilDiv(b2, 16), w.l_steps = CeilDiv(b2, 32);
  w.i_tiles = CeilDiv(b1, 16), w.i_steps = CeilDiv(b1, 32);
  w.k_steps = CeilDiv(w.key_tiles_per_block * b1, 32);
  w.kbar_stride = columns * d * 2 + kCacheLine;
  w.vbar_stride = columns * d * 4 + kCacheLine;
  const int64_t queries = columns * w.i_tiles * 16;
  w.query_rows = reinterpret_cast<int64_t*>(
      TakeBytes(carver, s.frames_q * s.rows * s.w_reduce * int64_t{sizeof(int64_t)}));
  w.q_rows = TakeBytes(carver, b1 * columns * d * 2);
  w.q_columns = TakeBytes(carver, queries * d * 2);
  w.max = carver.Take(queries);
  w.sum = carver.Take(queries);
  w.out = carver.Take(queries * d);
  w.keys = TakeBytes(carver, 16 * d * 2);
  w.pairs = TakeBytes(carver, kAmxPackedChunks * w.l_steps * 32 * 64);
  const int64_t k_max = w.k_steps * 32, pair = 2 * kTileColumns;
  w.scores = carver.Take(std::max(pair * w.l_tiles * 16, 2 * k_max * 32));
  w.weights = TakeBytes(carver, std::max(2 * columns * w.l_steps * 64, 32 * w.k_steps * 64));
  w.sums = carver.Take(4 * 16 * 32);
  w.c = carver.Take(k_max * columns);
  w.kbar = TakeBytes(carver, k_max * w.kbar_stride);
  w.vbar = TakeBytes(carver, k_max / 2 * w.vbar_stride);
  if (s.iterations == 1) return w;
  w.q_pairs = TakeBytes(carver, columns * w.i_steps * 32 * d * 2);
  w.log_sum = carver.Take((s.iterations - 1) * queries);
  w.qbar_rows = TakeBytes(carver, k_max * columns * d * 2);
  w.qbar = carver.Take(k_max * d);
  w.n = carver.Take(k_max);
  return w;
}

int64_t WorkFloats(const MonarchShape& s, int64_t column_tiles) {
  ScratchCarver carver(nullptr);
  Carve(s, column_tiles, carver);
  return carver.used();
}

// How the columns of the query tiles that see the same keys are cut into tasks.
struct Cut {
  int64_t groups;       // of query tiles that see the same keys
  int64_t query_tiles;  // in each
  int64_t columns;      // of all of them
  int64_t column_tiles;
  int64_t parts;
  int64_t tasks;
};

// Every part reads and packs the keys for itself, so no more than the threads need. The output does
// not depend on it: columns share nothing but the keys.
Cut CutColumns(const MonarchShape& s, int threads) {
  const int64_t frames = s.causal_block_frames != 0 ? s.causal_block_frames : s.frames_q;
  Cut cut;
  cut.groups = s.frames_q / frames;
  cut.query_tiles = TileCount(s, frames);
  cut.columns = cut.query_tiles * s.b2();
  cut.column_tiles = CeilDiv(cut.columns, kTileColumns);
  const int64_t whole_tasks = s.heads * cut.groups;
  const int64_t wanted = CeilDiv(threads * kTasksPerThreadMin, whole_tasks);
  constexpr int64_t kColumnTilesMin = 2;  // they share the loads of a row of keys
  const bool even = whole_tasks % threads == 0;
  cut.parts = even ? 1 : std::min(wanted, CeilDiv(cut.column_tiles, kColumnTilesMin));
  cut.tasks = whole_tasks * cut.parts;
  return cut;
}

int64_t TaskFloats(const MonarchShape& s, const Cut& cut) {
  return WorkFloats(s, CeilDiv(cut.column_tiles, cut.parts));
}

MonarchAmxWork PlanTask(const MonarchShape& s, const Cut& cut, int64_t task, float* scratch) {
  const int64_t part = task % cut.parts;
  const int64_t first = cut.column_tiles * part / cut.parts;
  const int64_t last = cut.column_tiles * (part + 1) / cut.parts;
  ScratchCarver carver(scratch);
  MonarchAmxWork w = Carve(s, last - first, carver);
  w.head = task / (cut.parts * cut.groups);
  w.first_query_tile = task / cut.parts % cut.groups * cut.query_tiles;
  w.first_column = first * kTileColumns;
  w.columns = std::min(last * kTileColumns, cut.columns) - w.first_column;
  w.key_tiles = VisibleKeyTiles(s, w.first_query_tile);
  const int64_t blocks = CeilDiv(w.key_tiles, w.key_tiles_per_block);
  w.key_tiles_per_block = CeilDiv(w.key_tiles, blocks);
  return w;
}

// Tasks of one head follow one another, so that threads share its keys in the cache.
void RunTasks(const MonarchArgs& args,
              void (*attend_columns)(const MonarchArgs&, const MonarchAmxWork&)) {
  const Cut cut = CutColumns(args.shape, ThreadCount());
  const int64_t floats = TaskFloats(args.shape, cut);
  ParallelTasks(cut.tasks, [&](int64_t task, int worker) {
    float* scratch = static_cast<float*>(args.scratch) + worker * floats;
    attend_columns(args, PlanTask(args.shape, cut, task, scratch));
  });
}

const char* RefusesTiles(const MonarchShape& shape) {
  if (shape.storage != StorageType::kBF16) return "it multiplies bfloat16 only";
  if (shape.head_dim % 32 != 0) return "head_dim is not a multiple of 32, the depth of its tiles";
  return nullptr;
}

}  // namespace

const char* MonarchAmxRefuses(const MonarchShape& shape, const CpuFeatures& cpu) {
  if (!cpu.amx_bf16) return "the CPU has no AMX with bf16, or the system does not grant it";
  return RefusesTiles(shape);
}

const char* MonarchAvx512Bf16Refuses(const MonarchShape& shape, const CpuFeatures& cpu) {
  if (!cpu.avx512_bf16) return "the CPU has no AVX-512 with dot products of bf16";
  return RefusesTiles(shape);
}

int64_t MonarchAmxScratchBytes(const MonarchShape& shape, int threads) {
  return threads * TaskFloats(shape, CutColumns(shape, threads)) * int64_t{sizeof(float)};
}

void RunMonarchAmx(const MonarchArgs& args) { RunTasks(args, amx::AttendColumns); }
void RunMonarchAvx512Bf16(const MonarchArgs& args) { RunTasks(args, avx512_bf16::AttendColumns); }

}  // namespace mrt
