// What a model does with the tensors of a file: it reads them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tensor/loaded_tensors.h"

namespace mrt::testing {

/// Reads every byte of every tensor: AddressSanitizer reports one that is outside the file. If the
/// data of the file is all `fill`, a tensor of another byte lies beside it: a defect.
void ReadEveryByte(const LoadedTensors& loaded, std::optional<uint8_t> fill = std::nullopt);

/// The same for all dictionaries of a .pt file.
void ReadAllDictionaries(const std::string& pt_path, std::optional<uint8_t> fill = std::nullopt);

}  // namespace mrt::testing
