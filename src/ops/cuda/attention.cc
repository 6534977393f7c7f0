// Attention: tensors to the kernels of kernels/dense/cuda and kernels/monarch/cuda.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/dense/cuda/dense_cuda.h"
#include "kernels/monarch/cuda/monarch_cuda.h"
#include "ops/cuda/cuda_backend.h"
#include "ops/monarch_shape.h"

namespace mrt::ops {
namespace {

// What RunMonarchCuda wants of its scratch.
constexpr int64_t kScratchAlignment = 256;

MonarchShape CudaMonarchShape(const AttentionConfig& config, const AttentionGrid& grid,
                              int frames_q, int frames_kv) {
  return MonarchShapeOf(config, grid, frames_q, frames_kv, StorageType::kBF16,
                        KvLayout::kTokenMajor);
}

DenseCudaArgs DenseArgsOf(const AttentionGrid& grid, int frames_q, int frames_kv) {
  const int64_t tokens_per_frame = int64_t{grid.rows} * grid.cols;
  return {.heads = grid.heads,
          .head_dim = grid.head_dim,
          .tokens_q = frames_q * tokens_per_frame,
          .tokens_per_frame = tokens_per_frame,
          .frames_kv = frames_kv,
          .scale = 1.0f / std::sqrt(static_cast<float>(grid.head_dim))};
}

/// The shapes were validated before, so this is the device's.
void Check(const Status& status) {
  if (status.ok()) return;
  if (status.code() == StatusCode::kOutOfMemory) throw std::bad_alloc();
  throw std::runtime_error(status.message());
}

}  // namespace

Status CudaBackend::ValidateAttention(const AttentionConfig& config, const AttentionGrid& grid,
                                      int frames_q, int frames_kv) {
  static_cast<void>(stream());  // the kernels ask the current device
  if (!config.implementation.empty() && config.implementation != "cuda")
    return InvalidArgument("[attention] got the implementation '" + config.implementation +
                           "', need 'cuda' on a GPU");
  switch (config.mode) {
    case AttentionMode::kDense: {
      // Any pointer that is aligned does: the shape is what is asked for.
      alignas(16) static const char somewhere[16] = {};
      const std::vector<const void*> frames(static_cast<size_t>(std::max(frames_kv, 0)), somewhere);
      DenseCudaArgs args = DenseArgsOf(grid, frames_q, frames_kv);
      args.q = somewhere;
      args.k_frames = args.v_frames = frames.data();
      args.out = const_cast<char*>(somewhere);
      return ValidateDenseCuda(args);
    }
    case AttentionMode::kMonarch:
      return MonarchCudaScratchBytes(CudaMonarchShape(config, grid, frames_q, frames_kv)).status();
    case AttentionMode::kTopK:
    case AttentionMode::kWindow:
    case AttentionMode::kRadial: break;
  }
  return Unavailable("[attention] got a sparse baseline, need 'dense' or 'monarch' on a GPU");
}

int64_t CudaBackend::AttentionScratchBytes(const AttentionConfig& config, const AttentionGrid& grid,
                                           int frames_q, int frames_kv) {
  static_cast<void>(stream());
  if (config.mode != AttentionMode::kMonarch) return 0;
  const Result<int64_t> bytes =
      MonarchCudaScratchBytes(CudaMonarchShape(config, grid, frames_q, frames_kv));
  Check(bytes.status());
  return bytes.value();
}

void CudaBackend::SelfAttention(Context& context, const AttentionConfig& config,
                                const AttentionGrid& grid, const ConstTensorView& q,
                                const KvFrames& kv, const TensorView& out) {
  MRT_CHECK(q.dtype == DType::kBF16 && out.dtype == DType::kBF16 && kv.dtype == DType::kBF16);
  const int frames_q = static_cast<int>(q.shape[0]), frames_kv = static_cast<int>(kv.size());
  if (config.mode == AttentionMode::kDense) {
    DenseCudaArgs args = DenseArgsOf(grid, frames_q, frames_kv);
    args.q = q.data;
    args.k_frames = kv.keys.data();
    args.v_frames = kv.values.data();
    args.out = out.data;
    return Check(RunDenseCuda(args, stream()));
  }
  MRT_CHECK(config.mode == AttentionMode::kMonarch);
  const ArenaScope scope(context.arena());
  const int64_t bytes = AttentionScratchBytes(config, grid, frames_q, frames_kv);
  void* const scratch = context.arena().Allocate(DType::kU8, Shape{bytes}).data;
  MRT_CHECK(reinterpret_cast<uintptr_t>(scratch) % kScratchAlignment == 0);
  Check(RunMonarchCuda({.shape = CudaMonarchShape(config, grid, frames_q, frames_kv),
                        .q = q.data,
                        .k_frames = kv.keys.data(),
                        .v_frames = kv.values.data(),
                        .out = out.data,
                        .scratch = scratch},
                       stream()));
}

void CudaBackend::DenseAttention(Context&, const ConstTensorView& q, const ConstTensorView& k,
                                 const ConstTensorView& v, float scale, const ConstTensorView& bias,
                                 const TensorView& out) {
  MRT_CHECK(q.dtype == DType::kBF16);
  DenseCudaArgs args = {.heads = static_cast<int>(q.shape[1]),
                        .head_dim = static_cast<int>(q.shape[2]),
                        .tokens_q = q.shape[0],
                        .tokens_per_frame = k.shape[0],
                        .frames_kv = 1,
                        .scale = scale,
                        .q = q.data,
                        .k_frames = &k.data,
                        .v_frames = &v.data,
                        .bias = bias.empty() ? nullptr : bias.as<float>(),
                        .out = out.data};
  if (bias.shape.rank() == 2) {  // by distance
    args.bias += args.tokens_q - 1;
    args.bias_head_stride = bias.shape[1];
    args.bias_query_stride = -1;
  } else if (bias.shape.rank() == 3) {
    args.bias_head_stride = bias.shape[1] * bias.shape[2];
    args.bias_query_stride = bias.shape[2];
  }
  Check(RunDenseCuda(args, stream()));
}

}  // namespace mrt::ops
