// One checkpoint that becomes one safetensors file: planned first, then written.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "monarchrt/convert.h"
#include "tensor/checkpoint.h"
#include "tensor/safetensors_writer.h"

namespace mrt {

class FileJob {
 public:
  /// Opens the input and says what will be written. Writes nothing.
  static Result<FileJob> Plan(const monarchrt::ConvertOptions& options);

  /// Writes the file. Once.
  Status Run(const monarchrt::ConvertProgress& on_progress);

  const monarchrt::ConvertReport& report() const { return report_; }

  /// What a tensor of the new file is made of.
  struct Source {
    std::string name;  // in the input
    ConstTensorView tensor;
    enum { kElements, kInt8Values, kInt8Scales } part = kElements;  // of the tensor
  };

 private:
  FileJob() = default;
  Status AddTensor(const std::string& name, const ConstTensorView& tensor,
                   const monarchrt::ConvertOptions& options);
  void Add(const std::string& name, DType dtype, const Shape& shape, const Source& source);
  std::map<std::string, std::string> Metadata() const;

  std::string output_;
  Checkpoint input_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, Source> sources_;  // by the new name
  monarchrt::ConvertReport report_;
};

}  // namespace mrt
