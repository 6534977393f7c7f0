// How a dispatch table is asked: the first row that does not refuse, or the one that was named.
#pragma once

#include <cstdlib>
#include <span>
#include <string>

#include "base/cpu_features.h"
#include "base/status.h"

namespace mrt {

/// `where` begins the messages ("[monarch]"). `Impl` has `name` and `refuses(shape, cpu)`. `forced`
/// names a row; if it is empty, the environment variable `variable` does; if that is empty too, the
/// best row that applies is taken. The last row of `impls` must never refuse.
template <typename Impl, typename Shape>
Result<const Impl*> PickImpl(const char* where, std::span<const Impl> impls, const Shape& shape,
                             const char* variable, const char* forced) {
  std::string wanted = forced;
  if (const char* value = std::getenv(variable); wanted.empty() && value != nullptr) wanted = value;
  const CpuFeatures& cpu = GetCpuFeatures();
  for (const Impl& impl : impls) {
    const char* refusal = impl.refuses(shape, cpu);
    if (wanted.empty() && refusal == nullptr) return &impl;
    if (wanted == impl.name) {
      if (refusal == nullptr) return &impl;
      return Unavailable(std::string(where) + " got implementation " + wanted +
                         ", but it refuses: " + refusal);
    }
  }
  std::string names;
  for (const Impl& impl : impls) names += (names.empty() ? "" : ", ") + std::string(impl.name);
  return InvalidArgument(std::string(where) + " got implementation " + wanted + ", need one of " +
                         names);
}

}  // namespace mrt
