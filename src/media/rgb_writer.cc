#include <utility>

#include "media/byte_sink.h"
#include "media/frame_writer.h"

namespace mrt::media {
namespace {

class RgbWriter : public FrameWriter {
 public:
  RgbWriter(ByteSink sink, int64_t frame_bytes) : sink_(std::move(sink)), bytes_(frame_bytes) {}

  Status WriteFrame(const uint8_t* rgb) override { return sink_.Append(rgb, bytes_); }
  Status Flush() override { return {}; }
  Status Finish() override { return sink_.Commit(); }

 private:
  ByteSink sink_;
  const int64_t bytes_;
};

}  // namespace

Result<std::unique_ptr<FrameWriter>> OpenRgbWriter(const OutputPlan& plan,
                                                   const VideoWriterOptions& options) {
  MRT_ASSIGN_OR_RETURN(ByteSink sink,
                       plan.fd ? ByteSink::ToDescriptor(*plan.fd) : ByteSink::ToFile(plan.path));
  const int64_t frame_bytes = int64_t{3} * options.width * options.height;
  return std::unique_ptr<FrameWriter>(std::make_unique<RgbWriter>(std::move(sink), frame_bytes));
}

}  // namespace mrt::media
