// Pictures to PNG in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "media/handles.h"
#include "media/metadata.h"

namespace mrt::media {

/// A whole PNG file of an AV_PIX_FMT_RGB24 frame, with one iTXt chunk per tag (Title, Description,
/// Comment; UTF-8).
Result<std::vector<uint8_t>> EncodePng(const AVFrame& frame, const std::vector<Tag>& tags);

}  // namespace mrt::media
