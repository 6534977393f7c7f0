// Where an engine's models run: EngineOptions::device.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "monarchrt/engine.h"
#include "ops/backend.h"

namespace mrt {

/// The CPU, or a GPU that is held while this lives. Move-only.
class Device {
 public:
  /// Ok if the name is "cpu", "cuda" (the first GPU) or "cuda:N"; else Unavailable.
  static Status CheckName(const std::string& name);

  /// Unavailable with the reason if there is no such device.
  static Result<Device> Open(const std::string& name);

  /// "cpu" or "cuda:N".
  const std::string& name() const { return name_; }
  /// For the contexts of the models; null for the CPU.
  ops::Backend* backend() const { return backend_.get(); }
  /// For those of the autoencoder's decoder, beside which a transformer may run; null for the CPU.
  ops::Backend* decoder_backend() const { return decoder_backend_.get(); }

  /// OutOfMemory with both numbers if a GPU has less free. The CPU's memory is not looked at.
  Status CheckMemory(int64_t needed_bytes) const;
  /// What a GPU can still give; 0 for the CPU.
  int64_t AvailableBytes() const;
  /// The make of a GPU; empty for the CPU.
  std::string GpuName() const;
  /// The most of a GPU's memory that was allocated at one time since it was opened; 0 for the CPU.
  int64_t PeakBytes() const { return backend_ == nullptr ? 0 : backend_->peak_bytes(); }

  /// What the models compute with. A GPU: bf16, and Unavailable for anything else. The CPU: as
  /// plan.h says.
  Result<ops::Precision> ResolvePrecision(monarchrt::Precision precision) const;
  /// The same of a text encoder that runs on the CPU.
  Result<ops::Precision> ResolveTextPrecision(monarchrt::Precision precision) const;
  /// Ok if the device has such weights.
  Status CheckWeights(ops::WeightType weights) const;

 private:
  std::string name_ = "cpu";
  int index_ = 0;
  std::unique_ptr<ops::Backend> backend_;
  std::unique_ptr<ops::Backend> decoder_backend_;  // another stream of it
};

}  // namespace mrt
