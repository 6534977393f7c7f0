// Channels-last convolution over (time, rows, columns) on an NVIDIA GPU: bf16, sums in float32,
// compute capability 8.0 or higher. RunConvCuda is built only with MRT_CUDA.
//
//   y[t,r,c,o] = act(bias[o] + sum over (a,b,d,i) of
//                    x[t*stride_time + a, r*stride_space + b - pad_top,
//                      c*stride_space + d - pad_left, i] * w[o,i,a,b,d])
//
// with x = 0 outside its rows and columns. Time is never padded.
#pragma once

#include <cstdint>
#include <string>

#include "base/float16.h"
#include "base/status.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace mrt {

struct ConvCudaShape {
  int64_t time = 1, rows = 1, cols = 1, in = 1;  // of x
  int64_t out = 1;
  int64_t kernel_time = 1, kernel_rows = 1, kernel_cols = 1;
  int64_t stride_time = 1, stride_space = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;

  int64_t taps() const { return kernel_time * kernel_rows * kernel_cols; }
  int64_t out_time() const { return (time - kernel_time) / stride_time + 1; }
  int64_t out_rows() const {
    return (rows + pad_top + pad_bottom - kernel_rows) / stride_space + 1;
  }
  int64_t out_cols() const {
    return (cols + pad_left + pad_right - kernel_cols) / stride_space + 1;
  }
  std::string ToString() const;
};

enum class ConvCudaActivation { kNone, kGeluTanh, kSilu, kRelu };

struct ConvCudaArgs {
  ConvCudaShape shape;
  const void* x = nullptr;       // bf16 [time, rows, cols, in]
  const void* weight = nullptr;  // of PackConvCuda, 16-byte aligned
  const float* bias = nullptr;   // [out], or null
  ConvCudaActivation activation = ConvCudaActivation::kNone;
  void* y = nullptr;   // [out_time, out_rows, out_cols, out]; must not alias x
  bool y_f32 = false;  // else bf16
};

/// How the kernel wants a weight: [rows, pitch] with zeros where there is nothing. Columns are
/// taps, of each the input channels padded to 8.
struct ConvCudaPacking {
  int block_columns = 0;  // output channels of a block: 32, 64, 96 or 128
  int64_t rows = 0;       // out, padded to whole blocks
  int64_t channels = 0;   // in, padded
  int64_t pitch = 0;      // taps * channels, padded

  int64_t elements() const { return rows * pitch; }
};
ConvCudaPacking ConvCudaPackingOf(int64_t out, int64_t in, int64_t taps);

/// Row `o` of the packed weight from w[o] = [in, taps].
void PackConvCudaRow(const ConvCudaPacking& packing, int64_t in, int64_t taps, const float* w,
                     BFloat16* row);

/// Ok, or InvalidArgument with the shape.
Status ValidateConvCuda(const ConvCudaShape& shape);

/// Puts the operation on the stream and returns; needs no scratch, and the result does not change
/// from run to run. All pointers are device memory. Fast if `in` is a multiple of 8 and x 16-byte
/// aligned. Errors: as above; Unavailable if there is no device that has the kernel; Internal with
/// the CUDA call's own words.
Status RunConvCuda(const ConvCudaArgs& args, CUstream_st* stream);

}  // namespace mrt
