// Writes .pt files as torch.save does, and broken ones.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "testing/safetensors_writer.h"
#include "testing/zip_writer.h"

namespace mrt::testing {

struct PtTensor {
  std::string name;
  std::string storage_type = "FloatStorage";
  std::string storage = "0";  // its entry is data/<storage>
  int64_t storage_elements = 0;
  int64_t offset = 0;  // elements
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};  // elements
  bool parameter = false;             // wrapped as nn.Parameter
};

/// A pickle, opcode by opcode. Protocol 2 unless another is asked for.
class PickleWriter {
 public:
  explicit PickleWriter(int protocol = 2)
      : protocol_(protocol), bytes_{'\x80', static_cast<char>(protocol)} {}

  /// Raw bytes: opcodes without an argument ("}" is an empty dictionary, "(" a mark ...).
  PickleWriter& Raw(std::string_view opcodes) {
    bytes_ += opcodes;
    return *this;
  }
  PickleWriter& String(std::string_view text) {
    Raw("X").Raw(BytesOf(std::vector<uint32_t>{static_cast<uint32_t>(text.size())}));
    return Raw(text);
  }
  PickleWriter& Int(int64_t value) {
    return Raw("\x8a\x08").Raw(BytesOf(std::vector<int64_t>{value}));
  }
  PickleWriter& Ints(const std::vector<int64_t>& values) {
    Raw("(");
    for (const int64_t value : values) Int(value);
    return Raw("t");
  }
  PickleWriter& Global(std::string_view module, std::string_view name) {
    if (protocol_ >= 4) return String(module).String(name).Raw("\x93");
    return Raw("c").Raw(module).Raw("\n").Raw(name).Raw("\n");
  }
  PickleWriter& Tensor(const PtTensor& tensor) {
    if (tensor.parameter) Global("torch._utils", "_rebuild_parameter").Raw("(");
    Global("torch._utils", "_rebuild_tensor_v2").Raw("(");
    Raw("(").String("storage").Global("torch", tensor.storage_type).String(tensor.storage);
    String("cpu").Int(tensor.storage_elements).Raw("tQ");
    Int(tensor.offset).Ints(tensor.shape).Ints(tensor.strides).Raw("\x89");
    Global("collections", "OrderedDict").Raw(")RtR");
    return tensor.parameter ? Raw("\x88").Global("collections", "OrderedDict").Raw(")RtR") : *this;
  }
  /// {name: tensor, ...}
  PickleWriter& Dict(const std::vector<PtTensor>& tensors) {
    Raw("}(");
    for (const PtTensor& tensor : tensors) String(tensor.name).Tensor(tensor);
    return Raw("u");
  }
  /// The pickle, ended by STOP.
  std::string Finish() const { return bytes_ + "."; }

 private:
  int protocol_;
  std::string bytes_;
};

/// The entries torch.save writes, in its order. `storages`: bytes by key.
inline std::vector<ZipEntry> PtEntries(const std::string& pickle,
                                       const std::map<std::string, std::string>& storages) {
  std::vector<ZipEntry> entries = {{"archive/data.pkl", pickle}, {"archive/byteorder", "little"}};
  for (const auto& [key, bytes] : storages) entries.push_back({"archive/data/" + key, bytes});
  entries.push_back({"archive/version", "3\n"});
  return entries;
}

inline std::string PtFile(const std::string& pickle,
                          const std::map<std::string, std::string>& storages) {
  return ZipFile(PtEntries(pickle, storages), /*zip64=*/true);
}

}  // namespace mrt::testing
