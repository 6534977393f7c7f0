#include "pipeline/device.h"

#include <charconv>
#include <optional>

#include "pipeline/plan.h"

namespace mrt {
namespace {

constexpr char kCuda[] = "cuda";

/// The number of the GPU that the name means, or none.
std::optional<int> GpuIndex(const std::string& name) {
  if (name == kCuda) return 0;
  const std::string prefix = std::string(kCuda) + ":";
  if (!name.starts_with(prefix)) return std::nullopt;
  const char *const begin = name.data() + prefix.size(), *const end = name.data() + name.size();
  int index = -1;
  const auto [after, error] = std::from_chars(begin, end, index);
  if (error != std::errc() || after != end || index < 0) return std::nullopt;
  return index;
}

}  // namespace

Status Device::CheckName(const std::string& name) {
  if (name == "cpu" || GpuIndex(name)) return {};
  return Unavailable("[device] got '" + name + "', need cpu, cuda or cuda:N");
}

Result<Device> Device::Open(const std::string& name) {
  MRT_RETURN_IF_ERROR(CheckName(name));
  Device device;
  const std::optional<int> index = GpuIndex(name);
  if (!index) return device;
  device.index_ = *index;
  device.name_ = std::string(kCuda) + ":" + std::to_string(*index);
  MRT_ASSIGN_OR_RETURN(device.backend_, ops::MakeCudaBackend(*index));
  device.decoder_backend_ = device.backend_->NewStream();
  return device;
}

int64_t Device::AvailableBytes() const {
  return backend_ == nullptr ? 0 : backend_->available_bytes();
}

std::string Device::GpuName() const {
  if (backend_ == nullptr) return {};
  for (const ops::GpuDescription& gpu : ops::ListGpus())
    if (gpu.index == index_) return gpu.name;
  return {};
}

Status Device::CheckMemory(int64_t needed_bytes) const {
  if (backend_ == nullptr) return {};
  const int64_t available = AvailableBytes();
  if (needed_bytes <= available) return {};
  return OutOfMemory("[memory] needs " + Gigabytes(needed_bytes) + " of " + name_ + ", " +
                     Gigabytes(available) +
                     " are free there; a smaller size, a smaller window or --vae taehv needs less");
}

Result<ops::Precision> Device::ResolvePrecision(monarchrt::Precision precision) const {
  if (backend_ == nullptr) return mrt::ResolvePrecision(precision);
  if (precision == monarchrt::Precision::kAuto || precision == monarchrt::Precision::kBF16)
    return ops::Precision::kBF16;
  return Unavailable("[dtype] " + name_ + " computes with bf16 only, need --dtype bf16 or auto");
}

Result<ops::Precision> Device::ResolveTextPrecision(monarchrt::Precision precision) const {
  return mrt::ResolvePrecision(backend_ == nullptr ? precision : monarchrt::Precision::kAuto);
}

Status Device::CheckWeights(ops::WeightType weights) const {
  if (backend_ == nullptr || weights == ops::WeightType::kActivation) return {};
  return Unavailable("[dtype] the model has int8 weights, " + name_ +
                     " computes with bf16 only; need --device cpu or another checkpoint");
}

}  // namespace mrt
