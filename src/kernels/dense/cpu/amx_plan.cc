#include <algorithm>

#include "base/threads.h"
#include "kernels/common/cpu/scratch.h"
#include "kernels/dense/cpu/amx.h"

namespace mrt {
namespace {

// Queries that share a block of keys: as many as stay in L2 (2 MB on the CPUs that have AMX) with
// room for the block.
constexpr int64_t kQueryBytesMax = 1 << 20;
constexpr int64_t kTaskQueriesMax = 1024;
// Fewer tasks per thread than this would leave threads idle at the end.
constexpr int64_t kTasksPerThreadMin = 4;

int64_t CeilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }

char* TakeBf16(ScratchCarver& carver, int64_t count) {
  return reinterpret_cast<char*>(carver.Take(CeilDiv(count, 2)));
}

// How the queries are cut into tasks. Blocks of keys do not depend on it, so the output does not.
struct Cut {
  int64_t group_queries;  // that see the same keys
  int64_t task_queries;
  int64_t tasks_per_group;
  int64_t groups;
};

Cut CutQueries(const DenseShape& s, int threads) {
  Cut cut;
  cut.group_queries =
      s.causal_block_frames == 0 ? s.tokens_q : s.causal_block_frames * s.tokens_per_frame;
  cut.groups = s.tokens_q / cut.group_queries;
  constexpr int64_t kBytesPerChannel = 6;  // q in bf16, out in float32
  const int64_t most = std::min(kTaskQueriesMax, kQueryBytesMax / (s.head_dim * kBytesPerChannel));
  const int64_t wanted = CeilDiv(threads * kTasksPerThreadMin, s.heads * cut.groups);
  const int64_t parts = std::max(CeilDiv(cut.group_queries, std::max(most, kAmxBlockQueries)),
                                 threads == 1 ? 1 : wanted);
  cut.task_queries =
      CeilDiv(CeilDiv(cut.group_queries, parts), kAmxBlockQueries) * kAmxBlockQueries;
  cut.tasks_per_group = CeilDiv(cut.group_queries, cut.task_queries);
  return cut;
}

DenseAmxWork Carve(const DenseShape& s, int64_t queries, ScratchCarver& carver) {
  const int64_t d = s.head_dim;
  DenseAmxWork w;
  w.query_tiles = CeilDiv(queries, 16);
  const int64_t padded = w.query_tiles * 16;
  w.q = TakeBf16(carver, padded * d);
  w.max = carver.Take(padded);
  w.sum = carver.Take(padded);
  w.out = carver.Take(padded * d);
  w.keys = TakeBf16(carver, kAmxBlockKeys * d);
  w.values = TakeBf16(carver, kAmxBlockKeys * d);
  w.scores = carver.Take(2 * kAmxSoftmaxKeys * kAmxBlockQueries);
  w.weights = TakeBf16(carver, kAmxBlockQueries * kAmxBlockKeys);
  return w;
}

int64_t TaskFloats(const DenseShape& s, const Cut& cut) {
  ScratchCarver carver(nullptr);
  Carve(s, cut.task_queries, carver);
  return carver.used();
}

DenseAmxWork PlanTask(const DenseShape& s, const Cut& cut, int64_t task, float* scratch) {
  const int64_t part = task % cut.tasks_per_group;
  const int64_t first = part * cut.task_queries;
  const int64_t queries = std::min(cut.task_queries, cut.group_queries - first);
  ScratchCarver carver(scratch);
  DenseAmxWork w = Carve(s, queries, carver);
  w.head = task / (cut.tasks_per_group * cut.groups);
  w.first_query = task / cut.tasks_per_group % cut.groups * cut.group_queries + first;
  w.queries = queries;
  w.keys_visible = VisibleKeyFrames(s, w.first_query) * s.tokens_per_frame;
  return w;
}

// Tasks of one head follow one another, so that threads share its keys in the cache.
void RunTasks(const DenseArgs& args,
              void (*attend_queries)(const DenseArgs&, const DenseAmxWork&)) {
  const DenseShape& s = args.shape;
  const Cut cut = CutQueries(s, ThreadCount());
  const int64_t floats = TaskFloats(s, cut);
  ParallelTasks(s.heads * cut.groups * cut.tasks_per_group, [&](int64_t task, int worker) {
    float* scratch = static_cast<float*>(args.scratch) + worker * floats;
    attend_queries(args, PlanTask(s, cut, task, scratch));
  });
}

const char* RefusesTiles(const DenseShape& shape) {
  if (shape.storage != StorageType::kBF16) return "it multiplies bfloat16 only";
  if (shape.head_dim % 32 != 0) return "head_dim is not a multiple of 32, the depth of its tiles";
  return nullptr;
}

}  // namespace

const char* DenseAmxRefuses(const DenseShape& shape, const CpuFeatures& cpu) {
  if (!cpu.amx_bf16) return "the CPU has no AMX with bf16, or the system does not grant it";
  return RefusesTiles(shape);
}

const char* DenseAvx512Bf16Refuses(const DenseShape& shape, const CpuFeatures& cpu) {
  if (!cpu.avx512_bf16) return "the CPU has no AVX-512 with dot products of bf16";
  return RefusesTiles(shape);
}

int64_t DenseAmxScratchBytes(const DenseShape& shape, int threads) {
  return threads * TaskFloats(shape, CutQueries(shape, threads)) * int64_t{sizeof(float)};
}

void RunDenseAmx(const DenseArgs& args) { RunTasks(args, amx::AttendQueries); }
void RunDenseAvx512Bf16(const DenseArgs& args) { RunTasks(args, avx512_bf16::AttendQueries); }

}  // namespace mrt
