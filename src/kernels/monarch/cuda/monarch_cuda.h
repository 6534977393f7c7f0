// Monarch attention on an NVIDIA GPU: the operation of kernels/monarch/monarch.h, bf16 or f16,
// head_dim 64 or 128, compute capability 9.0; its derivatives of one step, bf16, of tiles of at
// most 80 columns. Built only with MRT_CUDA. docs/attention.md says how it works.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/monarch/monarch.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace mrt {

/// Bytes of device memory that RunMonarchCuda needs for this shape on the current device: up to
/// 640 MB, whatever frames_kv is. More, and then in proportion to frames_kv, only for f16 or more
/// than one step of a shape where the means of one query tile and head take more. InvalidArgument
/// for a bad shape, Unavailable with the reason if no kernel takes it or there is no device.
Result<int64_t> MonarchCudaScratchBytes(const MonarchShape& shape);

/// Puts the operation on the stream and returns; the result does not change from run to run.
/// `args` as in monarch.h, but q, out and every key and value frame are device memory, 16-byte
/// aligned; k_frames and v_frames themselves are host arrays, read before the call returns; scratch
/// is device memory, 256-byte aligned, and belongs to the call until the stream has passed it.
/// Errors: as above; InvalidArgument for a pointer that is null or not aligned; Internal with the
/// CUDA call's own words, OutOfMemory if that is what it says.
Status RunMonarchCuda(const MonarchArgs& args, CUstream_st* stream);

/// The plan of this shape on the current device in one line, for logs. The environment variable
/// MRT_MONARCH_CUDA_IMPL forces a kernel, "ring", "resident" or "passes": then the functions above
/// are Unavailable where it takes no such shape.
Result<std::string> DescribeMonarchCuda(const MonarchShape& shape);

/// As MonarchCudaScratchBytes, for RunMonarchBackwardCuda.
Result<int64_t> MonarchBackwardCudaScratchBytes(const MonarchShape& shape);

/// Puts the derivatives of monarch.h on the stream and returns, as RunMonarchCuda does. q, d_out,
/// d_q and every frame are device memory, 16-byte aligned; the arrays of frames are the host's.
Status RunMonarchBackwardCuda(const MonarchBackwardArgs& args, CUstream_st* stream);

}  // namespace mrt
