#include "apps/generation_run.h"

#include <chrono>
#include <optional>

#include "apps/chunk_queue.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/text_files.h"
#include "base/guard.h"
#include "base/memory_info.h"
#include "base/status.h"
#include "media/image_writer.h"

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

// A GPU leaves the cores to the encoder, and the end of a file waits for it. A fixed number, as
// that of VideoWriterOptions and for its reason.
constexpr int kEncoderThreadsBesideGpu = 8;

monarchrt::Result<VideoWriter> OpenVideo(const GenerationRun& run) {
  media::VideoWriterOptions options = run.video;
  if (options.threads == 0 && run.engine.device != "cpu")
    options.threads = kEncoderThreadsBesideGpu;
  options.width = run.stream.width;
  options.height = run.stream.height;
  return VideoWriter::Open(run.video_path, options);
}

monarchrt::Status CheckPromptChanges(const GenerationRun& run) {
  const double length_s = static_cast<double>(run.stream.frames) / run.video.fps;
  for (const PromptChangeAt& change : run.prompt_changes) {
    if (change.at_s >= length_s)
      return InvalidArgument("[prompt-at] got " + std::to_string(change.at_s) +
                             " s, need less than the video's " + std::to_string(length_s) + " s");
    MRT_RETURN_IF_ERROR(Engine::CheckPrompt(change.prompt));
  }
  return {};
}

bool Overlaps(EncodeOverlap overlap, const std::string& device) {
  return overlap == EncodeOverlap::kAuto ? device != "cpu" : overlap == EncodeOverlap::kOn;
}

// The writers of one clip, on a thread of their own if `overlap`, and the time they take.
class Outputs {
 public:
  monarchrt::Status Open(const GenerationRun& run, bool overlap) {
    MRT_ASSIGN_OR_RETURN(video_, OpenVideo(run));
    trace_ = run.engine.trace;
    sheet_path_ = run.contact_sheet_path;
    if (!sheet_path_.empty()) {
      MRT_ASSIGN_OR_RETURN(
          sheet_, ContactSheet::Create({.width = run.stream.width, .height = run.stream.height}));
    }
    if (!overlap) return {};
    return Guard([&]() -> monarchrt::Status {
      queue_.emplace([this](const Chunk& chunk) { return Encode(chunk); });
      return {};
    });
  }
  // With overlap the chunk becomes an older one. A failure may be that of an earlier chunk.
  monarchrt::Status Write(Chunk& chunk) {
    const Clock::time_point start = Clock::now();
    monarchrt::Status status = queue_ ? queue_->Push(chunk) : Encode(chunk);
    waited_s_ += SecondsSince(start);
    return status;
  }
  monarchrt::Status Finish() {
    const Clock::time_point start = Clock::now();
    if (queue_) MRT_RETURN_IF_ERROR(queue_->Finish());
    const Clock::time_point last = Clock::now();
    MRT_RETURN_IF_ERROR(video_->Finish());
    Count(last);
    waited_s_ += SecondsSince(start);
    return sheet_ ? sheet_->Write(sheet_path_) : monarchrt::Status();
  }
  // After Finish.
  double seconds() const { return seconds_; }
  double waited_s() const { return waited_s_; }

 private:
  monarchrt::Status Encode(const Chunk& chunk) {
    const Clock::time_point start = Clock::now();
    MRT_RETURN_IF_ERROR(video_->Write(chunk.rgb.data(), chunk.frames));
    if (sheet_) MRT_RETURN_IF_ERROR(sheet_->Add(chunk.rgb.data(), chunk.frames));
    Count(start);
    return {};
  }
  void Count(Clock::time_point start) {
    const double seconds = SecondsSince(start);
    seconds_ += seconds;
    if (trace_ != nullptr) trace_->AddStage("video encoder", seconds);
  }

  std::optional<VideoWriter> video_;
  std::optional<ContactSheet> sheet_;
  std::string sheet_path_;
  std::shared_ptr<monarchrt::Trace> trace_;
  double seconds_ = 0;  // in the encoder
  double waited_s_ = 0;
  std::optional<ChunkQueue> queue_;  // the last: its thread uses the others
};

}  // namespace

monarchrt::Status Check(const GenerationRun& run) {
  MRT_RETURN_IF_ERROR(Engine::Validate(run.engine, run.stream));
  MRT_RETURN_IF_ERROR(CheckPromptChanges(run));
  // Asked now, made when the first frames are near: a run that ends early leaves nothing behind.
  MRT_RETURN_IF_ERROR(OpenVideo(run).status());
  if (run.contact_sheet_path.empty()) return {};
  MRT_RETURN_IF_ERROR(media::CheckPngName(run.contact_sheet_path));
  MRT_RETURN_IF_ERROR(CheckWritable(run.contact_sheet_path));
  return ContactSheet::Create({.width = run.stream.width, .height = run.stream.height}).status();
}

monarchrt::Result<Engine> LoadEngine(const monarchrt::EngineOptions& options) {
  Progress progress(0, stderr);
  return Engine::Load(options, [&](const std::string& phase) { progress.Phase(phase); });
}

monarchrt::Result<GenerationResult> GenerateClip(Engine& engine, const GenerationRun& run) {
  Progress progress(run.stream.frames, stderr);
  const Clock::time_point start = Clock::now();
  MRT_ASSIGN_OR_RETURN(Stream stream, engine.Open(run.stream, [&](const std::string& phase) {
    progress.Phase(phase);
  }));
  CancelOnInterrupt interrupt(stream);
  Outputs outputs;
  MRT_RETURN_IF_ERROR(outputs.Open(run, Overlaps(run.encode_overlap, stream.stats().device)));
  // The reason why the file is not there matters more than the signal.
  const auto told = [&](monarchrt::Status status) {
    if (!status.ok()) interrupt.signal();
    return status;
  };
  PromptChanger prompts(run.prompt_changes, run.video.fps, run.recache);
  GenerationResult result;
  Chunk chunk;
  progress.Update(0);
  while (!stream.done()) {
    monarchrt::Status status = prompts.Apply(stream);
    if (status.ok()) status = stream.Next(chunk);
    if (status.code() == StatusCode::kCancelled) break;
    MRT_RETURN_IF_ERROR(status);
    result.frames_s += 1e-3 * chunk.wait_ms;
    const int64_t frames_done = chunk.first_frame + chunk.frames;
    MRT_RETURN_IF_ERROR(told(outputs.Write(chunk)));
    progress.Update(frames_done);
  }
  result.stats = stream.stats();
  for (monarchrt::PromptChange& prompt : result.stats.prompts)
    prompt.start_s = static_cast<double>(prompt.first_frame) / run.video.fps;
  const bool whole = result.stats.frames == run.stream.frames;
  if (whole || (result.stats.frames > 0 && run.keep_cut))
    MRT_RETURN_IF_ERROR(told(outputs.Finish()));
  result.encode_s = outputs.seconds();
  result.encode_wait_s = outputs.waited_s();
  result.stats.wall_s = SecondsSince(start);
  result.stats.peak_rss_bytes = PeakResidentBytes();
  result.prompt_report = prompts.Report();
  progress.Finish();
  if (!result.stats.text_cache_problem.empty())
    std::fprintf(stderr, "monarchrt: the text embedding was not kept: %s\n",
                 result.stats.text_cache_problem.c_str());
  result.interrupted_by = interrupt.signal();  // also while the file was being finished
  return result;
}

monarchrt::Result<GenerationResult> Generate(const GenerationRun& run) {
  MRT_RETURN_IF_ERROR(Check(run));
  MRT_ASSIGN_OR_RETURN(Engine engine, LoadEngine(run.engine));
  return GenerateClip(engine, run);
}

}  // namespace mrt::apps
