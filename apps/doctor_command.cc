#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/text_files.h"
#include "base/json.h"
#include "media/video_writer.h"
#include "monarchrt/doctor.h"

namespace mrt::apps {
namespace {

using monarchrt::DoctorReport;

void PrintReport(const DoctorReport& r) {
  const auto yes = [](bool b) { return b ? "yes" : "no"; };
  std::printf("monarchrt %s\n", r.version.c_str());
  std::printf("CPU       %s\n", r.cpu.c_str());
  std::printf("features  AVX2 %s, AVX-512 %s, AVX-512 BF16 %s, AMX BF16 %s\n", yes(r.avx2),
              yes(r.avx512), yes(r.avx512_bf16), yes(r.amx_bf16));
  std::printf("dtype     auto is %s\n",
              r.native_bf16 ? "bf16" : "f32: this CPU has no bf16 arithmetic");
  std::printf("oneDNN    %s\n", r.onednn.c_str());
  std::printf("threads   %d\n", r.threads);
  std::printf("memory    %s, of which %s are free\n", FormatBytes(r.memory_total_bytes).c_str(),
              FormatBytes(r.memory_available_bytes).c_str());
  for (const auto& gpu : r.gpus)
    std::printf("GPU       %s: %s, %s, of which %s are free\n", gpu.name.c_str(),
                gpu.description.c_str(), FormatBytes(gpu.memory_total_bytes).c_str(),
                FormatBytes(gpu.memory_available_bytes).c_str());
  if (r.gpus.empty()) std::printf("GPU       none: %s\n", r.no_gpu.c_str());
  if (!r.problem.empty()) std::printf("problem   %s\n", r.problem.c_str());
  std::string operation;
  for (const auto& kernel : r.kernels) {
    if (kernel.operation != operation)
      std::printf("%s, for Wan 2.1 1.3B at 832x480\n", kernel.operation.c_str());
    operation = kernel.operation;
    std::printf("  %-11s %s\n", kernel.name.c_str(),
                kernel.chosen            ? "runs"
                : kernel.refuses.empty() ? "could run"
                                         : kernel.refuses.c_str());
  }
  std::printf("video encoders of FFmpeg:");
  for (const std::string& name : media::AvailableEncoders()) std::printf(" %s", name.c_str());
  std::printf("\n");
}

OrderedJson ToJson(const DoctorReport& r) {
  OrderedJson json = {{"version", r.version},
                      {"cpu", r.cpu},
                      {"avx2", r.avx2},
                      {"avx512", r.avx512},
                      {"avx512_bf16", r.avx512_bf16},
                      {"amx_bf16", r.amx_bf16},
                      {"dtype", r.native_bf16 ? "bf16" : "f32"},
                      {"onednn", r.onednn},
                      {"threads", r.threads},
                      {"memory_bytes", r.memory_total_bytes},
                      {"memory_free_bytes", r.memory_available_bytes},
                      {"gpus", OrderedJson::array()},
                      {"kernels", OrderedJson::array()},
                      {"encoders", media::AvailableEncoders()}};
  for (const auto& gpu : r.gpus)
    json["gpus"].push_back({{"device", gpu.name},
                            {"name", gpu.description},
                            {"memory_bytes", gpu.memory_total_bytes},
                            {"memory_free_bytes", gpu.memory_available_bytes}});
  if (r.gpus.empty()) json["no_gpu"] = r.no_gpu;
  if (!r.problem.empty()) json["problem"] = r.problem;
  for (const auto& kernel : r.kernels) {
    OrderedJson row = {{"op", kernel.operation}, {"impl", kernel.name}, {"default", kernel.chosen}};
    if (!kernel.refuses.empty()) row["refused"] = kernel.refuses;
    json["kernels"].push_back(std::move(row));
  }
  return json;
}

}  // namespace

void AddDoctor(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "doctor", "Say what this machine offers: CPU features, kernels, threads, memory, encoders.");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print one JSON object instead of lines");
  command->callback([json, &action] {
    action = [json] {
      const DoctorReport report = monarchrt::Diagnose();
      if (*json) {
        std::printf("%s\n", DumpJson(ToJson(report), 2).c_str());
      } else {
        PrintReport(report);
      }
      return kExitOk;
    };
  });
}

}  // namespace mrt::apps
