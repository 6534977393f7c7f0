#include "model/wan/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "base/json.h"
#include "tensor/mapped_file.h"
#include "tensor/printable.h"

namespace mrt {
namespace {

constexpr size_t kConfigBytesMax = 1 << 20;  // a config.json has a few hundred
// Far above any real transformer, and low enough that no product of sizes overflows int64_t.
constexpr int64_t kSizeMax = 1 << 20;
constexpr int64_t kTextDimUsual = 4096;  // of UMT5 XXL; config.json does not say it
constexpr int64_t kLayersMax = 1 << 10;

std::string Number(int64_t n) { return std::to_string(n); }

Result<Json> ReadJsonObject(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  if (file->bytes().size() > kConfigBytesMax)
    return BadData("[wan config] " + path + " is too long, need at most " +
                   Number(kConfigBytesMax) + " bytes");
  Json json = ParseJson(file->bytes());
  if (!json.is_object()) return BadData("[wan config] " + path + " is not a JSON object");
  return json;
}

/// Extent `axis` of a tensor, or 0 if the tensor is missing or has fewer axes.
int64_t Extent(const Checkpoint& checkpoint, const std::string& name, int axis) {
  const Shape shape = checkpoint.Find(name).shape;
  return axis < shape.rank() ? shape[axis] : 0;
}

/// 1 + the largest N of all tensors "blocks.N.*".
int64_t CountLayers(const Checkpoint& checkpoint) {
  constexpr std::string_view kPrefix = "blocks.";
  int64_t layers = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (!name.starts_with(kPrefix)) continue;
    int64_t n = -1;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), n);
    layers = std::max(layers, std::min(n, kSizeMax) + 1);
  }
  return layers;
}

/// The fields of one config.json, each compared with what the tensors say.
class FieldReader {
 public:
  FieldReader(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  /// The size `name`: `derived` is what `tensors` say, or 0 if they do not.
  Result<int64_t> Size(const char* name, int64_t derived, const std::string& tensors) const {
    const auto field = json_.find(name);
    if (field == json_.end()) {
      if (derived > 0) return derived;
      // The tensor is missing, too: the check of the tensors will name it among the others.
      if (std::string_view(name) == "text_dim") return kTextDimUsual;
      return NotFound(Where(name) + "is missing, and no tensor tells it");
    }
    if (!field->is_number_integer()) return BadData(Where(name) + "is not a whole number");
    const auto size = field->get<int64_t>();
    if (size < 1 || size > kSizeMax)
      return BadData(Where(name) + "is " + Number(size) + ", need 1 to " + Number(kSizeMax));
    if (derived > 0 && size != derived)
      return BadData(Where(name) + "is " + Number(size) + ", need " + Number(derived) + " as " +
                     tensors + " says");
    return size;
  }

  Result<std::string> Text(const char* name, const std::string& otherwise) const {
    const auto field = json_.find(name);
    if (field == json_.end()) return otherwise;
    if (!field->is_string()) return BadData(Where(name) + "is not a string");
    return field->get<std::string>();
  }

  Result<float> Positive(const char* name, float otherwise) const {
    const auto field = json_.find(name);
    if (field == json_.end()) return otherwise;
    if (!field->is_number()) return BadData(Where(name) + "is not a number");
    return field->get<float>();
  }

  Result<bool> Flag(const char* name) const {
    const auto field = json_.find(name);
    if (field == json_.end()) return false;
    if (!field->is_boolean()) return BadData(Where(name) + "is not true or false");
    return field->get<bool>();
  }

  /// A switch that this transformer only knows as on.
  Status RequireOn(const char* name) const {
    const auto field = json_.find(name);
    if (field == json_.end() || *field == Json(true)) return {};
    return Unavailable(Where(name) + "is not true, need true");
  }

  /// patch_size, whose extents are those of the patch embedding's kernel.
  Status Patch(const Checkpoint& checkpoint, std::array<int64_t, 3>* patch) const {
    for (int i = 0; i < 3; ++i)
      if (const int64_t n = Extent(checkpoint, "patch_embedding.weight", 2 + i)) (*patch)[i] = n;
    const auto field = json_.find("patch_size");
    if (field == json_.end() || *field == Json(*patch)) return {};
    return BadData(Where("patch_size") + "differs from patch_embedding.weight, need [" +
                   Number((*patch)[0]) + ", " + Number((*patch)[1]) + ", " + Number((*patch)[2]) +
                   "]");
  }

 private:
  std::string Where(const char* name) const { return "[wan config] " + path_ + ": " + name + " "; }

  const Json& json_;
  std::string path_;
};

Status CheckSize(const char* name, int64_t size, int64_t max = kSizeMax) {
  if (1 <= size && size <= max) return {};
  return InvalidArgument(std::string("[wan config] ") + name + " is " + Number(size) +
                         ", need 1 to " + Number(max));
}

}  // namespace

Status WanConfig::Validate() const {
  if (model_type != "t2v")
    return Unavailable("[wan config] model_type is " + Printable(model_type) + ", need t2v");
  MRT_RETURN_IF_ERROR(CheckSize("dim", dim));
  MRT_RETURN_IF_ERROR(CheckSize("ffn_dim", ffn_dim));
  MRT_RETURN_IF_ERROR(CheckSize("freq_dim", freq_dim));
  MRT_RETURN_IF_ERROR(CheckSize("num_heads", num_heads));
  MRT_RETURN_IF_ERROR(CheckSize("num_layers", num_layers, kLayersMax));
  MRT_RETURN_IF_ERROR(CheckSize("in_dim", in_dim));
  MRT_RETURN_IF_ERROR(CheckSize("out_dim", out_dim));
  MRT_RETURN_IF_ERROR(CheckSize("text_dim", text_dim));
  MRT_RETURN_IF_ERROR(CheckSize("text_len", text_len));
  if (patch_size[0] != 1)
    return Unavailable("[wan config] a patch spans " + Number(patch_size[0]) + " frames, need 1");
  constexpr int64_t kPatchMax = 64;
  MRT_RETURN_IF_ERROR(CheckSize("patch_size", patch_size[1], kPatchMax));
  MRT_RETURN_IF_ERROR(CheckSize("patch_size", patch_size[2], kPatchMax));
  if (dim % num_heads != 0)
    return InvalidArgument("[wan config] num_heads is " + Number(num_heads) +
                           ", need a divisor of dim " + Number(dim));
  if (head_dim() % 2 != 0)
    return InvalidArgument("[wan config] head_dim is " + Number(head_dim()) +
                           ", need an even number: rotary embedding turns pairs");
  if (freq_dim % 2 != 0)
    return InvalidArgument("[wan config] freq_dim is " + Number(freq_dim) +
                           ", need an even number");
  if (!(eps > 0 && eps < 1))
    return InvalidArgument("[wan config] eps is " + std::to_string(eps) +
                           ", need more than 0 and less than 1");
  return {};
}

Result<WanConfig> WanConfig::Read(const std::string& config_json_path,
                                  const Checkpoint& checkpoint) {
  MRT_ASSIGN_OR_RETURN(const Json json, ReadJsonObject(config_json_path));
  const FieldReader fields(json, config_json_path);
  WanConfig c;
  MRT_ASSIGN_OR_RETURN(c.model_type, fields.Text("model_type", c.model_type));
  MRT_ASSIGN_OR_RETURN(c.eps, fields.Positive("eps", c.eps));
  MRT_ASSIGN_OR_RETURN(c.independent_first_frame, fields.Flag("independent_first_frame"));
  MRT_RETURN_IF_ERROR(fields.RequireOn("qk_norm"));
  MRT_RETURN_IF_ERROR(fields.RequireOn("cross_attn_norm"));
  MRT_RETURN_IF_ERROR(fields.Patch(checkpoint, &c.patch_size));

  // Fewer blocks than config.json says: then tensors are missing, which their check reports by
  // name.
  int64_t layers = CountLayers(checkpoint);
  const auto wanted = json.find("num_layers");
  if (wanted != json.end() && wanted->is_number_integer() && wanted->get<int64_t>() > layers)
    layers = 0;
  const int64_t head_rows = Extent(checkpoint, "head.head.weight", 0);
  const int64_t patch = c.patch_elements();
  const struct {
    const char* name;
    int64_t WanConfig::*size;
    const char* tensor;
    int64_t derived;  // from that tensor, or 0
  } sizes[] = {
      {"dim", &WanConfig::dim, "patch_embedding.weight",
       Extent(checkpoint, "patch_embedding.weight", 0)},
      {"in_dim", &WanConfig::in_dim, "patch_embedding.weight",
       Extent(checkpoint, "patch_embedding.weight", 1)},
      {"out_dim", &WanConfig::out_dim, "head.head.weight",
       patch > 0 && head_rows % patch == 0 ? head_rows / patch : 0},
      {"ffn_dim", &WanConfig::ffn_dim, "blocks.0.ffn.0.weight",
       Extent(checkpoint, "blocks.0.ffn.0.weight", 0)},
      {"freq_dim", &WanConfig::freq_dim, "time_embedding.0.weight",
       Extent(checkpoint, "time_embedding.0.weight", 1)},
      {"text_dim", &WanConfig::text_dim, "text_embedding.0.weight",
       Extent(checkpoint, "text_embedding.0.weight", 1)},
      {"num_layers", &WanConfig::num_layers, "the number of blocks", layers},
      {"num_heads", &WanConfig::num_heads, "", 0},
      {"text_len", &WanConfig::text_len, "", 0},
  };
  for (const auto& s : sizes) {
    MRT_ASSIGN_OR_RETURN(c.*s.size, fields.Size(s.name, s.derived, s.tensor));
  }
  const Status valid = c.Validate();
  if (valid.ok()) return c;
  // The file's fault, not the caller's.
  const bool wrong = valid.code() == StatusCode::kInvalidArgument;
  return Status(wrong ? StatusCode::kBadData : valid.code(),
                valid.message() + " (" + config_json_path + ")");
}

}  // namespace mrt
