// What this machine offers the engine, and what it does not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "monarchrt/export.h"

namespace monarchrt {

struct KernelReport {
  std::string operation;  // "monarch attention", "monarch attention backward", "dense attention"
  std::string name;       // as --impl takes it
  bool chosen = false;    // the one that runs by default on this machine
  std::string refuses;    // why it cannot run here, or empty
};

struct GpuReport {
  std::string name;         // as EngineOptions::device takes it: "cuda:0"
  std::string description;  // "NVIDIA H200"
  int64_t memory_total_bytes = 0;
  int64_t memory_available_bytes = 0;
};

struct DoctorReport {
  std::string version;
  std::string cpu;
  bool avx2 = false, avx512 = false, avx512_bf16 = false, amx_bf16 = false;
  bool native_bf16 = false;  // oneDNN computes with bf16: --dtype auto takes it
  std::string onednn;        // version and instruction set it uses
  int threads = 0;           // CPUs this process may use
  int64_t memory_total_bytes = 0;
  int64_t memory_available_bytes = 0;
  std::vector<GpuReport> gpus;  // that this build can use
  std::string no_gpu;           // if there are none, why
  std::string problem;          // why an engine would not load with the environment's MRT_
                                // variables, or empty
  std::vector<KernelReport>
      kernels;  // for the shape of Wan 2.1 1.3B at 480x832, in this machine's precision
};

MRT_API DoctorReport Diagnose();

}  // namespace monarchrt
