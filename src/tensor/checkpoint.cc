#include "tensor/checkpoint.h"

namespace mrt {

void Checkpoint::Add(const std::string& name, ConstTensorView tensor,
                     std::shared_ptr<const void> owner) {
  tensors_[name] = tensor;
  owners_.push_back(std::move(owner));
}

ConstTensorView Checkpoint::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? ConstTensorView{} : it->second;
}

void Checkpoint::StripPrefix(const std::string& prefix) {
  std::map<std::string, ConstTensorView> stripped;
  for (const auto& [name, tensor] : tensors_)
    if (name.starts_with(prefix)) stripped.emplace(name.substr(prefix.size()), tensor);
  if (!stripped.empty()) tensors_ = std::move(stripped);
}

}  // namespace mrt
