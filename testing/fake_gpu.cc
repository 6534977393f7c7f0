#include "testing/fake_gpu.h"

namespace mrt {
namespace {

constexpr int kCount = 2;

}  // namespace

testing::FakeGpus& testing::Gpus() {
  static FakeGpus gpus;
  return gpus;
}

std::vector<ops::GpuDescription> ops::ListGpus() {
  std::vector<GpuDescription> gpus;
  for (int index = 0; index < kCount; ++index)
    gpus.push_back({.index = index,
                    .name = "fake GPU",
                    .memory_total_bytes = int64_t{1} << 40,
                    .memory_available_bytes = testing::Gpus().available_bytes});
  return gpus;
}

Result<std::unique_ptr<ops::Backend>> ops::MakeCudaBackend(int index) {
  if (index >= kCount) return Unavailable("[device] got GPU " + std::to_string(index));
  auto device = std::make_unique<testing::FakeDevice>(Precision::kBF16);
  device->set_available_bytes(&testing::Gpus().available_bytes);
  testing::Gpus().last = device.get();
  return std::unique_ptr<Backend>(std::move(device));
}

}  // namespace mrt
