#include "apps/default_model.h"

namespace mrt::apps {

std::string DemoModel(const std::filesystem::path& binary) {
  const std::filesystem::path folder = binary.parent_path();
  std::error_code error;
  for (const char* place : {"../share/monarchrt/models/demo", "../../../models/demo"}) {
    const std::filesystem::path model = (folder / place).lexically_normal();
    if (std::filesystem::is_regular_file(model / "model.json", error)) return model.string();
  }
  return "";
}

std::string DemoModel() {
  std::error_code error;
  return DemoModel(std::filesystem::read_symlink("/proc/self/exe", error));
}

}  // namespace mrt::apps
