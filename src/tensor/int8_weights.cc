#include "tensor/int8_weights.h"

#include <algorithm>
#include <iterator>

namespace mrt {

std::string ScaleName(const std::string& name) { return name + "_scale"; }

bool IsBlockMatrix(std::string_view name) {
  constexpr std::string_view kEnds[] = {
      "self_attn.q.weight",  "self_attn.k.weight",  "self_attn.v.weight",  "self_attn.o.weight",
      "cross_attn.q.weight", "cross_attn.k.weight", "cross_attn.v.weight", "cross_attn.o.weight",
      "ffn.0.weight",        "ffn.2.weight"};
  constexpr std::string_view kBlocks = "blocks.", kDigits = "0123456789";
  const auto* const end = std::find_if(std::begin(kEnds), std::end(kEnds),
                                       [&](std::string_view e) { return name.ends_with(e); });
  if (end == std::end(kEnds)) return false;
  name.remove_suffix(end->size());
  if (!name.ends_with('.')) return false;
  name.remove_suffix(1);
  const size_t digits = name.size() - 1 - std::min(name.find_last_not_of(kDigits), name.size() - 1);
  if (digits == 0 || digits == name.size()) return false;
  name.remove_suffix(digits);
  if (!name.ends_with(kBlocks)) return false;
  name.remove_suffix(kBlocks.size());
  return name.empty() || name.ends_with('.');
}

bool HasInt8Weights(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(), [](const auto& t) {
    return t.second.dtype == DType::kI8 && IsBlockMatrix(t.first);
  });
}

}  // namespace mrt
