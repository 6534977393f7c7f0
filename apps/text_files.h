// Small texts: from and to files, and for people.
#pragma once

#include <string>

#include "monarchrt/stats.h"
#include "monarchrt/status.h"

namespace mrt::apps {

/// A regular file of at most `bytes_max` bytes.
monarchrt::Result<std::string> ReadText(const std::string& path, int64_t bytes_max = 1 << 20);

/// Ok if a file could be made or replaced there: asked before the work, not after.
monarchrt::Status CheckWritable(const std::string& path);

/// Writes the whole text or leaves what was there.
monarchrt::Status WriteText(const std::string& path, const std::string& text);

/// The three frame rates, the times around them and the memory, a line each.
std::string FormatRates(const monarchrt::GenerationStats& stats);

/// "1.25 GB", "312 MB"
std::string FormatBytes(int64_t bytes);

}  // namespace mrt::apps
