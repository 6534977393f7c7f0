#include "media/image_writer.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "media/ffmpeg.h"
#include "media/png_encoder.h"

namespace mrt::media {
namespace {

constexpr int kGapPixels = 4;       // between tiles and around them: thin, but visible on any frame
constexpr uint8_t kGapColour = 32;  // dark grey in every channel

Status ValidateSide(const char* name, int value) {
  if (value >= 1 && value <= kSideMax) return {};
  return InvalidArgument(std::string("[image_writer] got ") + name + " " + std::to_string(value) +
                         ", need 1 to " + std::to_string(kSideMax));
}

Result<ScalerPtr> OpenScaler(const AVFrame& from, const AVFrame& to) {
  // Averages areas and keeps chroma at full resolution inside.
  constexpr int kFlags =
      SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_FULL_CHR_H_INT | SWS_BITEXACT;
  ScalerPtr scaler(sws_getContext(from.width, from.height, AV_PIX_FMT_RGB24, to.width, to.height,
                                  AV_PIX_FMT_RGB24, kFlags, nullptr, nullptr, nullptr));
  if (!scaler) return Internal("[image_writer] FFmpeg cannot scale the frames");
  return scaler;
}

}  // namespace

Status CheckPngName(const std::string& path) {
  std::string got = std::filesystem::path(path).extension().string();
  for (char& c : got) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (got == ".png") return {};
  return InvalidArgument("[file] got the name '" + path + "', need one that ends in .png");
}

Status WritePng(const std::string& path, const uint8_t* rgb, int width, int height) {
  SilenceFfmpeg();
  MRT_RETURN_IF_ERROR(CheckPngName(path));
  MRT_RETURN_IF_ERROR(ValidateSide("width", width));
  MRT_RETURN_IF_ERROR(ValidateSide("height", height));
  MRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  MRT_ASSIGN_OR_RETURN(const FramePtr frame, NewFrame(AV_PIX_FMT_RGB24, width, height));
  CopyRgb(rgb, frame.get());
  MRT_ASSIGN_OR_RETURN(const std::vector<uint8_t> png, EncodePng(*frame, {}));
  MRT_RETURN_IF_ERROR(file.Append(png.data(), static_cast<int64_t>(png.size())));
  return file.Commit();
}

class ContactSheet::Impl {
 public:
  explicit Impl(const ContactSheetOptions& options)
      : columns_(options.columns),
        tiles_wanted_(int64_t{options.columns} * options.rows),
        tile_width_(options.tile_width),
        tile_height_(TileHeight(options)) {}

  static int TileHeight(const ContactSheetOptions& o) {
    const int64_t height = (int64_t{o.tile_width} * o.height + o.width / 2) / o.width;
    return static_cast<int>(std::clamp<int64_t>(height, 1, kSideMax));
  }

  static int SheetSide(int tiles, int tile_side) {
    return tiles * (tile_side + kGapPixels) + kGapPixels;
  }

  Status Open(int width, int height) {
    MRT_ASSIGN_OR_RETURN(rgb_, NewFrame(AV_PIX_FMT_RGB24, width, height));
    MRT_ASSIGN_OR_RETURN(const FramePtr tile,
                         NewFrame(AV_PIX_FMT_RGB24, tile_width_, tile_height_));
    MRT_ASSIGN_OR_RETURN(scaler_, OpenScaler(*rgb_, *tile));
    return {};
  }

  Status Add(const uint8_t* rgb, int64_t frames) {
    const int64_t frame_bytes = int64_t{3} * rgb_->width * rgb_->height;
    for (int64_t i = 0; i < frames; ++i, ++frames_seen_) {
      if (frames_seen_ % stride_ != 0) continue;
      if (static_cast<int64_t>(tiles_.size()) == 2 * tiles_wanted_) {
        KeepEverySecondTile();
        if (frames_seen_ % stride_ != 0) continue;
      }
      MRT_RETURN_IF_ERROR(Keep(rgb + i * frame_bytes));
    }
    return {};
  }

  Status Write(const std::string& path) const {
    const auto kept = static_cast<int64_t>(tiles_.size());
    if (kept == 0) return InvalidArgument("[contact_sheet] got 0 frames, need at least 1");
    const int64_t shown = std::min(kept, tiles_wanted_);
    const int columns = static_cast<int>(std::min<int64_t>(columns_, shown));
    const int rows = static_cast<int>((shown + columns - 1) / columns);
    const int width = SheetSide(columns, tile_width_), height = SheetSide(rows, tile_height_);
    std::vector<uint8_t> sheet(size_t{3} * width * height, kGapColour);  // [height, width, 3]
    for (int64_t i = 0; i < shown; ++i) {
      // Evenly spread, with the first and the last one kept.
      const int64_t pick = shown == 1 ? 0 : (i * (kept - 1) + (shown - 1) / 2) / (shown - 1);
      const int64_t x = SheetSide(static_cast<int>(i % columns), tile_width_);
      const int64_t y = SheetSide(static_cast<int>(i / columns), tile_height_);
      for (int64_t row = 0; row < tile_height_; ++row)
        std::memcpy(sheet.data() + 3 * ((y + row) * width + x),
                    tiles_[pick]->data[0] + row * tiles_[pick]->linesize[0],
                    size_t{3} * tile_width_);
    }
    return WritePng(path, sheet.data(), width, height);
  }

 private:
  Status Keep(const uint8_t* rgb) {
    CopyRgb(rgb, rgb_.get());
    MRT_ASSIGN_OR_RETURN(FramePtr tile, NewFrame(AV_PIX_FMT_RGB24, tile_width_, tile_height_));
    sws_scale(scaler_.get(), rgb_->data, rgb_->linesize, 0, rgb_->height, tile->data,
              tile->linesize);
    tiles_.push_back(std::move(tile));
    return {};
  }

  void KeepEverySecondTile() {
    for (size_t i = 1; 2 * i < tiles_.size(); ++i) tiles_[i] = std::move(tiles_[2 * i]);
    tiles_.resize((tiles_.size() + 1) / 2);
    stride_ *= 2;
  }

  const int columns_;
  const int64_t tiles_wanted_;
  const int tile_width_;
  const int tile_height_;
  FramePtr rgb_;  // a padded copy of the caller's frame: the scaler reads past its end
  ScalerPtr scaler_;
  int64_t frames_seen_ = 0;
  int64_t stride_ = 1;           // tiles_[i] is frame i * stride_
  std::vector<FramePtr> tiles_;  // at most 2 * tiles_wanted_
};

Result<ContactSheet> ContactSheet::Create(const ContactSheetOptions& options) {
  SilenceFfmpeg();
  MRT_RETURN_IF_ERROR(ValidateSide("width", options.width));
  MRT_RETURN_IF_ERROR(ValidateSide("height", options.height));
  MRT_RETURN_IF_ERROR(ValidateSide("columns", options.columns));
  MRT_RETURN_IF_ERROR(ValidateSide("rows", options.rows));
  MRT_RETURN_IF_ERROR(ValidateSide("tile_width", options.tile_width));
  const int64_t width = int64_t{options.columns} * (options.tile_width + kGapPixels) + kGapPixels;
  const int64_t height =
      int64_t{options.rows} * (Impl::TileHeight(options) + kGapPixels) + kGapPixels;
  if (width > kSideMax || height > kSideMax)
    return InvalidArgument("[contact_sheet] got a sheet of " + std::to_string(width) + "x" +
                           std::to_string(height) + ", need at most " + std::to_string(kSideMax) +
                           " on each side");
  auto impl = std::make_unique<Impl>(options);
  MRT_RETURN_IF_ERROR(impl->Open(options.width, options.height));
  return ContactSheet(std::move(impl));
}

ContactSheet::ContactSheet(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ContactSheet::ContactSheet(ContactSheet&&) noexcept = default;
ContactSheet& ContactSheet::operator=(ContactSheet&&) noexcept = default;
ContactSheet::~ContactSheet() = default;

Status ContactSheet::Add(const uint8_t* rgb, int64_t frames) { return impl_->Add(rgb, frames); }
Status ContactSheet::Write(const std::string& path) const { return impl_->Write(path); }

}  // namespace mrt::media
