#include "tensor/checkpoint.h"

#include <sys/stat.h>

#include "tensor/pt.h"
#include "tensor/safetensors.h"

namespace mrt {
namespace {

constexpr const char* kModelFile = "diffusion_pytorch_model.safetensors";
constexpr const char* kIndexSuffix = ".index.json";

enum class Format { kSafetensors, kSafetensorsIndex, kPt, kLegacyPt, kUnknown };

/// By the first bytes. A safetensors file starts with a 64-bit length below 2^32, so its bytes 4 to
/// 7 are zero, and a JSON object; the length's low bytes may look like any other format.
Format Recognise(std::string_view bytes) {
  const bool small_length =
      bytes.size() > 8 && bytes.substr(4, 4) == std::string_view("\0\0\0\0", 4);
  if (small_length && bytes[8] == '{') return Format::kSafetensors;
  if (bytes.starts_with("PK")) return Format::kPt;
  if (IsLegacyPt(bytes)) return Format::kLegacyPt;
  const size_t text = bytes.find_first_not_of(" \t\r\n");
  if (text != bytes.npos && bytes[text] == '{') return Format::kSafetensorsIndex;
  return Format::kUnknown;
}

bool Exists(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0;
}

bool IsFolder(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

/// The file to open for a folder of a released model.
Result<std::string> ModelFileIn(const std::string& folder) {
  const std::string model = folder + "/" + kModelFile;
  for (const std::string& file : {model, model + kIndexSuffix})
    if (Exists(file)) return file;
  return NotFound("[checkpoint] " + folder + ": no " + kModelFile + " or its " + kIndexSuffix +
                  " in this folder");
}

Result<std::shared_ptr<const MappedFile>> OpenFileOrFolder(const std::string& path) {
  if (!IsFolder(path)) return MappedFile::Open(path);
  MRT_ASSIGN_OR_RETURN(const std::string file, ModelFileIn(path));
  return MappedFile::Open(file);
}

}  // namespace

CheckpointName CheckpointName::Split(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos || Exists(text)) return {text, ""};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

Result<Checkpoint> Checkpoint::Open(const std::string& path, const std::string& key) {
  MRT_ASSIGN_OR_RETURN(auto file, OpenFileOrFolder(path));
  const std::string& file_path = file->path();
  const Format format = Recognise(file->bytes());
  if (!key.empty() && (format == Format::kSafetensors || format == Format::kSafetensorsIndex))
    return InvalidArgument("[checkpoint] " + file_path + ": got the key " + key +
                           ", need none for a safetensors file");
  Result<LoadedTensors> loaded = Status();
  switch (format) {
    case Format::kSafetensors: loaded = ReadSafetensors(file); break;
    case Format::kSafetensorsIndex: loaded = ReadSafetensorsIndex(*file); break;
    case Format::kPt: loaded = ReadPt(file, key); break;
    case Format::kLegacyPt:
      return BadData("[checkpoint] " + file_path +
                     ": written by PyTorch before 1.6; load and save it again with a newer one");
    case Format::kUnknown:
      return BadData("[checkpoint] " + file_path +
                     ": not a safetensors file, an index of some, or a .pt file");
  }
  MRT_RETURN_IF_ERROR(file->CheckUnchanged());  // says more than what it made of the reader
  if (!loaded.ok()) return loaded.status();
  Checkpoint checkpoint;
  checkpoint.path_ = file_path;
  checkpoint.loaded_ = *std::move(loaded);
  MRT_RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  return checkpoint;
}

Result<std::vector<std::string>> Checkpoint::Keys(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(auto file, OpenFileOrFolder(path));
  if (Recognise(file->bytes()) != Format::kPt) return std::vector<std::string>{""};
  return PtKeys(std::move(file));
}

void Checkpoint::Add(const std::string& name, ConstTensorView tensor,
                     std::shared_ptr<const void> owner) {
  loaded_.tensors[name] = tensor;
  loaded_.owners.push_back(std::move(owner));
}

ConstTensorView Checkpoint::Find(const std::string& name) const {
  const auto it = loaded_.tensors.find(name);
  return it == loaded_.tensors.end() ? ConstTensorView{} : it->second;
}

std::vector<std::string> Checkpoint::file_paths() const {
  std::vector<std::string> paths;
  for (const auto& file : loaded_.files) paths.push_back(file->path());
  return paths;
}

void Checkpoint::StripPrefix(const std::string& prefix) {
  std::map<std::string, ConstTensorView> stripped;
  for (const auto& [name, tensor] : loaded_.tensors)
    if (name.starts_with(prefix)) stripped.emplace(name.substr(prefix.size()), tensor);
  if (!stripped.empty()) loaded_.tensors = std::move(stripped);
}

Status Checkpoint::CheckUnchanged() const {
  for (const auto& file : loaded_.files) MRT_RETURN_IF_ERROR(file->CheckUnchanged());
  return {};
}

void Checkpoint::DropPages() const {
  for (const auto& file : loaded_.files) file->DropPages();
}

}  // namespace mrt
