#include "pipeline/package.h"

#include <cmath>
#include <filesystem>

#include "base/file_name.h"
#include "base/json.h"
#include "tensor/mapped_file.h"
#include "tensor/printable.h"

namespace mrt {
namespace {

using monarchrt::VaeKind;
using mrt::Json;

constexpr char kFormat[] = "monarchrt model 1";
constexpr size_t kBytesMax = 1 << 20;  // a model.json has a few hundred

/// A text of the object `json`, or empty.
std::string Text(const Json& json, const char* name) {
  const auto field = json.find(name);
  return field != json.end() && field->is_string() ? field->get<std::string>() : "";
}

// Of "generation": far above any real value. What fits the model is for the plan to say.
constexpr int64_t kSidePixelsMax = 8192;
constexpr int64_t kStepMax = 1000;
constexpr int64_t kWindowFramesMax = 10'000'000;

/// A wrong value for a message. What is nested would be walked through recursively.
std::string Shown(const Json& value) {
  return value.is_primitive() ? Printable(mrt::DumpJson(value))
                              : std::string("an ") + value.type_name();
}

/// `name` of the section, if it is there.
Status ReadWhole(const Json& section, const char* name, int64_t least, int64_t most,
                 const std::string& where, std::optional<int>* out) {
  const auto field = section.find(name);
  if (field == section.end()) return {};
  // Numbers past int64_t are unsigned in the parser, and would wrap.
  const bool fits = field->is_number_integer() &&
                    !(field->is_number_unsigned() && field->get<uint64_t>() > INT32_MAX) &&
                    field->get<int64_t>() >= least && field->get<int64_t>() <= most;
  if (!fits)
    return BadData(where + "generation." + name + " is " + Shown(*field) +
                   ", need a whole number of " + std::to_string(least) + " to " +
                   std::to_string(most));
  *out = static_cast<int>(field->get<int64_t>());
  return {};
}

Status ReadSteps(const Json& steps, const std::string& where, std::vector<int>* out) {
  bool fits = steps.is_array() && !steps.empty() && steps.size() <= kStepMax + 1;
  for (size_t i = 0; fits && i < steps.size(); ++i) {
    const Json& step = steps[i];
    const int64_t most = i == 0 ? kStepMax : out->back() - 1;
    fits = step.is_number_unsigned() && step.get<uint64_t>() <= kStepMax &&
           step.get<int64_t>() <= most;
    if (fits) out->push_back(step.get<int>());
  }
  if (fits) return {};
  return BadData(where + "generation.steps is not a list of decreasing whole numbers of " +
                 std::to_string(kStepMax) + " to 0, need one");
}

Status ReadAttention(const Json& name, const std::string& where,
                     std::optional<monarchrt::AttentionMode>* out) {
  std::string names;
  for (const monarchrt::AttentionMode mode : monarchrt::ListAttentionModes()) {
    const char* known = AttentionModeName(mode);
    if (name.is_string() && name.get_ref<const std::string&>() == known) *out = mode;
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  if (out->has_value()) return {};
  return BadData(where + "generation.attention is " + Shown(name) + ", need one of " + names);
}

Status ReadGeneration(const Json& json, const std::string& where, GenerationDefaults* out) {
  const auto section = json.find("generation");
  if (section == json.end()) return {};
  if (!section->is_object()) return BadData(where + "generation is not an object");
  MRT_RETURN_IF_ERROR(ReadWhole(*section, "width", 1, kSidePixelsMax, where, &out->width));
  MRT_RETURN_IF_ERROR(ReadWhole(*section, "height", 1, kSidePixelsMax, where, &out->height));
  const auto window = section->find("window_frames");
  // 2^64 - 1 equals -1 for the parser's ==.
  if (window != section->end() && window->is_number_integer() && !window->is_number_unsigned() &&
      window->get<int64_t>() == -1)
    out->window_frames = -1;
  else
    MRT_RETURN_IF_ERROR(
        ReadWhole(*section, "window_frames", 1, kWindowFramesMax, where, &out->window_frames));
  if (const auto steps = section->find("steps"); steps != section->end())
    MRT_RETURN_IF_ERROR(ReadSteps(*steps, where, &out->steps.emplace()));
  if (const auto shift = section->find("shift"); shift != section->end()) {
    if (!shift->is_number() || !(shift->get<double>() > 0) || !std::isfinite(shift->get<double>()))
      return BadData(where + "generation.shift is " + Shown(*shift) + ", need a positive number");
    out->timestep_shift = shift->get<double>();
  }
  if (const auto attention = section->find("attention"); attention != section->end())
    MRT_RETURN_IF_ERROR(ReadAttention(*attention, where, &out->attention));
  return {};
}

}  // namespace

Result<Package> ReadPackage(const std::string& path) {
  Package package;
  package.config = path;
  MRT_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(package.config));
  const std::string where = "[package] " + package.config + ": ";
  if (file->bytes().size() > kBytesMax)
    return BadData(where + "got " + std::to_string(file->bytes().size()) + " bytes, need at most " +
                   std::to_string(kBytesMax));
  const Json json = mrt::ParseJson(file->bytes());
  if (!json.is_object()) return BadData(where + "is not a JSON object");
  if (const std::string format = Text(json, "format"); format != kFormat)
    return BadData(where + "got format " + Printable(format) + ", need '" + kFormat + "'");
  const std::string kind = Text(json, "autoencoder");
  if (kind != "taehv" && kind != "wan")
    return BadData(where + "got autoencoder " + Printable(kind) + ", need 'taehv' or 'wan'");
  package.vae = kind == "wan" ? VaeKind::kWan : VaeKind::kTaehv;
  // Not copied: a copy goes through what is nested recursively.
  const auto files = json.find("files");
  if (files == json.end() || !files->is_object()) return BadData(where + "files is not an object");
  for (const auto& [name, file_path] : {std::pair{"transformer", &package.transformer},
                                        {"text_encoder", &package.text_encoder},
                                        {"autoencoder", &package.autoencoder},
                                        {"tokenizer", &package.tokenizer}}) {
    const std::string value = Text(*files, name);
    if (!IsBareFileName(value))
      return BadData(where + "files." + name + " is " + Printable(value) +
                     ", need the name of a file in the same folder");
    *file_path = (std::filesystem::path(path).parent_path() / value).string();
  }
  MRT_RETURN_IF_ERROR(ReadGeneration(json, where, &package.generation));
  return package;
}

}  // namespace mrt
