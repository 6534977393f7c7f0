#include "base/cpu_features.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mrt {
namespace {

#if defined(__x86_64__)

// Tiles of bf16 and of int8.
struct Amx {
  bool bf16 = false, int8 = false;
};

#ifdef MRT_EMULATED_TILES
Amx DetectAmx() { return {true, true}; }
#else
// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux hands out AMX tile state on request
// only.
bool RequestAmx() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

Amx DetectAmx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return {};
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
  const bool in_cpu = (edx & kAmxBf16) != 0 && (edx & kAmxTile) != 0;
  if (!in_cpu || !RequestAmx()) return {};
  return {true, (edx & kAmxInt8) != 0};
}
#endif

std::string ReadBrand() {
  unsigned regs[12] = {};
  if (static_cast<unsigned>(__get_cpuid_max(0x80000000u, nullptr)) < 0x80000004u) return "x86-64";
  for (unsigned i = 0; i < 3; ++i)
    __get_cpuid(0x80000002u + i, &regs[4 * i], &regs[4 * i + 1], &regs[4 * i + 2],
                &regs[4 * i + 3]);
  char text[sizeof(regs) + 1] = {};
  std::memcpy(text, regs, sizeof(regs));
  std::string brand(text);
  brand.erase(brand.find_last_not_of(' ') + 1);
  return brand;
}

// The instructions of x86-64-v3 which clang 14 does not know by name. Those that use AVX state need
// no check of their own: without the system's consent there is no AVX2 either.
bool HasRestOfV3() {
  unsigned eax = 0, ebx = 0, leaf1 = 0, extended1 = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &leaf1, &edx)) return false;
  if (!__get_cpuid(0x80000001u, &eax, &ebx, &extended1, &edx)) return false;
  constexpr unsigned kLeaf1 = bit_F16C | bit_MOVBE;
  return (leaf1 & kLeaf1) == kLeaf1 && (extended1 & bit_LZCNT) != 0;
}

CpuFeatures Detect() {
  CpuFeatures f;
  f.brand = ReadBrand();
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && HasRestOfV3();
  f.avx512 = f.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  f.avx512_bf16 = f.avx512 && __builtin_cpu_supports("avx512bf16");
  if (f.avx512_bf16) {
    const Amx amx = DetectAmx();
    f.amx_bf16 = amx.bf16, f.amx_int8 = amx.int8;
  }
  return f;
}

#else

CpuFeatures Detect() { return {.brand = "not x86-64"}; }

#endif

constexpr std::string_view kLimits[] = {"portable", "avx2", "avx512", "avx512_bf16"};

// Its place among kLimits; their number if there is none, or none of these.
int64_t FindLimit(const char* name) {
  const auto* end = std::end(kLimits);
  return (name ? std::find(std::begin(kLimits), end, name) : end) - std::begin(kLimits);
}

CpuFeatures DetectLimited() {
  CpuFeatures f = Detect();
  const int64_t at = FindLimit(std::getenv("MRT_CPU_LIMIT"));
  if (at < 4) f.amx_bf16 = false, f.amx_int8 = false;
  if (at < 3) f.avx512_bf16 = false;
  if (at < 2) f.avx512 = false;
  if (at < 1) f.avx2 = false;
  return f;
}

}  // namespace

Status CheckCpuLimit() {
  const char* name = std::getenv("MRT_CPU_LIMIT");
  if (name == nullptr || *name == 0 || FindLimit(name) < std::ssize(kLimits)) return {};
  return InvalidArgument("[cpu] got MRT_CPU_LIMIT=" + std::string(name).substr(0, 40) +
                         ", need portable, avx2, avx512 or avx512_bf16");
}

const CpuFeatures& GetCpuFeatures() {
  static const CpuFeatures kFeatures = DetectLimited();
  return kFeatures;
}

}  // namespace mrt
