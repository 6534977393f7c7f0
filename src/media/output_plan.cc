#include "media/output_plan.h"

#include <cctype>
#include <filesystem>

#include "media/ffmpeg.h"

namespace mrt::media {
namespace {

namespace fs = std::filesystem;

constexpr int kGifFpsMax = 50;  // a frame lasts whole hundredths; viewers take 1 for 10
constexpr int kThreadsMax = 64;

struct FormatRow {
  OutputFormat format;
  const char* name;                 // also the extension
  bool even;                        // chroma of 2x2 pixels
  std::vector<const char*> codecs;  // the first is the default
};

const std::vector<FormatRow>& Formats() {
  static const std::vector<FormatRow> kFormats = {
      {OutputFormat::kMp4, "mp4", true, {"h264", "av1"}},
      {OutputFormat::kWebm, "webm", true, {"vp9", "av1"}},
      {OutputFormat::kGif, "gif", false, {}},
      {OutputFormat::kY4m, "y4m", true, {}},
      {OutputFormat::kPng, "png", false, {}},
      {OutputFormat::kRgb, "rgb", false, {}},
  };
  return kFormats;
}

const FormatRow* FindFormat(const std::string& name) {
  for (const FormatRow& row : Formats())
    if (name == row.name) return &row;
  return nullptr;
}

std::string ExtensionOf(const std::string& path) {  // small letters, without the dot
  std::string extension = fs::path(path).extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension.empty() ? extension : extension.substr(1);
}

bool IsFolderName(const std::string& path) { return path.ends_with('/'); }

// The format of the options, or of the name. `to_file`: the name counts.
Result<const FormatRow*> ChooseFormat(const std::string& path, bool to_file,
                                      const VideoWriterOptions& o) {
  constexpr const char* kNames = "mp4, webm, gif, y4m, png or rgb";
  const FormatRow* asked = FindFormat(o.format);
  if (!o.format.empty() && !asked)
    return InvalidArgument("[output] got the format '" + o.format + "', need " + kNames);
  if (!to_file) {
    if (asked) return asked;
    return InvalidArgument("[output] got no format for a pipe, need webm, gif, y4m, rgb or mp4");
  }
  const bool is_folder = IsFolderName(path);
  const FormatRow* named =
      FindFormat(ExtensionOf(is_folder ? path.substr(0, path.size() - 1) : path));
  if (is_folder && named)
    return InvalidArgument("[output] got the folder '" + path + "', need a file name");
  if (is_folder) named = FindFormat("png");
  if (asked && named && asked != named)
    return InvalidArgument("[output] got the name '" + path + "' for the format " + asked->name +
                           ", need a name that ends in ." + asked->name);
  if (asked || named) return asked ? asked : named;
  return InvalidArgument("[output] got the name '" + path +
                         "', need one that ends in .mp4, .webm, .gif, .y4m, .rgb, /%05d.png or / "
                         "(a folder of PNG files), or a format");
}

Status RequireBetween(const char* name, int value, int low, int high) {
  if (value >= low && value <= high) return {};
  return InvalidArgument(std::string("[output] got ") + name + " " + std::to_string(value) +
                         ", need " + std::to_string(low) + " to " + std::to_string(high));
}

Status CheckNumbers(const FormatRow& format, const VideoWriterOptions& o) {
  MRT_RETURN_IF_ERROR(RequireBetween("width", o.width, 1, kSideMax));
  MRT_RETURN_IF_ERROR(RequireBetween("height", o.height, 1, kSideMax));
  if (format.even && (o.width % 2 || o.height % 2))
    return InvalidArgument("[output] got frames of " + std::to_string(o.width) + "x" +
                           std::to_string(o.height) + ", need an even width and height for " +
                           format.name);
  const int fps_max = format.format == OutputFormat::kGif ? kGifFpsMax : kFpsMax;
  MRT_RETURN_IF_ERROR(RequireBetween("fps", o.fps, 1, fps_max));
  return RequireBetween("threads", o.threads, 0, kThreadsMax);
}

// What only some formats have.
Status CheckExtras(const FormatRow& format, bool to_file, const VideoWriterOptions& o) {
  const auto refuse = [&](const std::string& what) {
    return InvalidArgument("[output] got " + what + " for " + format.name +
                           ", which has none, need it left out");
  };
  if (format.codecs.empty()) {
    if (!o.codec.empty()) return refuse("the codec '" + o.codec + "'");
    if (!o.quality.empty()) return refuse("the quality '" + o.quality + "'");
    if (!o.preset.empty()) return refuse("the preset '" + o.preset + "'");
  }
  const bool mp4 = format.format == OutputFormat::kMp4;
  if (o.fragmented && !mp4)
    return InvalidArgument(std::string("[output] got fragments for ") + format.name +
                           ", need mp4 for them");
  if (!to_file && mp4 && !o.fragmented)
    return InvalidArgument("[output] got mp4 for a pipe, where nobody can seek, need fragments");
  if (!to_file && format.format == OutputFormat::kPng)
    return InvalidArgument("[output] got png for a pipe, need a folder for many files");
  return {};
}

Status ChooseCodec(const FormatRow& format, const VideoWriterOptions& o, OutputPlan* plan) {
  if (format.codecs.empty()) return {};
  const std::string name = o.codec.empty() ? format.codecs[0] : o.codec;
  bool fits = false;
  std::string names;
  for (const char* codec : format.codecs) {
    fits = fits || name == codec;
    names += (names.empty() ? "" : " or ") + std::string(codec);
  }
  if (!fits)
    return InvalidArgument("[output] got the codec '" + name + "' for " + format.name + ", need " +
                           names);
  const VideoCodec& codec = *FindVideoCodec(name);
  MRT_ASSIGN_OR_RETURN(plan->crf, CrfOf(codec, o.quality));
  MRT_ASSIGN_OR_RETURN(plan->encoder, ChooseEncoder(codec, plan->live()));
  return {};
}

// "%d" or "%05d", once and in the last part of the path.
bool IsPattern(const std::string& path) {
  const size_t percent = path.find('%');
  if (percent == std::string::npos || path.find('/', percent) != std::string::npos) return false;
  size_t at = percent + 1;
  if (path[at] == '0' && std::isdigit(static_cast<unsigned char>(path[at + 1]))) at += 2;
  return path[at] == 'd' && path.find('%', at) == std::string::npos;
}

Result<std::string> PngPattern(const std::string& path) {
  if (ExtensionOf(path) == "png") {
    if (IsPattern(path)) return path;
    return InvalidArgument("[output] got '" + path +
                           "', need one number in the name, as in frames/%05d.png, or a folder");
  }
  if (path.empty() || path.find('%') != std::string::npos)
    return InvalidArgument("[output] got '" + path + "', need a folder for the PNG files");
  return path + (IsFolderName(path) ? "" : "/") + "%05d.png";
}

}  // namespace

Result<OutputPlan> PlanOutput(const std::string& path, std::optional<int> fd,
                              const VideoWriterOptions& o) {
  constexpr int kStdout = 1;
  OutputPlan plan = {.path = path, .fd = fd, .fragmented = o.fragmented};
  if (!fd && path == "-") plan.fd = kStdout;
  const bool to_file = !plan.fd;
  MRT_ASSIGN_OR_RETURN(const FormatRow* format, ChooseFormat(path, to_file, o));
  plan.format = format->format;
  MRT_RETURN_IF_ERROR(CheckNumbers(*format, o));
  MRT_RETURN_IF_ERROR(CheckExtras(*format, to_file, o));
  MRT_RETURN_IF_ERROR(ChooseCodec(*format, o, &plan));
  if (plan.format == OutputFormat::kPng) {
    MRT_ASSIGN_OR_RETURN(plan.path, PngPattern(path));
  }
  return plan;
}

}  // namespace mrt::media
