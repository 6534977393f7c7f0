// From a timestep to the vectors that modulate every block.
//
// All of it is float32 in every precision: it is a few rows only, and an error here shifts all
// tokens of a frame alike instead of averaging out. Rounded to bfloat16 it would raise the error of
// the golden flows by 6 % (one step) to 12 % (two refinement steps). It is computed on the CPU, in
// host memory, whatever the context's backend.
#pragma once

#include <cstdint>
#include <span>

#include "model/wan/config.h"
#include "ops/context.h"

namespace mrt {

class TimeEmbedding {
 public:
  TimeEmbedding() = default;
  /// Packs time_embedding.{0,2} and time_projection.1 of a checkpoint that has them.
  TimeEmbedding(const WanConfig& config, const Checkpoint& checkpoint);

  /// timesteps [n] -> embedding F32 [n, dim] and projection F32 [6, n, dim], where
  ///   embedding  = Linear2(SiLU(Linear0(features)))     projection = Linear(SiLU(embedding))
  /// and the features of t are cos, then sin, of t * 10000^(-i / half), half = freq_dim / 2.
  void Run(ops::Context& context, std::span<const float> timesteps, const TensorView& embedding,
           const TensorView& projection) const;

  int64_t bytes() const;

 private:
  struct FloatLinear {
    Tensor weight;  // F32 [in, out]: transposed, so that the inner loop runs over outputs
    Tensor bias;    // F32 [out]

    FloatLinear() = default;
    FloatLinear(const ConstTensorView& weight_out_in, const ConstTensorView& bias_out);
    /// x [in] -> y [out]
    void Run(const float* x, float* y) const;
  };

  int64_t freq_dim_ = 0;
  FloatLinear linear0_, linear2_, projection_;
};

}  // namespace mrt
