// What every operation needs beside its tensors: the precision, the device, scratch memory, and the
// vendor library's state.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/span.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace mrt::ops {

class Backend;

enum class Precision {
  kF32,           // everything in float32
  kBF16,          // weights and activations bfloat16, sums and the residual stream float32
  kBF16Emulated,  // float32 arithmetic and storage, but rounded wherever kBF16 stores bfloat16:
                  // what the rounding alone costs, which is the yardstick of the bf16 tolerances
};

/// What an F32 output is. kBF16 knows by its dtype; in kBF16Emulated both are F32, so there the
/// caller says which outputs kBF16 would keep in float32 and which it would round.
enum class Output { kActivation, kFloat };

/// One per engine. Used by one thread at a time; operations spread over the thread pool themselves.
/// With a backend (ops/backend.h) they run on its device, and their tensors lie in its memory.
class Context {
 public:
  /// The backend must outlive the context; null: the CPU. kBF16Emulated is for the CPU only.
  explicit Context(Precision precision, Backend* backend = nullptr);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Precision precision() const { return precision_; }
  /// How activations are stored: BF16 in kBF16, else F32.
  DType activation() const { return precision_ == Precision::kBF16 ? DType::kBF16 : DType::kF32; }
  Backend* backend() const { return backend_; }
  /// For the tensors of operations: that of the backend, or null, the host's.
  Memory* memory() const;
  /// Scratch for activations; open an ArenaScope first.
  Arena& arena() { return arena_; }
  /// Scratch of the host: without a backend the same arena.
  Arena& host_arena() { return backend_ == nullptr ? arena_ : host_arena_; }
  /// Shorthand for an activation of that shape.
  TensorView Activation(const Shape& shape) { return arena_.Allocate(activation(), shape); }
  /// Shorthand for a float32 tensor of that shape (the residual stream).
  TensorView Float(const Shape& shape) { return arena_.Allocate(DType::kF32, shape); }
  /// The same of the host.
  TensorView HostFloat(const Shape& shape) { return host_arena().Allocate(DType::kF32, shape); }
  /// Every operation calls this on an activation it has written: rounds it in kBF16Emulated, else
  /// nothing.
  void RoundActivation(TensorView y) const;

  /// Once the flag is true, models return early and leave their outputs undefined: who sets it asks
  /// stopped() after every call and throws the outputs and the stream's state away. Null: none.
  void set_stop(const std::atomic<bool>* stop) { stop_ = stop; }
  /// Whoever has stopped it is then done with it: what it belongs to may be destroyed.
  bool stopped() const { return stop_ != nullptr && stop_->load(std::memory_order_acquire); }

  /// Where operations record themselves; null, as at first: nowhere. It must outlive the calls.
  void set_span_log(SpanLog* log) { span_log_ = log; }
  SpanLog* span_log() const { return span_log_; }

  struct Vendor;  // oneDNN engine, stream and primitive caches; see ops/cpu/
  Vendor& vendor() { return *vendor_; }

 private:
  Precision precision_;
  Backend* backend_;
  const std::atomic<bool>* stop_ = nullptr;
  SpanLog* span_log_ = nullptr;
  Arena arena_;
  Arena host_arena_;  // unused without a backend
  std::unique_ptr<Vendor> vendor_;
};

/// Whether this machine runs kBF16 natively (oneDNN needs AVX-512 with BF16, or AMX).
bool HasNativeBF16();

/// The vendor library's version and the instruction set it uses here, for people.
std::string VendorDescription();

}  // namespace mrt::ops
