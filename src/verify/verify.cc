#include "monarchrt/verify.h"

#include <algorithm>
#include <filesystem>

#include "base/guard.h"
#include "base/threads.h"
#include "ops/environment.h"
#include "pipeline/device.h"
#include "pipeline/plan.h"
#include "verify/case_file.h"
#include "verify/cases.h"
#include "verify/judge.h"

namespace mrt::verify {
namespace {

namespace fs = std::filesystem;

enum class Kind { kNone, kAttention, kWan, kWanVae, kTaehv, kText, kRuns };

// Files of one kind that share a model directory.
struct Group {
  Kind kind = Kind::kNone;
  std::string directory;
  Files files;
};

bool HasFile(const fs::path& directory, const char* name) {
  std::error_code ignored;
  return fs::is_regular_file(directory / name, ignored);
}

// What a safetensors file holds, by its tensors.
Kind KindOfTensors(const Checkpoint& file) {
  const auto has = [&](const char* name) { return !file.Find(name).empty(); };
  if (has("q") && has("k") && has("v") && has("out")) return Kind::kAttention;
  if (has("ids_0")) return Kind::kText;
  if (has("noise") && has("latents"))
    return has("ids") || has("video") || !has("context") ? Kind::kRuns : Kind::kWan;
  if (has("flow") && has("latents") && has("context")) return Kind::kWan;
  if ((has("decoded") && has("latents")) || (has("encoded") && has("video"))) return Kind::kWanVae;
  return Kind::kNone;
}

// Pixels of the Wan VAE lie in -1..1, those of TAEHV in 0..1.
bool HasNegativePixels(const Checkpoint& file) {
  for (const char* name : {"decoded", "video"}) {
    const ConstTensorView pixels = file.Find(name);
    for (int64_t i = 0; i < pixels.shape.elements() && !pixels.empty(); ++i)
      if (IsFloatingPoint(pixels.dtype) && ElementAsFloat(pixels, i) < 0) return true;
  }
  return false;
}

Result<Kind> KindOfFile(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint file, Checkpoint::Open(path));
  const Kind kind = KindOfTensors(file);
  if (kind != Kind::kWanVae) return kind;
  const fs::path directory = fs::path(path).parent_path();
  const bool wan = HasFile(directory, "Wan2.1_VAE.pth"), tiny = HasFile(directory, "taew2_1.pth");
  if (wan && tiny) return HasNegativePixels(file) ? Kind::kWanVae : Kind::kTaehv;
  return tiny ? Kind::kTaehv : Kind::kWanVae;
}

void AddToGroups(std::vector<Group>& groups, Kind kind, const std::string& file) {
  std::string directory = fs::path(file).parent_path().string();
  if (directory.empty()) directory = ".";
  for (Group& group : groups)
    if (group.kind == kind && group.directory == directory) return group.files.push_back(file);
  groups.push_back({kind, directory, {file}});
}

// Weights, not cases: they may be large and are opened with their model.
bool IsWeightsFile(const fs::path& path) {
  return path.filename().string().starts_with("diffusion_pytorch_model");
}

// All cases below a directory, in the order of their names.
Status FindCases(const fs::path& directory, int depth, std::vector<Group>& groups) {
  constexpr int kDepthMax = 8;
  std::vector<fs::path> files, directories;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) directories.push_back(it->path());
    if (it->is_regular_file(ignored) && it->path().extension() == ".safetensors" &&
        !IsWeightsFile(it->path()))
      files.push_back(it->path());
  }
  if (error) return IoError("[verify] " + directory.string() + ": " + error.message());
  std::sort(files.begin(), files.end());
  std::sort(directories.begin(), directories.end());
  for (const fs::path& file : files) {
    MRT_ASSIGN_OR_RETURN(const Kind kind, KindOfFile(file.string()));
    if (kind != Kind::kNone) AddToGroups(groups, kind, file.string());
  }
  if (depth >= kDepthMax) return {};
  for (const fs::path& below : directories)
    MRT_RETURN_IF_ERROR(FindCases(below, depth + 1, groups));
  return {};
}

Result<std::vector<Group>> FindGroups(const std::string& path) {
  std::vector<Group> groups;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    MRT_RETURN_IF_ERROR(FindCases(path, 0, groups));
  } else {
    MRT_ASSIGN_OR_RETURN(const Kind kind, KindOfFile(path));
    if (kind != Kind::kNone) AddToGroups(groups, kind, path);
  }
  if (!groups.empty()) return groups;
  return NotFound(
      "[verify] " + path +
      " holds no golden data: need a safetensors file with q, k, v, out, or with latents "
      "and what they become");
}

Status RunGroup(const Group& group, ops::Context& context, ops::Context& text_context,
                const RunOptions& options, Judge& judge) {
  switch (group.kind) {
    case Kind::kAttention:
      for (const std::string& file : group.files)
        MRT_RETURN_IF_ERROR(VerifyAttention(file, context, options, judge));
      return {};
    case Kind::kWan: return VerifyWan(group.directory, group.files, context, options, judge);
    case Kind::kWanVae: return VerifyWanVae(group.directory, group.files, context, judge);
    case Kind::kTaehv: return VerifyTaehv(group.directory, group.files, context, judge);
    case Kind::kText: return VerifyText(group.directory, group.files, text_context, judge);
    case Kind::kRuns:
      return VerifyRuns(group.directory, group.files, context, text_context, options, judge);
    case Kind::kNone: break;
  }
  return {};
}

Status RunPass(const Group& group, ops::Precision precision, const RunOptions& options,
               Judge& judge) {
  ops::Context context(precision);
  return RunGroup(group, context, context, options, judge);
}

// What rounding costs: emulated against float32.
Status MeasureRounding(const Group& group, Judge::Pass reference, const RunOptions& run,
                       Judge& judge) {
  judge.set_pass(reference);
  MRT_RETURN_IF_ERROR(RunPass(group, ops::Precision::kF32, run, judge));
  judge.set_pass(Judge::Pass::kYardstick);
  return RunPass(group, ops::Precision::kBF16Emulated, run, judge);
}

// A rollout amplifies rounding, so that one sample of it may be far from the next. Where a verdict
// depends on that, more are made, of cases that differ from the file's by a rounding of their
// noise.
Status MeasureRoundingAgain(const Group& group, RunOptions run, Judge& judge) {
  constexpr int kVariations = 3;
  if (group.kind != Kind::kWan && group.kind != Kind::kRuns) return {};
  for (run.variation = 1; run.variation <= kVariations; ++run.variation)
    MRT_RETURN_IF_ERROR(MeasureRounding(group, Judge::Pass::kVariation, run, judge));
  return {};
}

Result<std::vector<monarchrt::VerifyLine>> Run(const std::string& path,
                                               const monarchrt::VerifyOptions& options,
                                               const monarchrt::VerifyCallback& on_line) {
  MRT_RETURN_IF_ERROR(CheckThreads(options.threads));
  MRT_ASSIGN_OR_RETURN(const Device device, Device::Open(options.device));
  MRT_ASSIGN_OR_RETURN(const auto precision, device.ResolvePrecision(options.precision));
  MRT_ASSIGN_OR_RETURN(const auto text_precision, device.ResolveTextPrecision(options.precision));
  if (device.backend() != nullptr && !options.implementation.empty())
    return InvalidArgument("[verify] got implementation '" + options.implementation +
                           "', kernels have names to choose from on device cpu only");
  MRT_ASSIGN_OR_RETURN(const std::vector<Group> groups, FindGroups(path));
  const ThreadCountScope scope(options.threads);
  RunOptions run = {.implementation = options.implementation,
                    .precision = options.precision,
                    .device = device.name()};
  Judge judge(on_line);
  RunOptions rounding = run;
  // int8 may be off by what bf16 may, too: its yardsticks are without it.
  if (options.precision == monarchrt::Precision::kInt8)
    rounding.precision = monarchrt::Precision::kAuto;
  rounding.skip_int8 = true;
  ops::Context context(precision, device.backend()), text_context(text_precision);
  for (const Group& group : groups) {
    const bool rounds = precision == ops::Precision::kBF16;
    if (rounds)
      MRT_RETURN_IF_ERROR(MeasureRounding(group, Judge::Pass::kReference, rounding, judge));
    judge.set_pass(Judge::Pass::kVerdict);
    const bool on_cpu = device.backend() == nullptr;
    const size_t lines_before = judge.lines().size();
    MRT_RETURN_IF_ERROR(RunGroup(group, context, on_cpu ? context : text_context, run, judge));
    if (judge.lines().size() == lines_before)
      return NotFound("[verify] " + group.files.front() + " holds nothing to compare");
    if (rounds && judge.exceeds_yardstick())
      MRT_RETURN_IF_ERROR(MeasureRoundingAgain(group, rounding, judge));
    judge.Flush();
  }
  return judge.lines();
}

}  // namespace
}  // namespace mrt::verify

namespace monarchrt {

Result<std::vector<VerifyLine>> Verify(const std::string& path, const VerifyOptions& options,
                                       const VerifyCallback& on_line) {
  return mrt::Guard([&]() -> Result<std::vector<VerifyLine>> {
    MRT_RETURN_IF_ERROR(mrt::ops::CheckEnvironment());
    return mrt::verify::Run(path, options, on_line);
  });
}

}  // namespace monarchrt
