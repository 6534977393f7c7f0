// A program that is linked with fake_gpu.cc has two GPUs, which are a FakeDevice each: it defines
// what ops/cuda/ or ops/no_cuda/ else would.
#pragma once

#include <cstdint>

#include "testing/fake_device.h"

namespace mrt::testing {

struct FakeGpus {
  int64_t available_bytes = int64_t{1} << 40;  // of each
  FakeDevice* last = nullptr;                  // that was made: valid while its engine lives
};
FakeGpus& Gpus();

}  // namespace mrt::testing
