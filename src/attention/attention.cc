#include "monarchrt/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/cpu_features.h"
#include "base/guard.h"
#include "base/large_memory.h"
#include "base/memory_info.h"
#include "base/threads.h"
#include "kernels/dense/dense.h"
#include "kernels/monarch/monarch.h"
#include "kernels/sparse/sparse.h"

namespace monarchrt {
namespace {

using namespace mrt;  // here both worlds meet

// What x86-64 can address: larger tensors cannot be.
constexpr int64_t kTensorBytesMax = int64_t{1} << 47;
// Below this, scratch memory is not worth asking the system for what it has left.
constexpr int64_t kLargeScratchBytes = int64_t{256} << 20;
// More than this goes back to the system after a call.
constexpr int64_t kKeptScratchBytesMax = int64_t{256} << 20;

Status Bad(const std::string& what) { return InvalidArgument("[attention] got " + what); }

/// The sizes of one element of the batch.
struct Extents {
  int64_t tokens_per_frame = 0;
  int64_t q_bytes = 0;
  int64_t kv_bytes = 0;
};

/// a * b * ..., or -1 if that is more than kTensorBytesMax. All factors are at least 1.
int64_t Product(std::span<const int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor > kTensorBytesMax / product) return -1;
    product *= factor;
  }
  return product;
}

constexpr struct {
  AttentionMode mode;
  const char* name;
} kModes[] = {{AttentionMode::kDense, "dense"},
              {AttentionMode::kMonarch, "monarch"},
              {AttentionMode::kTopK, "topk"},
              {AttentionMode::kWindow, "window"},
              {AttentionMode::kRadial, "radial"}};

Result<Extents> Check(const AttentionOptions& options, const AttentionProblem& p) {
  if (std::ranges::none_of(kModes, [&](const auto& known) { return known.mode == options.mode; }))
    return Bad("an unknown mode, need one of AttentionMode");
  const struct {
    const char* name;
    int64_t value;
  } sizes[] = {{"batch", p.batch},      {"frames_q", p.frames_q}, {"frames_kv", p.frames_kv},
               {"rows", p.rows},        {"cols", p.cols},         {"heads", p.heads},
               {"head_dim", p.head_dim}};
  for (const auto& size : sizes)
    if (size.value < 1)
      return Bad(std::string(size.name) + " " + std::to_string(size.value) + ", need at least 1");
  if (p.element != ElementType::kF32 && p.element != ElementType::kBF16)
    return Bad("an unknown element type, need kF32 or kBF16");
  if (p.kv_layout != AttentionKvLayout::kTokenMajor && p.kv_layout != AttentionKvLayout::kHeadMajor)
    return Bad("an unknown kv_layout, need kTokenMajor or kHeadMajor");
  const int64_t bytes = p.element == ElementType::kF32 ? 4 : 2;
  for (const int64_t frames : {p.frames_q, p.frames_kv}) {
    const int64_t factors[] = {p.batch, frames, p.rows, p.cols, p.heads, p.head_dim, bytes};
    if (Product(factors) < 0) return Bad("tensors of more than 2^47 bytes, need less");
  }
  const int64_t tokens = int64_t{p.rows} * p.cols;
  const int64_t frame_bytes = tokens * p.heads * p.head_dim * bytes;
  return Extents{.tokens_per_frame = tokens,
                 .q_bytes = p.frames_q * frame_bytes,
                 .kv_bytes = p.frames_kv * frame_bytes};
}

StorageType StorageOf(const AttentionProblem& p) {
  return p.element == ElementType::kF32 ? StorageType::kF32 : StorageType::kBF16;
}

KvLayout LayoutOf(const AttentionProblem& p) {
  return p.kv_layout == AttentionKvLayout::kHeadMajor ? KvLayout::kHeadMajor
                                                      : KvLayout::kTokenMajor;
}

MonarchShape ShapeOfMonarch(const AttentionOptions& options, const AttentionProblem& p) {
  return {.heads = p.heads,
          .frames_q = p.frames_q,
          .frames_kv = p.frames_kv,
          .rows = p.rows,
          .cols = p.cols,
          .head_dim = p.head_dim,
          .f_tied = options.f_tied,
          .h_reduce = options.h_reduce,
          .w_reduce = options.w_reduce,
          .iterations = options.iterations,
          .causal_block_frames = p.causal_block_frames,
          .storage = StorageOf(p),
          .kv_layout = LayoutOf(p)};
}

DenseShape ShapeOfDense(const AttentionProblem& p, const Extents& extents) {
  return {.heads = p.heads,
          .tokens_q = p.frames_q * extents.tokens_per_frame,
          .tokens_per_frame = extents.tokens_per_frame,
          .frames_kv = p.frames_kv,
          .head_dim = p.head_dim,
          .causal_block_frames = p.causal_block_frames,
          .scale = 1.0f / std::sqrt(static_cast<float>(p.head_dim)),
          .storage = StorageOf(p),
          .kv_layout = LayoutOf(p)};
}

SparseShape ShapeOfSparse(const AttentionOptions& options, const AttentionProblem& p) {
  return {.pattern = options.mode == AttentionMode::kTopK     ? SparsePattern::kTopK
                     : options.mode == AttentionMode::kWindow ? SparsePattern::kWindow
                                                              : SparsePattern::kRadial,
          .density = options.density,
          .heads = p.heads,
          .frames_q = p.frames_q,
          .frames_kv = p.frames_kv,
          .rows = p.rows,
          .cols = p.cols,
          .head_dim = p.head_dim,
          .causal_block_frames = p.causal_block_frames,
          .storage = StorageOf(p),
          .kv_layout = LayoutOf(p)};
}

bool Overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  // Differences of unsigned numbers wrap around: an end that does not exist is never computed.
  const auto at_a = reinterpret_cast<uintptr_t>(a), at_b = reinterpret_cast<uintptr_t>(b);
  return at_b - at_a < static_cast<uintptr_t>(a_bytes) ||
         at_a - at_b < static_cast<uintptr_t>(b_bytes);
}

struct TensorOfCall {
  const char* name;
  const void* data;
  int64_t bytes;  // of the whole batch
  StorageType type;
  bool written;
};

Status CheckTensors(std::span<const TensorOfCall> tensors) {
  for (const TensorOfCall& t : tensors) {
    if (t.data == nullptr) return Bad(std::string("no ") + t.name + ", need a tensor");
    const int64_t alignment = StorageBytes(t.type);
    if (reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(alignment) != 0)
      return Bad(std::string(t.name) + " at an unaligned address, need a multiple of " +
                 std::to_string(alignment));
  }
  for (const TensorOfCall& to : tensors)
    for (const TensorOfCall& other : tensors)
      if (to.written && &to != &other && Overlap(other.data, other.bytes, to.data, to.bytes))
        return Bad(std::string(to.name == std::string_view("out") ? "an " : "a ") + to.name +
                   " that overlaps " + other.name + ", need memory of its own");
  return {};
}

struct ScratchBlock {
  explicit ScratchBlock(int64_t size) : data(AllocateLarge(size)), bytes(size) {}
  ScratchBlock(const ScratchBlock&) = delete;
  ScratchBlock& operator=(const ScratchBlock&) = delete;
  ~ScratchBlock() { std::free(data); }
  void* const data;
  const int64_t bytes;
};

// That of a call before, for the next: the system would have to clear its pages anew.
std::atomic<ScratchBlock*> kept_scratch = nullptr;

class Scratch {
 public:
  explicit Scratch(int64_t bytes) : block_(kept_scratch.exchange(nullptr)) {
    if (block_ != nullptr && block_->bytes >= bytes) return;
    block_.reset();
    block_ = std::make_unique<ScratchBlock>(bytes);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (block_->bytes <= kKeptScratchBytesMax)
      block_.reset(kept_scratch.exchange(block_.release()));
  }
  void* data() const { return block_->data; }

 private:
  std::unique_ptr<ScratchBlock> block_;
};

Status CheckScratch(int64_t bytes) {
  if (bytes <= kLargeScratchBytes || bytes <= AvailableMemoryBytes()) return {};
  return OutOfMemory("[attention] needs " + std::to_string(bytes >> 20) +
                     " MB of scratch memory, more than is available; fewer threads or smaller "
                     "tiles need less");
}

/// One pointer per frame of x [frames, ...].
template <typename T>
std::vector<T*> FramePointers(T* x, int frames, int64_t frame_bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  std::vector<T*> pointers;
  for (int64_t f = 0; f < frames; ++f)
    pointers.push_back(reinterpret_cast<T*>(reinterpret_cast<Byte*>(x) + f * frame_bytes));
  return pointers;
}

// Args is MonarchArgs, DenseArgs or SparseArgs, whose common fields these are.
template <typename Args, typename Impl, typename Shape>
Status Run(const Impl& impl, const Shape& shape, const AttentionProblem& p,
           const AttentionTensors& t, const Extents& extents) {
  const TensorOfCall checked[] = {{"q", t.q, extents.q_bytes * p.batch, shape.storage, false},
                                  {"k", t.k, extents.kv_bytes * p.batch, shape.storage, false},
                                  {"v", t.v, extents.kv_bytes * p.batch, shape.storage, false},
                                  {"out", t.out, extents.q_bytes * p.batch, shape.storage, true}};
  MRT_RETURN_IF_ERROR(CheckTensors(checked));
  const int64_t scratch_bytes = impl.scratch_bytes(shape, ThreadCount());
  MRT_RETURN_IF_ERROR(CheckScratch(scratch_bytes));
  const Scratch scratch(scratch_bytes);
  const int64_t frame_bytes = extents.kv_bytes / p.frames_kv;
  for (int64_t b = 0; b < p.batch; ++b) {
    const auto part = [&](const void* x, int64_t bytes) -> const void* {
      return static_cast<const char*>(x) + b * bytes;
    };
    impl.run(Args{
        .shape = shape,
        .q = part(t.q, extents.q_bytes),
        .k_frames = FramePointers(part(t.k, extents.kv_bytes), p.frames_kv, frame_bytes).data(),
        .v_frames = FramePointers(part(t.v, extents.kv_bytes), p.frames_kv, frame_bytes).data(),
        .out = static_cast<char*>(t.out) + b * extents.q_bytes,
        .scratch = scratch.data()});
  }
  return {};
}

Status RunBackward(const MonarchBackwardImpl& impl, const MonarchShape& shape,
                   const AttentionProblem& p, const AttentionTensors& t,
                   const AttentionGradients& g, const Extents& extents) {
  const int64_t element_bytes = StorageBytes(shape.storage);
  const int64_t q_floats = extents.q_bytes / element_bytes;
  const int64_t kv_floats = extents.kv_bytes / element_bytes;
  const auto float_bytes = [&](int64_t floats) {
    return floats * p.batch * int64_t{sizeof(float)};
  };
  const StorageType f32 = StorageType::kF32;
  const TensorOfCall checked[] = {
      {"q", t.q, extents.q_bytes * p.batch, shape.storage, false},
      {"k", t.k, extents.kv_bytes * p.batch, shape.storage, false},
      {"v", t.v, extents.kv_bytes * p.batch, shape.storage, false},
      {"d_out", g.d_out, extents.q_bytes * p.batch, shape.storage, false},
      {"d_q", g.d_q, float_bytes(q_floats), f32, true},
      {"d_k", g.d_k, float_bytes(kv_floats), f32, true},
      {"d_v", g.d_v, float_bytes(kv_floats), f32, true}};
  MRT_RETURN_IF_ERROR(CheckTensors(checked));
  const int64_t scratch_bytes = impl.scratch_bytes(shape, ThreadCount());
  MRT_RETURN_IF_ERROR(CheckScratch(scratch_bytes));
  const Scratch scratch(scratch_bytes);
  const int64_t frame_bytes = extents.kv_bytes / p.frames_kv;
  const int64_t d_frame_bytes = kv_floats / p.frames_kv * int64_t{sizeof(float)};
  for (int64_t b = 0; b < p.batch; ++b) {
    const auto part = [&](const void* x, int64_t bytes) -> const void* {
      return static_cast<const char*>(x) + b * bytes;
    };
    impl.run(
        {.shape = shape,
         .q = part(t.q, extents.q_bytes),
         .k_frames = FramePointers(part(t.k, extents.kv_bytes), p.frames_kv, frame_bytes).data(),
         .v_frames = FramePointers(part(t.v, extents.kv_bytes), p.frames_kv, frame_bytes).data(),
         .d_out = part(g.d_out, extents.q_bytes),
         .d_q = g.d_q + b * q_floats,
         .d_k_frames = FramePointers(g.d_k + b * kv_floats, p.frames_kv, d_frame_bytes).data(),
         .d_v_frames = FramePointers(g.d_v + b * kv_floats, p.frames_kv, d_frame_bytes).data(),
         .scratch = scratch.data()});
  }
  return {};
}

template <typename Impl, typename Shape>
std::vector<AttentionImplementation> List(std::span<const Impl> impls, const Shape& shape,
                                          const Result<const Impl*>& picked) {
  std::vector<AttentionImplementation> list;
  for (const Impl& impl : impls) {
    const char* why = impl.refuses(shape, GetCpuFeatures());
    list.push_back({.name = impl.name,
                    .refuses = why == nullptr ? "" : why,
                    .chosen = picked.ok() && picked.value() == &impl,
                    .bf16_products = impl.bf16_products});
  }
  return list;
}

}  // namespace

const char* AttentionModeName(AttentionMode mode) {
  for (const auto& known : kModes)
    if (known.mode == mode) return known.name;
  return "unknown";
}

std::vector<AttentionMode> ListAttentionModes() {
  std::vector<AttentionMode> modes;
  for (const auto& known : kModes) modes.push_back(known.mode);
  return modes;
}

Status Attend(const AttentionOptions& options, const AttentionProblem& problem,
              const AttentionTensors& tensors, int threads) {
  return Guard([&]() -> Status {
    MRT_RETURN_IF_ERROR(CheckThreads(threads));
    MRT_ASSIGN_OR_RETURN(const Extents extents, Check(options, problem));
    const ThreadCountScope scope(threads);
    if (options.mode == AttentionMode::kDense) {
      const DenseShape shape = ShapeOfDense(problem, extents);
      MRT_ASSIGN_OR_RETURN(const auto* impl, PickDense(shape, options.implementation.c_str()));
      return Run<DenseArgs>(*impl, shape, problem, tensors, extents);
    }
    if (options.mode == AttentionMode::kMonarch) {
      const MonarchShape shape = ShapeOfMonarch(options, problem);
      MRT_ASSIGN_OR_RETURN(const auto* impl, PickMonarch(shape, options.implementation.c_str()));
      return Run<MonarchArgs>(*impl, shape, problem, tensors, extents);
    }
    const SparseShape shape = ShapeOfSparse(options, problem);
    MRT_ASSIGN_OR_RETURN(const auto* impl, PickSparse(shape, options.implementation.c_str()));
    return Run<SparseArgs>(*impl, shape, problem, tensors, extents);
  });
}

Status MonarchAttentionBackward(const AttentionOptions& options, const AttentionProblem& problem,
                                const AttentionTensors& tensors,
                                const AttentionGradients& gradients, int threads) {
  return Guard([&]() -> Status {
    MRT_RETURN_IF_ERROR(CheckThreads(threads));
    MRT_ASSIGN_OR_RETURN(const Extents extents, Check(options, problem));
    if (options.mode != AttentionMode::kMonarch)
      return Bad(std::string("mode ") + AttentionModeName(options.mode) +
                 ", need monarch: only it has gradients");
    const ThreadCountScope scope(threads);
    const MonarchShape shape = ShapeOfMonarch(options, problem);
    MRT_ASSIGN_OR_RETURN(const auto* impl,
                         PickMonarchBackward(shape, options.implementation.c_str()));
    return RunBackward(*impl, shape, problem, tensors, gradients, extents);
  });
}

Result<std::vector<AttentionImplementation>> ListAttentionImplementations(
    const AttentionOptions& options, const AttentionProblem& problem) {
  using List = std::vector<AttentionImplementation>;
  return Guard([&]() -> Result<List> {
    MRT_ASSIGN_OR_RETURN(const Extents extents, Check(options, problem));
    const char* const forced = options.implementation.c_str();
    if (options.mode == AttentionMode::kDense) {
      const DenseShape shape = ShapeOfDense(problem, extents);
      MRT_RETURN_IF_ERROR(ValidateDense(shape));
      return monarchrt::List(DenseImpls(), shape, PickDense(shape, forced));
    }
    if (options.mode == AttentionMode::kMonarch) {
      const MonarchShape shape = ShapeOfMonarch(options, problem);
      MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
      return monarchrt::List(MonarchImpls(), shape, PickMonarch(shape, forced));
    }
    const SparseShape shape = ShapeOfSparse(options, problem);
    MRT_RETURN_IF_ERROR(ValidateSparse(shape));
    return monarchrt::List(SparseImpls(), shape, PickSparse(shape, forced));
  });
}

Result<double> AttentionSparsity(const AttentionOptions& options, const AttentionProblem& problem) {
  MRT_ASSIGN_OR_RETURN(const double density, AttentionDensity(options, problem));
  return 1 - density;
}

Result<double> AttentionDensity(const AttentionOptions& options, const AttentionProblem& problem) {
  return Guard([&]() -> Result<double> {
    MRT_ASSIGN_OR_RETURN(const Extents extents, Check(options, problem));
    if (options.mode == AttentionMode::kDense) {
      MRT_RETURN_IF_ERROR(ValidateDense(ShapeOfDense(problem, extents)));
      return 1.0;
    }
    if (options.mode == AttentionMode::kMonarch) {
      const MonarchShape shape = ShapeOfMonarch(options, problem);
      MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
      return 1 - MonarchSparsity(shape);
    }
    const SparseShape shape = ShapeOfSparse(options, problem);
    MRT_RETURN_IF_ERROR(ValidateSparse(shape));
    return SparseDensity(shape);
  });
}

Result<double> AttentionFlop(const AttentionOptions& options, const AttentionProblem& problem) {
  return Guard([&]() -> Result<double> {
    MRT_ASSIGN_OR_RETURN(const Extents extents, Check(options, problem));
    if (options.mode == AttentionMode::kDense) {
      const DenseShape shape = ShapeOfDense(problem, extents);
      MRT_RETURN_IF_ERROR(ValidateDense(shape));
      return problem.batch * DenseFlop(shape);
    }
    if (options.mode == AttentionMode::kMonarch) {
      const MonarchShape shape = ShapeOfMonarch(options, problem);
      MRT_RETURN_IF_ERROR(ValidateMonarch(shape));
      return problem.batch * MonarchFlop(shape);
    }
    const SparseShape shape = ShapeOfSparse(options, problem);
    MRT_RETURN_IF_ERROR(ValidateSparse(shape));
    return problem.batch * SparseFlop(shape);
  });
}

}  // namespace monarchrt
