#include "monarchrt/inspect.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <new>
#include <set>
#include <utility>

#include "base/status.h"
#include "tensor/checkpoint.h"
#include "tensor/int8_weights.h"
#include "tensor/printable.h"

namespace monarchrt {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexSuffix = ".safetensors.index.json";
constexpr const char* kSuffixes[] = {kIndexSuffix, ".safetensors", ".pt", ".pth"};
// A folder with more than this in it is no checkpoint tree but somebody's home.
constexpr int kFolderEntriesMax = 100'000;

/// Tensors that together tell a model from all others. Names may have a prefix ("model."), the same
/// for all: that of the first of them.
struct Signature {
  ModelKind kind;
  std::vector<std::string> names;
};

const std::vector<Signature>& Signatures() {
  static const std::vector<Signature> kSignatures = {
      {ModelKind::kWanTransformer,
       {"patch_embedding.weight", "text_embedding.0.weight", "blocks.0.self_attn.q.weight"}},
      {ModelKind::kUmt5Encoder,
       {"token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.ffn.gate.0.weight"}},
      {ModelKind::kWanVae, {"decoder.conv1.weight", "decoder.head.0.gamma", "conv2.weight"}},
      {ModelKind::kTaehv, {"decoder.1.weight", "decoder.3.conv.0.weight"}},
  };
  return kSignatures;
}

ModelKind KindOf(const mrt::Checkpoint& checkpoint) {
  for (const auto& [kind, names] : Signatures()) {
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      if (!name.ends_with(names[0])) continue;
      const std::string prefix = name.substr(0, name.size() - names[0].size());
      if (std::all_of(names.begin(), names.end(), [&](const std::string& needed) {
            return !checkpoint.Find(prefix + needed).empty();
          }))
        return kind;
    }
  }
  return ModelKind::kUnknown;
}

/// Fills `parameters`, `int8_matrices` and `memory_int8_bytes`.
void CountParameters(const mrt::Checkpoint& checkpoint, InspectModel& model) {
  int64_t int8_bytes = 0;
  std::set<std::string> scales;
  for (const auto& [name, view] : checkpoint.tensors()) {
    const int64_t elements = view.shape.elements();
    const std::string scale_name = mrt::ScaleName(name);
    const bool is_int8 = view.dtype == mrt::DType::kI8 && mrt::IsBlockMatrix(name) &&
                         !checkpoint.Find(scale_name).empty();
    if (is_int8) scales.insert(scale_name);  // which comes after it
    if (scales.contains(name) || !(is_int8 || mrt::IsFloatingPoint(view.dtype))) continue;
    model.parameters += elements;
    model.int8_matrices += is_int8;
    int8_bytes += mrt::IsBlockMatrix(name) && view.shape.rank() == 2
                      ? elements + view.shape[0] * mrt::DTypeSize(mrt::DType::kF32)
                      : elements * mrt::DTypeSize(mrt::DType::kBF16);
  }
  if (model.kind == ModelKind::kWanTransformer) model.memory_int8_bytes = int8_bytes;
}

InspectModel Describe(const mrt::Checkpoint& checkpoint, const std::string& path,
                      const std::string& key) {
  InspectModel model;
  model.path = path;
  model.key = key;
  model.kind = KindOf(checkpoint);
  model.metadata = checkpoint.metadata();
  for (const auto& [name, view] : checkpoint.tensors()) {
    InspectTensor tensor{name, mrt::DTypeName(view.dtype), {}, view.bytes()};
    for (int axis = 0; axis < view.shape.rank(); ++axis) tensor.shape.push_back(view.shape[axis]);
    model.dtype_bytes[tensor.dtype] += tensor.bytes;
    model.tensors.push_back(std::move(tensor));
  }
  CountParameters(checkpoint, model);
  model.memory_bf16_bytes = model.parameters * mrt::DTypeSize(mrt::DType::kBF16);
  model.memory_f32_bytes = model.parameters * mrt::DTypeSize(mrt::DType::kF32);
  return model;
}

/// Adds the model under `key`, or without a key every one of the file. `files` gets all files that
/// were read for it.
Status AddFile(const std::string& path, const std::string& key, InspectReport& report,
               std::set<std::string>& files) {
  std::vector<std::string> keys = {key};
  if (key.empty()) {
    MRT_ASSIGN_OR_RETURN(keys, mrt::Checkpoint::Keys(path));
    if (keys.empty()) keys = {""};  // Open says what is wrong
  }
  for (const std::string& each : keys) {
    MRT_ASSIGN_OR_RETURN(const mrt::Checkpoint checkpoint, mrt::Checkpoint::Open(path, each));
    report.models.push_back(Describe(checkpoint, path, each));
    for (const std::string& file : checkpoint.file_paths()) files.insert(file);
  }
  return {};
}

/// The model files of a folder and all below it, sorted, indices before everything else.
Result<std::vector<std::string>> ListModelFiles(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  int entries = 0;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (++entries > kFolderEntriesMax)
      return mrt::InvalidArgument("[inspect] " + folder + ": got more than " +
                                  std::to_string(kFolderEntriesMax) +
                                  " files, need a model folder");
    const std::string path = entry->path().string();
    std::error_code ignored;
    if (entry->is_regular_file(ignored) &&
        std::any_of(std::begin(kSuffixes), std::end(kSuffixes),
                    [&](const char* suffix) { return path.ends_with(suffix); }))
      files.push_back(path);
  }
  if (error) return mrt::IoError("[inspect] " + folder + ": " + error.message());
  std::sort(files.begin(), files.end(), [](const std::string& a, const std::string& b) {
    return std::pair(!a.ends_with(kIndexSuffix), a) < std::pair(!b.ends_with(kIndexSuffix), b);
  });
  return files;
}

Status AddFolder(const std::string& folder, InspectReport& report) {
  MRT_ASSIGN_OR_RETURN(const std::vector<std::string> files, ListModelFiles(folder));
  std::set<std::string> seen;  // shards of an index
  for (const std::string& file : files) {
    if (seen.contains(file)) continue;
    const Status status = AddFile(file, "", report, seen);
    if (!status.ok()) report.problems.push_back({file, status.message()});
  }
  std::stable_sort(report.models.begin(), report.models.end(),
                   [](const InspectModel& a, const InspectModel& b) { return a.path < b.path; });
  if (files.empty())
    return mrt::NotFound("[inspect] " + folder + ": no model files in this folder");
  return {};
}

Result<InspectReport> InspectPath(std::string path, std::string key) {
  if (key.empty()) {
    mrt::CheckpointName name = mrt::CheckpointName::Split(path);
    path = std::move(name.path);
    key = std::move(name.key);
  }
  std::error_code ignored;
  InspectReport report;
  report.path = path;
  if (fs::is_directory(path, ignored)) {
    if (!key.empty())
      return mrt::InvalidArgument("[inspect] " + path + ": got the key " + mrt::Printable(key) +
                                  " for a folder, need a file");
    MRT_RETURN_IF_ERROR(AddFolder(path, report));
    return report;
  }
  std::set<std::string> files;
  MRT_RETURN_IF_ERROR(AddFile(path, key, report, files));
  return report;
}

}  // namespace

const char* ModelKindName(ModelKind kind) {
  switch (kind) {
    case ModelKind::kUnknown: return "unknown model";
    case ModelKind::kWanTransformer: return "Wan transformer";
    case ModelKind::kUmt5Encoder: return "UMT5 text encoder";
    case ModelKind::kWanVae: return "Wan VAE";
    case ModelKind::kTaehv: return "TAEHV";
  }
  return "unknown model";
}

Result<InspectReport> Inspect(const std::string& path, const std::string& key) {
  try {
    return InspectPath(path, key);
  } catch (const std::bad_alloc&) {
    return mrt::OutOfMemory("[inspect] " + path + ": not enough memory");
  } catch (const std::exception& error) {
    return mrt::Internal("[inspect] " + path + ": " + error.what());
  }
}

}  // namespace monarchrt
