// Small texts: to files, and for people.
#pragma once

#include <string>

#include "monarchrt/stats.h"
#include "monarchrt/status.h"

namespace mrt::apps {

/// Ok if a file could be made or replaced there: asked before the work, not after.
monarchrt::Status CheckWritable(const std::string& path);

/// Writes the whole text or leaves what was there.
monarchrt::Status WriteText(const std::string& path, const std::string& text);

/// The three frame rates and the times around them, a line each.
std::string FormatRates(const monarchrt::GenerationStats& stats);

/// "1.25 GB", "312 MB"
std::string FormatBytes(int64_t bytes);

}  // namespace mrt::apps
