#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "media/byte_sink.h"
#include "media/ffmpeg.h"
#include "media/frame_writer.h"
#include "media/png_encoder.h"

namespace mrt::media {
namespace {

namespace fs = std::filesystem;

class PngWriter : public FrameWriter {
 public:
  PngWriter(std::string pattern, FramePtr frame, std::vector<Tag> tags)
      : pattern_(std::move(pattern)), frame_(std::move(frame)), tags_(std::move(tags)) {}

  Status WriteFrame(const uint8_t* rgb) override {
    if (frames_written_ == 0) MRT_RETURN_IF_ERROR(MakeFolder());
    CopyRgb(rgb, frame_.get());
    MRT_ASSIGN_OR_RETURN(const std::vector<uint8_t> png, EncodePng(*frame_, tags_));
    MRT_ASSIGN_OR_RETURN(ByteSink file, ByteSink::ToFile(NameOf(frames_written_++)));
    MRT_RETURN_IF_ERROR(file.Append(png.data(), static_cast<int64_t>(png.size())));
    return file.Commit();
  }
  Status Flush() override { return {}; }
  Status Finish() override { return {}; }

 private:
  Status MakeFolder() const {
    const fs::path folder = fs::path(pattern_).parent_path();
    std::error_code error;
    if (!folder.empty()) fs::create_directory(folder, error);
    if (!error) return {};
    return IoError("[output] cannot make the folder '" + folder.string() + "': " + error.message());
  }

  // pattern_ holds one "%d" or "%0Nd" with one digit N: the plan has seen to it.
  std::string NameOf(int64_t number) const {
    const size_t percent = pattern_.find('%'), letter = pattern_.find('d', percent);
    const std::string digits = std::to_string(number);
    const size_t width = letter > percent + 1 ? pattern_[letter - 1] - '0' : 0;
    const std::string zeros(width > digits.size() ? width - digits.size() : 0, '0');
    return pattern_.substr(0, percent) + zeros + digits + pattern_.substr(letter + 1);
  }

  const std::string pattern_;
  FramePtr frame_;
  const std::vector<Tag> tags_;
  int64_t frames_written_ = 0;
};

}  // namespace

Result<std::unique_ptr<FrameWriter>> OpenPngWriter(const OutputPlan& plan,
                                                   const VideoWriterOptions& options) {
  // Proves that files can be made there, or that the folder can be, and leaves nothing.
  const fs::path folder = fs::path(plan.path).parent_path();
  std::error_code ignored;
  const bool is_there = folder.empty() || fs::exists(folder, ignored);
  MRT_RETURN_IF_ERROR(ByteSink::ToFile(is_there ? plan.path : folder.string()).status());
  MRT_ASSIGN_OR_RETURN(FramePtr frame, NewFrame(AV_PIX_FMT_RGB24, options.width, options.height));
  return std::unique_ptr<FrameWriter>(
      std::make_unique<PngWriter>(plan.path, std::move(frame), TagsOf(options.metadata)));
}

}  // namespace mrt::media
