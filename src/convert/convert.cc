#include "monarchrt/convert.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/guard.h"
#include "base/status.h"
#include "convert/float_conversion.h"
#include "tensor/checkpoint.h"
#include "tensor/printable.h"
#include "tensor/safetensors_writer.h"

namespace monarchrt {
namespace {

namespace fs = std::filesystem;
using mrt::Checkpoint;
using mrt::ConstTensorView;
using mrt::DType;

// Written at once: few calls, and a buffer of 4 MiB at most.
constexpr int64_t kPieceElements = int64_t{1} << 20;
// How much of the mapped input may stay in memory behind the place where it is read.
constexpr int64_t kDropEveryBytes = int64_t{64} << 20;

DType NewDType(DType dtype, ConvertDType wanted) {
  if (!mrt::IsFloatingPoint(dtype)) return dtype;
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
  for (const std::string& each : keys) list += (list.empty() ? "" : ", ") + mrt::Printable(each);
  return mrt::InvalidArgument("[convert] " + path + ": got no key, need one of: " + list);
}

// As generate treats its output, and the input must live on.
Status CheckOutput(const std::string& output, const Checkpoint& input, const std::string& opened) {
  std::error_code ignored;
  const fs::file_status status = fs::status(output, ignored);
  if (!fs::exists(status) || fs::is_directory(status)) return {};  // AtomicFile refuses the latter
  if (!fs::is_regular_file(status))
    return mrt::InvalidArgument("[convert] got '" + output +
                                "', which is not a regular file, need a file name");
  std::vector<std::string> files = input.file_paths();
  files.push_back(input.path());  // the index, if there are shards
  files.push_back(opened);
  for (const std::string& file : files)
    if (fs::equivalent(file, output, ignored))
      return mrt::InvalidArgument("[convert] got '" + output +
                                  "' as input and output, need two files");
  return {};
}

struct Plan {
  std::vector<mrt::SafetensorsEntry> entries;
  std::map<std::string, ConstTensorView> sources;  // by the new name
  ConvertReport report;
};

Result<Plan> MakePlan(const Checkpoint& input, const ConvertOptions& options) {
  Plan plan;
  for (const auto& [name, tensor] : input.tensors()) {
    if (!name.starts_with(options.strip_prefix) || name.size() == options.strip_prefix.size())
      return mrt::InvalidArgument("[convert] got the tensor " + mrt::Printable(name) +
                                  ", need names that go on after the prefix " +
                                  mrt::Printable(options.strip_prefix));
    const std::string new_name = name.substr(options.strip_prefix.size());
    const DType dtype = NewDType(tensor.dtype, options.dtype);
    plan.entries.push_back({new_name, dtype, tensor.shape});
    plan.sources.emplace(new_name, tensor);
    plan.report.rounded += dtype != tensor.dtype;
    plan.report.output_bytes += plan.entries.back().bytes();
  }
  plan.report.tensors = static_cast<int64_t>(plan.entries.size());
  return plan;
}

std::map<std::string, std::string> MakeMetadata(const Checkpoint& input, const std::string& key) {
  std::map<std::string, std::string> metadata = input.metadata();
  metadata.emplace("format", "pt");
  metadata["converted_from"] = mrt::Escaped(fs::path(input.path()).filename().string()) +
                               (key.empty() ? "" : ":" + mrt::Escaped(key));
  return metadata;
}

// Copies the tensors into the file, piece by piece.
class Copier {
 public:
  Copier(const Checkpoint& input, mrt::SafetensorsWriter& writer, int64_t bytes_total,
         const ConvertProgress& on_progress)
      : input_(input), writer_(writer), bytes_total_(bytes_total), on_progress_(on_progress) {}

  Status Copy(const std::string& name, const ConstTensorView& source, DType to) {
    const int64_t elements = source.shape.elements();
    for (int64_t begin = 0; begin < elements; begin += kPieceElements) {
      const int64_t end = std::min(begin + kPieceElements, elements);
      MRT_RETURN_IF_ERROR(CopyPiece(name, source, to, begin, end));
      bytes_done_ += (end - begin) * mrt::DTypeSize(to);
      read_bytes_ += (end - begin) * mrt::DTypeSize(source.dtype);
      if (read_bytes_ >= kDropEveryBytes) {
        input_.DropPages();
        read_bytes_ = 0;
      }
      if (on_progress_) on_progress_(bytes_done_, bytes_total_);
    }
    return {};
  }

 private:
  Status CopyPiece(const std::string& name, const ConstTensorView& source, DType to, int64_t begin,
                   int64_t end) {
    if (to == source.dtype) {
      const int64_t size = mrt::DTypeSize(to);
      return writer_.Append(static_cast<const char*>(source.data) + begin * size,
                            (end - begin) * size);
    }
    piece_.resize(static_cast<size_t>((end - begin) * mrt::DTypeSize(to)));
    const int64_t overflow = mrt::ConvertElements(source, begin, end, to, piece_.data());
    if (overflow >= 0) {
      char value[32];
      std::snprintf(value, sizeof(value), "%.9g", mrt::ElementAsDouble(source, overflow));
      return mrt::InvalidArgument("[convert] tensor " + mrt::Printable(name) + " holds " + value +
                                  ", which is infinite as " + mrt::DTypeName(to) +
                                  "; need another dtype");
    }
    return writer_.Append(piece_.data(), static_cast<int64_t>(piece_.size()));
  }

  const Checkpoint& input_;
  mrt::SafetensorsWriter& writer_;
  const int64_t bytes_total_;
  const ConvertProgress& on_progress_;
  std::vector<char> piece_;
  int64_t bytes_done_ = 0;
  int64_t read_bytes_ = 0;  // since pages were dropped
};

Result<ConvertReport> ConvertFile(const ConvertOptions& options,
                                  const ConvertProgress& on_progress) {
  mrt::CheckpointName name = {options.input, options.key};
  if (name.key.empty()) name = mrt::CheckpointName::Split(options.input);
  MRT_ASSIGN_OR_RETURN(const std::string key, FindKey(name.path, name.key));
  MRT_ASSIGN_OR_RETURN(const Checkpoint input, Checkpoint::Open(name.path, key));
  MRT_RETURN_IF_ERROR(CheckOutput(options.output, input, name.path));
  MRT_ASSIGN_OR_RETURN(Plan plan, MakePlan(input, options));
  MRT_ASSIGN_OR_RETURN(mrt::SafetensorsWriter writer,
                       mrt::SafetensorsWriter::Create(options.output, std::move(plan.entries),
                                                      MakeMetadata(input, key)));
  Copier copier(input, writer, plan.report.output_bytes, on_progress);
  for (const mrt::SafetensorsEntry& entry : writer.entries())
    MRT_RETURN_IF_ERROR(copier.Copy(entry.name, plan.sources.at(entry.name), entry.dtype));
  MRT_RETURN_IF_ERROR(input.CheckUnchanged());
  MRT_RETURN_IF_ERROR(writer.Commit());
  plan.report.key = key;
  return plan.report;
}

}  // namespace

Result<ConvertReport> Convert(const ConvertOptions& options, const ConvertProgress& on_progress) {
  return mrt::Guard([&] { return ConvertFile(options, on_progress); });
}

}  // namespace monarchrt
