// Channels-last convolution over (time, rows, columns), the weight packed once.
#pragma once

#include <memory>
#include <span>

#include "ops/context.h"
#include "ops/linear.h"

namespace mrt::ops {

struct ConvParams {
  int stride_time = 1;
  int stride_space = 1;  // rows and columns alike
  int pad_top = 0, pad_left = 0, pad_bottom = 0,
      pad_right = 0;  // zeros; time is never padded: the caller
                      // puts the frames before it in front
};

class Conv {
 public:
  static constexpr int64_t kFramesMax = 4;  // of RunFrames

  Conv();
  ~Conv();
  Conv(Conv&&) noexcept;
  Conv& operator=(Conv&&) noexcept;

  /// `weight` [out, in, time, rows, columns], or [out, in, rows, columns] (then each frame on its
  /// own); `bias` [out] or an empty view. Any floating point dtype. Throws on lack of memory.
  Conv(Context& context, const ConstTensorView& weight, const ConstTensorView& bias,
       const ConvParams& params);

  /// x [time, rows, columns, in] -> y of OutputShape(x.shape), both of the activation dtype (y may
  /// be F32).
  void Run(Context& context, const ConstTensorView& x, const TensorView& y,
           Activation activation = Activation::kNone, Output output = Output::kActivation) const;

  /// The frames need not lie one after the other: RunFrames is there, and faster than copying.
  bool takes_frames() const;
  /// y [1, rows, columns, out] from as many frames as the kernel covers, each act [1, rows,
  /// columns, in], the oldest first. With `add`, y += the result, without an activation.
  void RunFrames(Context& context, std::span<const ConstTensorView> frames, const TensorView& y,
                 bool add = false, Activation activation = Activation::kNone) const;

  /// [time, rows, columns, out] for an input of that shape.
  Shape OutputShape(const Shape& x) const;

  int64_t in_channels() const;
  int64_t out_channels() const;
  int64_t bytes() const;
  bool empty() const { return impl_ == nullptr; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mrt::ops
