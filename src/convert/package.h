// A package (docs/formats.md) that becomes another one: its transformer quantised, every part one
// safetensors file.
#pragma once

#include <string>

#include "base/status.h"
#include "monarchrt/convert.h"

namespace mrt {

/// Whether `path` is a folder with a model.json.
bool IsPackage(const std::string& path);

/// Makes the folder options.output, which may not be there yet. model.json comes last, so that a
/// folder without it is no package; after a failure the folder is gone again.
Result<monarchrt::ConvertReport> ConvertPackage(const monarchrt::ConvertOptions& options,
                                                const monarchrt::ConvertProgress& on_progress);

}  // namespace mrt
