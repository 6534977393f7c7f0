#include "convert/package.h"

#include <filesystem>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/file_name.h"
#include "base/json.h"
#include "convert/file_job.h"
#include "tensor/mapped_file.h"
#include "tensor/printable.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using monarchrt::ConvertOptions;
using monarchrt::ConvertProgress;
using monarchrt::ConvertQuantize;
using monarchrt::ConvertReport;

constexpr char kDescription[] = "model.json";
constexpr char kFormat[] = "monarchrt model 1";
constexpr size_t kDescriptionBytesMax = 1 << 20;
constexpr int kDescriptionDepthMax = 8;  // of a description: what walks through it is recursive
constexpr char kTransformer[] = "transformer", kTokenizer[] = "tokenizer";
constexpr const char* kWeights[] = {kTransformer, "text_encoder", "autoencoder"};
constexpr char kTokenizerFile[] = "spiece.model";

Result<OrderedJson> ReadDescription(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  const std::string where = "[convert] " + path + ": ";
  if (file->bytes().size() > kDescriptionBytesMax)
    return BadData(where + "got " + std::to_string(file->bytes().size()) + " bytes, need at most " +
                   std::to_string(kDescriptionBytesMax));
  if (NestsDeeper(file->bytes(), kDescriptionDepthMax))
    return BadData(where + "is nested too deep, need " + std::to_string(kDescriptionDepthMax) +
                   " levels at most");
  OrderedJson json = ParseOrderedJson(file->bytes());
  if (!json.is_object()) return BadData(where + "is not a JSON object");
  const auto format = json.find("format");
  const std::string got =
      format != json.end() && format->is_string() ? format->get<std::string>() : "";
  if (got != kFormat)
    return BadData(where + "got format " + Printable(got) + ", need '" + kFormat + "'");
  const auto files = json.find("files");
  if (files == json.end() || !files->is_object()) return BadData(where + "files is not an object");
  for (const char* part : {kWeights[0], kWeights[1], kWeights[2], kTokenizer}) {
    const auto name = files->find(part);
    if (name == files->end() || !name->is_string() ||
        !IsBareFileName(name->get_ref<const std::string&>()))
      return BadData(where + "files." + part + " is not the name of a file in the same folder");
  }
  return json;
}

Status WriteFile(const fs::path& path, std::string_view bytes) {
  MRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path.string()));
  MRT_RETURN_IF_ERROR(file.Append(reinterpret_cast<const uint8_t*>(bytes.data()),
                                  static_cast<int64_t>(bytes.size())));
  return file.Commit();
}

// Its weights, planned; `files` of the description then names what they will be.
Result<std::vector<FileJob>> PlanWeights(const ConvertOptions& options, OrderedJson* files) {
  std::vector<FileJob> jobs;
  for (const char* part : kWeights) {
    const std::string file = std::string(part) + ".safetensors";
    ConvertOptions one = {
        .input = (fs::path(options.input) / (*files)[part].get<std::string>()).string(),
        .output = (fs::path(options.output) / file).string(),
        .dtype = options.dtype,
        .quantize = part == kTransformer ? options.quantize : ConvertQuantize::kNone};
    MRT_ASSIGN_OR_RETURN(FileJob job, FileJob::Plan(one));
    jobs.push_back(std::move(job));
    (*files)[part] = file;
  }
  return jobs;
}

// Nothing in it is removed for the user: it may be anything.
Status IsThere(const std::string& folder) {
  const std::string got = "[convert] got the package folder '" + folder + "', which is there";
  if (IsPackage(folder)) return InvalidArgument(got + ", need a new name");
  return InvalidArgument(got + " without a model.json, need a new name; if a conversion that was " +
                         "stopped has left it, remove it");
}

Status WritePackage(const ConvertOptions& options, std::string_view tokenizer,
                    const OrderedJson& json, std::vector<FileJob>& jobs, int64_t bytes_total,
                    const ConvertProgress& on_progress) {
  int64_t bytes_before = 0;
  const ConvertProgress progress = [&](int64_t done, int64_t) {
    if (on_progress) on_progress(bytes_before + done, bytes_total);
  };
  for (FileJob& job : jobs) {
    MRT_RETURN_IF_ERROR(job.Run(progress));
    bytes_before += job.report().output_bytes;
  }
  MRT_RETURN_IF_ERROR(WriteFile(fs::path(options.output) / kTokenizerFile, tokenizer));
  return WriteFile(fs::path(options.output) / kDescription, DumpJson(json, 1) + "\n");
}

}  // namespace

bool IsPackage(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) &&
         fs::is_regular_file(fs::path(path) / kDescription, ignored);
}

Result<ConvertReport> ConvertPackage(const ConvertOptions& options,
                                     const ConvertProgress& on_progress) {
  if (!options.key.empty() || !options.strip_prefix.empty())
    return InvalidArgument("[convert] got a key or a prefix, need none for a package");
  const fs::path folder = options.input;
  MRT_ASSIGN_OR_RETURN(OrderedJson json, ReadDescription((folder / kDescription).string()));
  OrderedJson& files = json["files"];
  MRT_ASSIGN_OR_RETURN(const auto tokenizer,
                       MappedFile::Open((folder / files[kTokenizer].get<std::string>()).string()));
  files[kTokenizer] = kTokenizerFile;
  MRT_ASSIGN_OR_RETURN(std::vector<FileJob> jobs, PlanWeights(options, &files));
  ConvertReport report;
  for (const FileJob& job : jobs) {
    report.tensors += job.report().tensors;
    report.rounded += job.report().rounded;
    report.quantized += job.report().quantized;
    report.output_bytes += job.report().output_bytes;
  }
  std::error_code error;
  if (!fs::create_directory(options.output, error))
    return error ? IoError("[convert] cannot make the folder '" + options.output +
                           "': " + error.message())
                 : IsThere(options.output);
  const Status written =
      WritePackage(options, tokenizer->bytes(), json, jobs, report.output_bytes, on_progress);
  if (!written.ok()) {
    fs::remove_all(options.output, error);
    return written;
  }
  return report;
}

}  // namespace mrt
