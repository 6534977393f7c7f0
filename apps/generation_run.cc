#include "apps/generation_run.h"

#include <chrono>
#include <optional>

#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/text_output.h"
#include "base/memory_info.h"
#include "base/status.h"
#include "media/atomic_file.h"
#include "media/image_writer.h"
#include "media/video_writer.h"

namespace mrt::apps {
namespace {

using Clock = std::chrono::steady_clock;
using media::ContactSheet;
using media::VideoWriter;
using monarchrt::Chunk;
using monarchrt::Engine;
using monarchrt::Stream;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

monarchrt::Result<GenerationResult> Generate(const GenerationRun& run) {
  MRT_RETURN_IF_ERROR(Engine::Validate(run.engine, run.stream));
  const media::VideoWriterOptions video = {
      .width = run.stream.width, .height = run.stream.height, .fps = Engine::kFps};
  // Asked now, made when the first frames are near: a run that ends early leaves nothing behind.
  MRT_RETURN_IF_ERROR(VideoWriter::Open(run.video_path, video).status());
  std::optional<ContactSheet> sheet;
  if (!run.contact_sheet_path.empty()) {
    MRT_RETURN_IF_ERROR(media::RequireExtension(run.contact_sheet_path, ".png"));
    MRT_RETURN_IF_ERROR(CheckWritable(run.contact_sheet_path));
    MRT_ASSIGN_OR_RETURN(
        sheet, ContactSheet::Create({.width = run.stream.width, .height = run.stream.height}));
  }
  Progress progress(run.stream.frames, stderr);
  const auto on_phase = [&](const std::string& phase) { progress.Phase(phase); };
  MRT_ASSIGN_OR_RETURN(Engine engine, Engine::Load(run.engine, on_phase));
  const Clock::time_point start = Clock::now();
  MRT_ASSIGN_OR_RETURN(Stream stream, engine.Open(run.stream, on_phase));
  MRT_ASSIGN_OR_RETURN(VideoWriter writer, VideoWriter::Open(run.video_path, video));
  const CancelOnInterrupt interruptible(stream);
  GenerationResult result;
  progress.Update(0);
  while (!stream.done()) {
    MRT_ASSIGN_OR_RETURN(const Chunk chunk, stream.Next());
    const Clock::time_point encode_start = Clock::now();
    MRT_RETURN_IF_ERROR(writer.Write(chunk.rgb.data(), chunk.frames));
    if (sheet) MRT_RETURN_IF_ERROR(sheet->Add(chunk.rgb.data(), chunk.frames));
    result.encode_s += SecondsSince(encode_start);
    progress.Update(chunk.first_frame + chunk.frames);
  }
  const Clock::time_point finish_start = Clock::now();
  MRT_RETURN_IF_ERROR(writer.Finish());
  result.encode_s += SecondsSince(finish_start);
  result.stats = stream.stats();
  result.stats.wall_s = SecondsSince(start);
  result.stats.peak_rss_bytes = PeakResidentBytes();
  progress.Finish();
  if (sheet) MRT_RETURN_IF_ERROR(sheet->Write(run.contact_sheet_path));
  return result;
}

}  // namespace mrt::apps
