#include <algorithm>

#include "base/sha256.h"
#include "tensor/checkpoint.h"

namespace mrt {
namespace {

constexpr int64_t kSampleBytes = 4096;  // a page: what a read costs anyway
constexpr int64_t kSamples = 3;         // the first, the middle and the last of a tensor

void AddSamples(const ConstTensorView& tensor, Sha256& hash) {
  const auto* data = static_cast<const char*>(tensor.data);
  const int64_t bytes = tensor.bytes();
  if (bytes <= kSamples * kSampleBytes) {
    hash.Add(data, static_cast<size_t>(bytes));
    return;
  }
  for (int64_t i = 0; i < kSamples; ++i)
    hash.Add(data + (bytes - kSampleBytes) / (kSamples - 1) * i, kSampleBytes);
}

}  // namespace

std::string Checkpoint::Fingerprint() const {
  if (loaded_.files.empty()) return "";
  Sha256 hash;
  for (const auto& file : loaded_.files)
    hash.AddInteger(static_cast<int64_t>(file->bytes().size())).AddInteger(file->written_ns());
  for (const auto& [name, tensor] : loaded_.tensors) {
    hash.AddText(name).AddText(DTypeName(tensor.dtype)).AddText(tensor.shape.ToString());
    AddSamples(tensor, hash);
  }
  return hash.Finish();
}

}  // namespace mrt
