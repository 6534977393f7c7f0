#include "pipeline/package.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tensor/mapped_file.h"
#include "tensor/printable.h"

namespace mrt {
namespace {

using Json = nlohmann::json;
using monarchrt::VaeKind;

constexpr char kFormat[] = "monarchrt model 1";
constexpr size_t kBytesMax = 1 << 20;  // a model.json has a few hundred

/// A text of the object `json`, or empty.
std::string Text(const Json& json, const char* name) {
  const auto field = json.find(name);
  return field != json.end() && field->is_string() ? field->get<std::string>() : "";
}

/// A package may not reach out of its folder.
bool IsPlainName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
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
  const Json json = Json::parse(file->bytes(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return BadData(where + "is not a JSON object");
  if (const std::string format = Text(json, "format"); format != kFormat)
    return BadData(where + "got format " + Printable(format) + ", need '" + kFormat + "'");
  const std::string kind = Text(json, "autoencoder");
  if (kind != "taehv" && kind != "wan")
    return BadData(where + "got autoencoder " + Printable(kind) + ", need 'taehv' or 'wan'");
  package.vae = kind == "wan" ? VaeKind::kWan : VaeKind::kTaehv;
  const Json files = json.value("files", Json::object());
  if (!files.is_object()) return BadData(where + "files is not an object");
  for (const auto& [name, file_path] : {std::pair{"transformer", &package.transformer},
                                        {"text_encoder", &package.text_encoder},
                                        {"autoencoder", &package.autoencoder},
                                        {"tokenizer", &package.tokenizer}}) {
    const std::string value = Text(files, name);
    if (!IsPlainName(value))
      return BadData(where + "files." + name + " is " + Printable(value) +
                     ", need the name of a file in the same folder");
    *file_path = (std::filesystem::path(path).parent_path() / value).string();
  }
  return package;
}

}  // namespace mrt
