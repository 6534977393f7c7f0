#include "convert/file_job.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/int8.h"
#include "base/status.h"
#include "convert/float_conversion.h"
#include "convert/int8_conversion.h"
#include "tensor/checkpoint.h"
#include "tensor/int8_weights.h"
#include "tensor/printable.h"
#include "tensor/safetensors_writer.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using monarchrt::ConvertDType;
using monarchrt::ConvertOptions;
using monarchrt::ConvertProgress;
using monarchrt::ConvertQuantize;
using Source = FileJob::Source;

// Written at once: few calls, and a buffer of 4 MiB at most.
constexpr int64_t kPieceElements = int64_t{1} << 20;
// How much of the mapped input may stay in memory behind the place where it is read.
constexpr int64_t kDropEveryBytes = int64_t{64} << 20;

DType NewDType(DType dtype, ConvertDType wanted) {
  if (!IsFloatingPoint(dtype)) return dtype;
  switch (wanted) {
    case ConvertDType::kKeep: return dtype;
    case ConvertDType::kF32: return DType::kF32;
    case ConvertDType::kBF16: return DType::kBF16;
    case ConvertDType::kF16: return DType::kF16;
  }
  return dtype;
}

// The key under which the only tensors of the file are, if none was named.
Result<std::string> FindKey(const std::string& path, const std::string& key) {
  if (!key.empty()) return key;
  MRT_ASSIGN_OR_RETURN(const std::vector<std::string> keys, Checkpoint::Keys(path));
  if (keys.size() == 1) return keys[0];
  if (keys.empty()) return key;  // Open says what is wrong
  std::string list;
  for (const std::string& each : keys) list += (list.empty() ? "" : ", ") + Printable(each);
  return InvalidArgument("[convert] " + path + ": got no key, need one of: " + list);
}

// The input must live on. Of other outputs AtomicFile says what is wrong.
Status CheckOutput(const std::string& output, const Checkpoint& input, const std::string& opened) {
  std::error_code ignored;
  if (!fs::is_regular_file(output, ignored)) return {};
  std::vector<std::string> files = input.file_paths();
  files.push_back(input.path());  // the index, if there are shards
  files.push_back(opened);
  for (const std::string& file : files)
    if (fs::equivalent(file, output, ignored))
      return InvalidArgument("[convert] got '" + output + "' as input and output, need two files");
  return {};
}

// The scales of int8 weights stay float32.
bool IsScale(const Checkpoint& input, const std::string& name) {
  constexpr std::string_view kEnd = "_scale";
  return name.ends_with(kEnd) &&
         input.Find(name.substr(0, name.size() - kEnd.size())).dtype == DType::kI8;
}

Status CheckMatrix(const std::string& name, const ConstTensorView& tensor) {
  if (tensor.shape.rank() == 2 && tensor.shape[1] <= kInt8ColumnsMax) return {};
  return InvalidArgument("[convert] tensor " + Printable(name) + " is " + tensor.shape.ToString() +
                         ", need a matrix of at most " + std::to_string(kInt8ColumnsMax) +
                         " columns for int8");
}

// Copies the tensors into the file, piece by piece.
class Copier {
 public:
  Copier(const Checkpoint& input, SafetensorsWriter& writer, int64_t bytes_total,
         const ConvertProgress& on_progress)
      : input_(input), writer_(writer), bytes_total_(bytes_total), on_progress_(on_progress) {}

  Status Copy(const Source& source, DType to) {
    if (source.part == Source::kElements) return CopyElements(source.name, source.tensor, to);
    const ConstTensorView& matrix = source.tensor;
    const int64_t rows = matrix.shape[0], width = std::max<int64_t>(1, matrix.shape[1]);
    const int64_t step = std::max<int64_t>(1, kPieceElements / width);
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t end = std::min(begin + step, rows);
      MRT_RETURN_IF_ERROR(QuantizeRows(source.name, matrix, begin, end, &values_, &scales_));
      const bool scales = source.part == Source::kInt8Scales;
      const int64_t bytes =
          scales ? (end - begin) * int64_t{sizeof(float)} : static_cast<int64_t>(values_.size());
      MRT_RETURN_IF_ERROR(writer_.Append(
          scales ? static_cast<const void*>(scales_.data()) : values_.data(), bytes));
      Advance((end - begin) * width * DTypeSize(matrix.dtype), bytes);
    }
    return {};
  }

 private:
  Status CopyElements(const std::string& name, const ConstTensorView& source, DType to) {
    const int64_t elements = source.shape.elements();
    for (int64_t begin = 0; begin < elements; begin += kPieceElements) {
      const int64_t end = std::min(begin + kPieceElements, elements);
      MRT_RETURN_IF_ERROR(CopyPiece(name, source, to, begin, end));
      Advance((end - begin) * DTypeSize(source.dtype), (end - begin) * DTypeSize(to));
    }
    return {};
  }

  void Advance(int64_t read_bytes, int64_t written_bytes) {
    bytes_done_ += written_bytes;
    read_bytes_ += read_bytes;
    if (read_bytes_ >= kDropEveryBytes) {
      input_.DropPages();
      read_bytes_ = 0;
    }
    if (on_progress_) on_progress_(bytes_done_, bytes_total_);
  }

  Status CopyPiece(const std::string& name, const ConstTensorView& source, DType to, int64_t begin,
                   int64_t end) {
    if (to == source.dtype) {
      const int64_t size = DTypeSize(to);
      return writer_.Append(static_cast<const char*>(source.data) + begin * size,
                            (end - begin) * size);
    }
    piece_.resize(static_cast<size_t>((end - begin) * DTypeSize(to)));
    const int64_t overflow = ConvertElements(source, begin, end, to, piece_.data());
    if (overflow >= 0) {
      char value[32];
      std::snprintf(value, sizeof(value), "%.9g", ElementAsDouble(source, overflow));
      return InvalidArgument("[convert] tensor " + Printable(name) + " holds " + value +
                             ", which is infinite as " + DTypeName(to) + "; need another dtype");
    }
    return writer_.Append(piece_.data(), static_cast<int64_t>(piece_.size()));
  }

  const Checkpoint& input_;
  SafetensorsWriter& writer_;
  const int64_t bytes_total_;
  const ConvertProgress& on_progress_;
  std::vector<char> piece_;
  std::vector<int8_t> values_;
  std::vector<float> scales_;
  int64_t bytes_done_ = 0;
  int64_t read_bytes_ = 0;  // since pages were dropped
};

}  // namespace

Result<FileJob> FileJob::Plan(const ConvertOptions& options) {
  CheckpointName name = {options.input, options.key};
  if (name.key.empty()) name = CheckpointName::Split(options.input);
  FileJob job;
  job.output_ = options.output;
  MRT_ASSIGN_OR_RETURN(job.report_.key, FindKey(name.path, name.key));
  MRT_ASSIGN_OR_RETURN(job.input_, Checkpoint::Open(name.path, job.report_.key));
  MRT_RETURN_IF_ERROR(CheckOutput(options.output, job.input_, name.path));
  bool has_matrix = false;
  for (const auto& [tensor_name, tensor] : job.input_.tensors()) {
    MRT_RETURN_IF_ERROR(job.AddTensor(tensor_name, tensor, options));
    has_matrix |= IsBlockMatrix(tensor_name);
  }
  if (options.quantize == ConvertQuantize::kInt8 && !has_matrix)
    return InvalidArgument("[convert] " + job.input_.path() +
                           ": got no matrix of a transformer's block, need a Wan transformer for "
                           "int8");
  job.report_.tensors = static_cast<int64_t>(job.entries_.size());
  return job;
}

Status FileJob::AddTensor(const std::string& name, const ConstTensorView& tensor,
                          const ConvertOptions& options) {
  if (!name.starts_with(options.strip_prefix) || name.size() == options.strip_prefix.size())
    return InvalidArgument("[convert] got the tensor " + Printable(name) +
                           ", need names that go on after the prefix " +
                           Printable(options.strip_prefix));
  const std::string new_name = name.substr(options.strip_prefix.size());
  if (options.quantize == ConvertQuantize::kInt8 && IsBlockMatrix(name) &&
      IsFloatingPoint(tensor.dtype)) {
    MRT_RETURN_IF_ERROR(CheckMatrix(name, tensor));
    Add(new_name, DType::kI8, tensor.shape, {name, tensor, Source::kInt8Values});
    Add(ScaleName(new_name), DType::kF32, {tensor.shape[0]}, {name, tensor, Source::kInt8Scales});
    ++report_.quantized;
    return {};
  }
  const DType dtype = IsScale(input_, name) ? tensor.dtype : NewDType(tensor.dtype, options.dtype);
  Add(new_name, dtype, tensor.shape, {name, tensor});
  report_.rounded += dtype != tensor.dtype;
  return {};
}

void FileJob::Add(const std::string& name, DType dtype, const Shape& shape, const Source& source) {
  entries_.push_back({name, dtype, shape});
  sources_.emplace(name, source);
  report_.output_bytes += entries_.back().bytes();
}

std::map<std::string, std::string> FileJob::Metadata() const {
  std::map<std::string, std::string> metadata = input_.metadata();
  metadata.emplace("format", "pt");
  metadata["converted_from"] = Escaped(fs::path(input_.path()).filename().string()) +
                               (report_.key.empty() ? "" : ":" + Escaped(report_.key));
  return metadata;
}

Status FileJob::Run(const ConvertProgress& on_progress) {
  MRT_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                       SafetensorsWriter::Create(output_, std::move(entries_), Metadata()));
  Copier copier(input_, writer, report_.output_bytes, on_progress);
  for (const SafetensorsEntry& entry : writer.entries())
    MRT_RETURN_IF_ERROR(copier.Copy(sources_.at(entry.name), entry.dtype));
  MRT_RETURN_IF_ERROR(input_.CheckUnchanged());
  return writer.Commit();
}

}  // namespace mrt
