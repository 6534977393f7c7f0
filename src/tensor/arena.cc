#include "tensor/arena.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/large_memory.h"

namespace mrt {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line, and an AVX-512 vector
constexpr int64_t kDeviceAlignment = 256;
constexpr int64_t kBlockBytesMin = int64_t{32} << 20;  // few blocks, and the last one wastes little

int64_t RoundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

void Arena::Free::operator()(char* p) const {
  if (memory == nullptr) return std::free(p);
  memory->Free(p);
}

void Arena::AddBlock(int64_t bytes) {
  void* const data = memory_ == nullptr ? AllocateLarge(bytes) : memory_->Allocate(bytes);
  std::unique_ptr<char, Free> owned(static_cast<char*>(data), Free{memory_});
  blocks_.push_back({std::move(owned), bytes});
}

void Arena::Reserve(int64_t bytes) {
  if (blocks_.empty()) AddBlock(bytes);
}

TensorView Arena::Allocate(DType dtype, const Shape& shape) {
  const int64_t bytes = RoundUp(std::max<int64_t>(1, shape.elements() * DTypeSize(dtype)),
                                memory_ == nullptr ? kAlignment : kDeviceAlignment);
  while (top_.block < blocks_.size() && top_.used + bytes > blocks_[top_.block].size)
    top_ = {top_.block + 1, 0};
  if (top_.block == blocks_.size()) AddBlock(std::max(bytes, kBlockBytesMin));
  TensorView view{blocks_[top_.block].data.get() + top_.used, dtype, shape};
  top_.used += bytes;
  return view;
}

int64_t Arena::capacity_bytes() const {
  int64_t sum = 0;
  for (const Block& block : blocks_) sum += block.size;
  return sum;
}

}  // namespace mrt
