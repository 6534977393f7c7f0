// The model that comes with the program.
#pragma once

#include <filesystem>
#include <string>

namespace mrt::apps {

/// The folder of the demo model for a binary at `binary`: share/monarchrt/models/demo of the tree
/// it is installed in, else models/demo of the source tree it was built in (build/PRESET/apps).
/// Empty if neither has a model.json.
std::string DemoModel(const std::filesystem::path& binary);

/// DemoModel of the running program.
std::string DemoModel();

}  // namespace mrt::apps
