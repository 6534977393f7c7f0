#include "monarchrt/doctor.h"

#include "base/cpu_features.h"
#include "base/memory_info.h"
#include "base/threads.h"
#include "kernels/dense/dense.h"
#include "kernels/monarch/monarch.h"
#include "kernels/sparse/sparse.h"
#include "monarchrt/stats.h"
#include "ops/backend.h"
#include "ops/environment.h"

namespace monarchrt {
namespace {

// One line per implementation of an operation; the first that does not refuse is the chosen one.
template <typename Impls, typename Shape>
void Report(const char* operation, const Impls& impls, const Shape& shape,
            std::vector<KernelReport>& kernels) {
  bool chosen = false;
  for (const auto& impl : impls) {
    const char* why = impl.refuses(shape, mrt::GetCpuFeatures());
    kernels.push_back({operation, impl.name, why == nullptr && !chosen, why ? why : ""});
    chosen = chosen || why == nullptr;
  }
}

}  // namespace

DoctorReport Diagnose() {
  const mrt::CpuFeatures& cpu = mrt::GetCpuFeatures();
  DoctorReport report;
  report.version = Version();
  report.cpu = cpu.brand;
  report.avx2 = cpu.avx2;
  report.avx512 = cpu.avx512;
  report.avx512_bf16 = cpu.avx512_bf16;
  report.amx_bf16 = cpu.amx_bf16;
  report.native_bf16 = mrt::ops::HasNativeBF16();
  report.onednn = mrt::ops::VendorDescription();
  report.threads = mrt::UsableCpuCount();
  report.memory_total_bytes = mrt::TotalMemoryBytes();
  report.memory_available_bytes = mrt::AvailableMemoryBytes();
  for (const mrt::ops::GpuDescription& gpu : mrt::ops::ListGpus())
    report.gpus.push_back({.name = "cuda:" + std::to_string(gpu.index),
                           .description = gpu.name,
                           .memory_total_bytes = gpu.memory_total_bytes,
                           .memory_available_bytes = gpu.memory_available_bytes});
  if (report.gpus.empty()) report.no_gpu = mrt::ops::MakeCudaBackend(0).status().message();
  report.problem = mrt::ops::CheckEnvironment().message();
  const auto storage = report.native_bf16 ? mrt::StorageType::kBF16 : mrt::StorageType::kF32;
  const mrt::MonarchShape monarch = {.heads = 12,
                                     .frames_q = 3,
                                     .frames_kv = 21,
                                     .rows = 30,
                                     .cols = 52,
                                     .head_dim = 128,
                                     .storage = storage};
  Report("monarch attention", mrt::MonarchImpls(), monarch, report.kernels);
  Report("monarch attention backward", mrt::MonarchBackwardImpls(), monarch, report.kernels);
  Report("dense attention", mrt::DenseImpls(),
         mrt::DenseShape{.heads = 12,
                         .tokens_q = 4680,
                         .tokens_per_frame = 1560,
                         .frames_kv = 21,
                         .head_dim = 128,
                         .storage = storage},
         report.kernels);
  Report("sparse attention", mrt::SparseImpls(),
         mrt::SparseShape{.heads = 12,
                          .frames_q = 3,
                          .frames_kv = 21,
                          .rows = 30,
                          .cols = 52,
                          .head_dim = 128,
                          .storage = storage},
         report.kernels);
  return report;
}

}  // namespace monarchrt
