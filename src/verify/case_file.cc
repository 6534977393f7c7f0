#include "verify/case_file.h"

namespace mrt::verify {

Result<Checkpoint> OpenCase(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(Checkpoint file, Checkpoint::Open(path));
  for (const auto& [name, tensor] : file.tensors()) {
    const bool ids = name.starts_with("ids");
    if (ids ? tensor.dtype == DType::kI32 : IsFloatingPoint(tensor.dtype)) continue;
    return BadData("[verify] " + path + ": " + name + " is " + DTypeName(tensor.dtype) + ", need " +
                   (ids ? "I32" : "a floating point dtype"));
  }
  return file;
}

}  // namespace mrt::verify
