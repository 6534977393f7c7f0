#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/threads.h"
#include "kernels/dense/dense.h"
#include "kernels/monarch/monarch.h"
#include "kernels/sparse/sparse.h"
#include "ops/backend.h"
#include "ops/monarch_shape.h"
#include "ops/operation_span.h"
#include "ops/storage.h"

namespace mrt::ops {
namespace {

MonarchShape ShapeOfMonarch(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                            int frames_kv, StorageType storage) {
  return MonarchShapeOf(config, grid, frames_q, frames_kv, storage, kKvLayout);
}

DenseShape ShapeOfDense(const AttentionGrid& grid, int frames_q, int frames_kv,
                        StorageType storage) {
  const int64_t tokens_per_frame = int64_t{grid.rows} * grid.cols;
  return {.heads = grid.heads,
          .tokens_q = frames_q * tokens_per_frame,
          .tokens_per_frame = tokens_per_frame,
          .frames_kv = frames_kv,
          .head_dim = grid.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(grid.head_dim)),
          .storage = storage,
          .kv_layout = kKvLayout};
}

SparseShape ShapeOfSparse(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                          int frames_kv, StorageType storage) {
  return {.pattern = config.mode == AttentionMode::kTopK     ? SparsePattern::kTopK
                     : config.mode == AttentionMode::kWindow ? SparsePattern::kWindow
                                                             : SparsePattern::kRadial,
          .density = config.density,
          .heads = grid.heads,
          .frames_q = frames_q,
          .frames_kv = frames_kv,
          .rows = grid.rows,
          .cols = grid.cols,
          .head_dim = grid.head_dim,
          .storage = storage,
          .kv_layout = kKvLayout};
}

/// Ok if `part` divides `whole`; otherwise names the nearest values that do.
Status ValidateDivides(const std::string& name, int part, int whole, const std::string& of) {
  if (part >= 1 && whole % part == 0) return {};
  int below = std::min(std::max(part, 1), whole), above = std::max(part, 1);
  while (whole % below != 0) --below;
  while (above < whole && whole % above != 0) ++above;
  std::string need = std::to_string(below);
  if (above <= whole && above != below) need += " or " + std::to_string(above);
  return InvalidArgument("[attention] got " + name + " " + std::to_string(part) + " for " + of +
                         ", need a divisor: " + need);
}

Status ValidateTiling(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                      int frames_kv) {
  if (grid.rows < 1 || grid.cols < 1 || frames_q < 1 || frames_kv < 1) return {};
  MRT_RETURN_IF_ERROR(
      ValidateDivides("h_reduce", config.h_reduce, grid.rows, std::to_string(grid.rows) + " rows"));
  MRT_RETURN_IF_ERROR(ValidateDivides("w_reduce", config.w_reduce, grid.cols,
                                      std::to_string(grid.cols) + " columns"));
  return ValidateDivides(
      "f_tied", config.f_tied, std::gcd(frames_q, frames_kv),
      std::to_string(frames_q) + " query and " + std::to_string(frames_kv) + " key frames");
}

template <typename Impl, typename Args>
void RunInArena(Context& context, const Impl& impl, Args args) {
  ArenaScope scope(context.arena());
  const int64_t scratch_bytes = impl.scratch_bytes(args.shape, ThreadCount());
  if (scratch_bytes > 0)
    args.scratch = context.arena().Allocate(DType::kU8, Shape{scratch_bytes}).data;
  impl.run(args);
}

/// [heads, tokens_q + tokens_kv - 1] by distance -> [heads, tokens_q, tokens_kv], in the arena.
TensorView SpreadBias(Context& context, const ConstTensorView& lines, int64_t tokens_q,
                      int64_t tokens_kv) {
  constexpr int64_t kGrain = 64;  // rows worth a thread
  const int64_t heads = lines.shape[0], line = lines.shape[1];
  const TensorView bias = context.Float({heads, tokens_q, tokens_kv});
  ParallelFor(heads * tokens_q, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      std::copy_n(lines.as<float>() + row / tokens_q * line + (tokens_q - 1 - row % tokens_q),
                  tokens_kv, bias.as<float>() + row * tokens_kv);
  });
  return bias;
}

/// The choice was validated before: a refusal here is a defect.
template <typename Impl>
const Impl& Picked(const Result<const Impl*>& picked) {
  MRT_CHECK(picked.ok());
  return *picked.value();
}

/// The row that MRT_DENSE_IMPL names if it takes the shape, else the best: text and VAE attention
/// come in shapes that some rows refuse, such as float32 on AMX.
const DenseImpl& NamedOrBest(const DenseShape& shape) {
  if (const Result<const DenseImpl*> named = PickDense(shape); named.ok()) return **named;
  const auto impls = DenseImpls();
  const auto takes = [&](const DenseImpl& impl) {
    return impl.refuses(shape, GetCpuFeatures()) == nullptr;
  };
  return *std::ranges::find_if(impls, takes);  // the last one takes everything
}

}  // namespace

Status ValidateAttention(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                         int frames_kv, Precision precision, Backend* backend) {
  const StorageType storage =
      precision == Precision::kBF16 ? StorageType::kBF16 : StorageType::kF32;
  if (backend != nullptr && !config.implementation.empty())
    return InvalidArgument("[attention] got implementation '" + config.implementation +
                           "', kernels have names to choose from on device cpu only");
  // What a kernel would refuse too, but it does not know which values would do.
  if (config.mode == AttentionMode::kMonarch)
    MRT_RETURN_IF_ERROR(ValidateTiling(config, grid, frames_q, frames_kv));
  if (backend != nullptr) return backend->ValidateAttention(config, grid, frames_q, frames_kv);
  if (config.mode == AttentionMode::kDense)
    return PickDense(ShapeOfDense(grid, frames_q, frames_kv, storage),
                     config.implementation.c_str())
        .status();
  if (config.mode != AttentionMode::kMonarch)
    return PickSparse(ShapeOfSparse(config, grid, frames_q, frames_kv, storage),
                      config.implementation.c_str())
        .status();
  return PickMonarch(ShapeOfMonarch(config, grid, frames_q, frames_kv, storage),
                     config.implementation.c_str())
      .status();
}

double AttentionDensity(const AttentionConfig& config, const AttentionGrid& grid, int frames_q,
                        int frames_kv) {
  constexpr StorageType kAny = StorageType::kF32;
  if (config.mode == AttentionMode::kDense) return 1;
  if (config.mode == AttentionMode::kMonarch)
    return 1 - MonarchSparsity(ShapeOfMonarch(config, grid, frames_q, frames_kv, kAny));
  return SparseDensity(ShapeOfSparse(config, grid, frames_q, frames_kv, kAny));
}

int64_t AttentionScratchBytes(const AttentionConfig& config, const AttentionGrid& grid,
                              int frames_q, int frames_kv, Precision precision, Backend* backend) {
  if (backend != nullptr) return backend->AttentionScratchBytes(config, grid, frames_q, frames_kv);
  const StorageType storage =
      precision == Precision::kBF16 ? StorageType::kBF16 : StorageType::kF32;
  if (config.mode == AttentionMode::kDense) {
    const DenseShape shape = ShapeOfDense(grid, frames_q, frames_kv, storage);
    return Picked(PickDense(shape, config.implementation.c_str()))
        .scratch_bytes(shape, ThreadCount());
  }
  if (config.mode != AttentionMode::kMonarch) {
    const SparseShape shape = ShapeOfSparse(config, grid, frames_q, frames_kv, storage);
    return Picked(PickSparse(shape, config.implementation.c_str()))
        .scratch_bytes(shape, ThreadCount());
  }
  const MonarchShape shape = ShapeOfMonarch(config, grid, frames_q, frames_kv, storage);
  return Picked(PickMonarch(shape, config.implementation.c_str()))
      .scratch_bytes(shape, ThreadCount());
}

void SelfAttention(Context& context, const AttentionConfig& config, const AttentionGrid& grid,
                   const ConstTensorView& q, const KvFrames& kv, const TensorView& out) {
  MRT_CHECK(kv.keys.size() == kv.values.size() && q.dtype == out.dtype);
  MRT_CHECK(kv.dtype == q.dtype || kv.dtype == DType::kBF16);
  MRT_CHECK(q.dtype == context.activation() && q.shape.elements() == out.shape.elements());
  Backend* const backend = context.backend();
  const int frames_q = static_cast<int>(q.shape[0]);
  const int frames_kv = static_cast<int>(kv.size());
  const StorageType storage = Storage(q.dtype);
  // q and out, keys and values.
  const bool kv_bf16 = kv.dtype == DType::kBF16;
  const int64_t frame_elements = q.shape.elements() / frames_q;
  const auto kv_bytes = static_cast<double>(frame_elements * DTypeSize(kv.dtype));
  const double bytes = 2 * (BytesOf(q) + kv_bytes * frames_kv);
  if (config.mode == AttentionMode::kDense) {
    DenseShape shape = ShapeOfDense(grid, frames_q, frames_kv, storage);
    shape.kv_bf16 = kv_bf16;
    const OperationSpan span(context, "dense attention", SpanKind::kMatrix,
                             {.flop = DenseFlop(shape), .bytes = bytes});
    if (backend != nullptr) return backend->SelfAttention(context, config, grid, q, kv, out);
    RunInArena(context, Picked(PickDense(shape, config.implementation.c_str())),
               DenseArgs{.shape = shape,
                         .q = q.data,
                         .k_frames = kv.keys.data(),
                         .v_frames = kv.values.data(),
                         .out = out.data});
  } else if (config.mode == AttentionMode::kMonarch) {
    MonarchShape shape = ShapeOfMonarch(config, grid, frames_q, frames_kv, storage);
    shape.kv_bf16 = kv_bf16;
    const OperationSpan span(context, "monarch attention", SpanKind::kMatrix,
                             {.flop = MonarchFlop(shape), .bytes = bytes});
    if (backend != nullptr) return backend->SelfAttention(context, config, grid, q, kv, out);
    RunInArena(context, Picked(PickMonarch(shape, config.implementation.c_str())),
               MonarchArgs{.shape = shape,
                           .q = q.data,
                           .k_frames = kv.keys.data(),
                           .v_frames = kv.values.data(),
                           .out = out.data});
  } else {
    SparseShape shape = ShapeOfSparse(config, grid, frames_q, frames_kv, storage);
    shape.kv_bf16 = kv_bf16;
    const OperationSpan span(context, "sparse attention", SpanKind::kMatrix,
                             {.flop = SparseFlop(shape), .bytes = bytes});
    if (backend != nullptr) return backend->SelfAttention(context, config, grid, q, kv, out);
    RunInArena(context, Picked(PickSparse(shape, config.implementation.c_str())),
               SparseArgs{.shape = shape,
                          .q = q.data,
                          .k_frames = kv.keys.data(),
                          .v_frames = kv.values.data(),
                          .out = out.data});
  }
  context.RoundActivation(out);
}

void DenseAttention(Context& context, const ConstTensorView& q, const ConstTensorView& k,
                    const ConstTensorView& v, float scale, const ConstTensorView& bias,
                    const TensorView& out) {
  MRT_CHECK(q.shape.rank() == 3 && k.shape.rank() == 3 && k.shape == v.shape &&
            q.shape == out.shape);
  MRT_CHECK(q.shape[1] == k.shape[1] && q.shape[2] == k.shape[2]);
  MRT_CHECK(q.dtype == k.dtype && q.dtype == v.dtype && q.dtype == out.dtype);
  const int64_t heads = q.shape[1], tokens_q = q.shape[0], tokens_kv = k.shape[0];
  const bool key_bias = !bias.empty() && bias.shape == Shape{tokens_kv};
  const bool by_distance = !bias.empty() && bias.shape == Shape{heads, tokens_q + tokens_kv - 1};
  MRT_CHECK(bias.empty() || key_bias || by_distance ||
            (bias.shape == Shape{heads, tokens_q, tokens_kv}));
  const DenseShape shape{.heads = static_cast<int>(q.shape[1]),
                         .tokens_q = q.shape[0],
                         .tokens_per_frame = k.shape[0],
                         .frames_kv = 1,
                         .head_dim = static_cast<int>(q.shape[2]),
                         .scale = scale,
                         .storage = Storage(q.dtype)};
  const OperationSpan span(
      context, "text and vae attention", SpanKind::kMatrix,
      {.flop = DenseFlop(shape), .bytes = BytesOf(q) + BytesOf(k) + BytesOf(v) + BytesOf(out)});
  if (Backend* backend = context.backend())
    return backend->DenseAttention(context, q, k, v, scale, bias, out);
  const ArenaScope scope(context.arena());
  const ConstTensorView spread =
      by_distance ? SpreadBias(context, bias, tokens_q, tokens_kv) : bias;
  RunInArena(context, NamedOrBest(shape),
             DenseArgs{.shape = shape,
                       .q = q.data,
                       .k_frames = &k.data,
                       .v_frames = &v.data,
                       .bias = spread.empty() ? nullptr : spread.as<float>(),
                       .key_bias = key_bias,
                       .out = out.data});
  context.RoundActivation(out);
}

}  // namespace mrt::ops
