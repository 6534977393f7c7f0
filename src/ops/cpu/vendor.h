// oneDNN's side of a Context: the stream, and the primitives that were made so far.
//
// Making a primitive costs 0.1 ms to 10 ms (code generation), running a tiny one 1 us; so each is
// made once for its shapes and kept. The memory objects of a primitive are kept with it, and a call
// only swaps their pointers.
#pragma once

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <compare>
#include <list>
#include <map>
#include <mutex>

#include "ops/context.h"
#include "ops/linear.h"

namespace mrt::ops {

/// The CPU engine, one per process: packed weights serve every context.
dnnl::engine& CpuEngine();

/// F32, BF16, I8, U8 or I32.
dnnl::memory::data_type VendorType(DType dtype);

/// Writes `from`, of any floating point dtype, as F32 or BF16.
void ConvertTo(const ConstTensorView& from, DType dtype, void* to);

/// Attributes of every primitive: scratchpad from the arena, and the activation as a post-op. With
/// `add` the result is added to what the output holds.
dnnl::primitive_attr Attributes(Activation activation, bool add = false);

/// True for oneDNN's plain loops, hundreds of times slower than its kernels.
bool IsReference(const char* implementation);

/// A primitive that was made for one set of shapes, ready to run.
class Prepared {
 public:
  Prepared() = default;
  /// `pd` is the descriptor of `primitive`; `bias` says whether there is one.
  template <typename Descriptor>
  Prepared(const dnnl::primitive& primitive, const Descriptor& pd, bool bias)
      : Prepared(primitive, pd.src_desc(), pd.weights_desc(), pd.dst_desc(), pd.scratchpad_desc(),
                 bias, pd.impl_info_str()) {}

  const dnnl::memory::desc& weights_desc() const { return weights_desc_; }
  const char* implementation() const { return implementation_; }

  /// Runs with the scratchpad in the context's arena. `weights` has the layout weights_desc();
  /// `bias` is not looked at if there is none.
  void Run(Context& context, const void* src, const dnnl::memory& weights, const dnnl::memory& bias,
           void* dst);
  /// The same with an unpacked right-hand side and no bias.
  void Run(Context& context, const void* src, const void* weights, void* dst);

 private:
  Prepared(const dnnl::primitive& primitive, const dnnl::memory::desc& src,
           const dnnl::memory::desc& weights, const dnnl::memory::desc& dst,
           const dnnl::memory::desc& scratchpad, bool bias, const char* implementation);

  dnnl::primitive primitive_;
  dnnl::memory src_, weights_, dst_, scratchpad_;
  dnnl::memory::desc weights_desc_;
  int64_t scratchpad_bytes_ = 0;
  bool has_bias_ = false;
  bool needs_shield_ = false;        // base/signals.h
  const char* implementation_ = "";  // oneDNN's own constant
};

/// Everything a primitive depends on, as plain numbers.
struct PrimitiveKey {
  enum Operation : int64_t { kLinear, kInt8Linear, kBatchedMatmul, kConv };  // the first field
  static constexpr int kFields = 24;
  std::array<int64_t, kFields> fields = {};
  auto operator<=>(const PrimitiveKey&) const = default;
};

/// A weight in the layouts its primitives want: one, unless oneDNN has no fast kernel for some
/// shape with the layout of the others.
class PackedWeight {
 public:
  /// Packs `weight`, whose elements lie as `plain` says, as `packed` wants it: I8 as I8, floating
  /// point as F32 or BF16. With `round`, its values are rounded to bfloat16 (kBF16Emulated). The
  /// view is not needed afterwards.
  PackedWeight(const ConstTensorView& weight, const dnnl::memory::desc& plain,
               const dnnl::memory::desc& packed, bool round);

  const dnnl::memory::desc& desc() const { return desc_; }
  /// The weight in `layout`; repacked the first time another than desc() is asked for.
  const dnnl::memory& In(const dnnl::memory::desc& layout) const;
  int64_t bytes() const;

 private:
  dnnl::memory::desc desc_;
  dnnl::memory memory_;
  mutable std::mutex mutex_;                // guards others_: two contexts may share a weight
  mutable std::list<dnnl::memory> others_;  // append only: references stay valid
};

/// The bias as float32, laid out as `desc` says, or an empty memory for an empty view.
dnnl::memory PackBias(const ConstTensorView& bias, const dnnl::memory::desc& desc);

/// Throws dnnl::error if oneDNN has no implementation: bfloat16 on a CPU without AVX-512.
template <typename Descriptor>
const Descriptor& RequireKernel(const Descriptor& pd) {
  if (pd.get(/*allow_empty=*/true) != nullptr) return pd;
  throw dnnl::error(dnnl_unimplemented,
                    "[ops] oneDNN has no kernel for this precision on this CPU");
}

/// Makes the descriptor of an operation whose weight is laid out as `packed`. If oneDNN has only
/// its reference loops for that, the layout is left to it. `make(weights_desc)` returns a
/// descriptor, empty if there is no implementation. Throws if both are empty.
///
/// What oneDNN 2.6.3 takes, seen with 1 to 4680 rows and 1 to 1152 channels: with AVX-512
/// brg:avx512_core[_bf16], brgconv:* and brgconv_1x1:* on one layout for every size, odd ones and
/// single rows included; with AVX2 gemm:jit (its weight stays plain), jit:avx2 and jit_1x1:avx2,
/// and no bf16 at all. Adding to what the output holds changes none of this; a product with a
/// vector before that leaves AVX2 only the reference loops.
template <typename Make>
auto PreferLayout(const dnnl::memory::desc& packed, const dnnl::memory::desc& any, Make make) {
  auto pinned = make(packed);
  if (pinned.get(/*allow_empty=*/true) != nullptr && !IsReference(pinned.impl_info_str()))
    return pinned;
  auto open = make(any);
  if (open.get(true) != nullptr &&
      (!IsReference(open.impl_info_str()) || pinned.get(true) == nullptr))
    return open;
  return RequireKernel(pinned);
}

struct Context::Vendor {
  dnnl::stream stream{CpuEngine()};
  std::map<PrimitiveKey, Prepared> primitives;
};

}  // namespace mrt::ops
