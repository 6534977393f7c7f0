#include "apps/batch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "apps/text_files.h"
#include "base/json.h"
#include "base/sha256.h"
#include "base/status.h"

namespace mrt::apps {
namespace {

using Json = mrt::OrderedJson;

constexpr int64_t kPromptsBytesMax = int64_t{64} << 20;
constexpr int64_t kRecordBytesMax = int64_t{1} << 30;
constexpr int kRecordDepthMax = 16;
constexpr const char* kRecordName = "clips.jsonl";

// Everything that changes the file but for prompt and seed: a clip made otherwise is made anew.
Json Settings(const GenerationRun& run) {
  const monarchrt::StreamOptions& s = run.stream;
  const auto attention = [](const monarchrt::AttentionOptions& a) {
    return Json{
        AttentionModeName(a.mode), a.f_tied, a.h_reduce, a.w_reduce, a.iterations, a.density,
        a.implementation};
  };
  Json changes = Json::array();
  for (const PromptChangeAt& change : run.prompt_changes)
    changes.push_back({change.at_s, change.prompt});
  Json initial = nullptr;
  if (s.initial_frames > 0)
    initial = {s.initial_frames, s.show_initial,
               Sha256().Add(s.initial_rgb.data(), s.initial_rgb.size()).Finish()};
  Json rules = Json::array();
  for (const monarchrt::AttentionRule& rule : s.attention_rules)
    rules.push_back({rule.layers, rule.steps, attention(rule.attention)});
  return {{"model", run.engine.model + run.engine.synthetic},
          {"checkpoint", run.engine.checkpoint},
          {"vae", run.engine.vae == monarchrt::VaeKind::kTaehv ? "taehv" : "wan"},
          {"dtype", static_cast<int>(run.engine.precision)},
          {"size", {s.width, s.height}},
          {"frames", s.frames},
          {"fps", run.video.fps},
          {"steps", s.steps},
          {"shift", s.timestep_shift},
          {"prompt_at", changes},
          {"recache", run.recache},
          {"initial", initial},
          {"attention", attention(s.attention)},
          {"rules", rules},
          {"device", run.engine.device},
          {"window", {s.window_frames, s.sink_frames}},
          {"kv_cache", static_cast<int>(s.kv_cache)},
          {"independent_first_frame", s.independent_first_frame},
          {"codec", run.video.codec + " " + run.video.quality},
          {"fragmented", run.video.fragmented},
          {"metadata", !run.video.metadata.empty()},
          {"version", monarchrt::Version()}};
}

// clips.jsonl: what was finished before, and where new lines go.
class Record {
 public:
  static monarchrt::Result<Record> Open(const std::string& path) {
    Record record;
    const monarchrt::Result<std::string> text = ReadText(path, kRecordBytesMax);
    if (!text.ok() && text.status().code() != StatusCode::kNotFound) return text.status();
    if (text.ok()) record.Read(*text);
    record.path_ = path;
    record.torn_ = text.ok() && !text->empty() && text->back() != '\n';
    return record;
  }

  // Whether the last line of that clip says that it was made like `clip`.
  bool Has(const Json& clip) const {
    const auto found = last_.find(clip["index"].get<int64_t>());
    if (found == last_.end() || found->second["status"] != "ok") return false;
    for (const char* key : {"prompt", "seed", "file", "settings"})
      if (!found->second.contains(key) || found->second[key] != clip[key]) return false;
    return true;
  }

  // Whether the last line of that clip says that it is finished, however it was made.
  bool HasFinished(int64_t index) const {
    const auto found = last_.find(index);
    return found != last_.end() && found->second["status"] == "ok";
  }

  // One write, so that a kill tears no line but the last.
  monarchrt::Status Append(const Json& clip) {
    const std::string line = (std::exchange(torn_, false) ? "\n" : "") + mrt::DumpJson(clip) + "\n";
    const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const ssize_t written = fd >= 0 ? write(fd, line.data(), line.size()) : -1;
    const int error = written < 0 ? errno : ENOSPC;  // what a file that grows no further lacks
    if (fd >= 0) close(fd);
    if (written != static_cast<ssize_t>(line.size()))
      return IoError("[batch] " + path_ + ": " + std::strerror(error));
    return {};
  }

 private:
  void Read(const std::string& text) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view text_of_line = std::string_view(text).substr(begin, end - begin);
      begin = end + 1;
      if (mrt::NestsDeeper(text_of_line, kRecordDepthMax)) continue;  // none of ours
      Json line = mrt::ParseOrderedJson(text_of_line);
      if (!line.is_object() || !line.contains("index") || !line["index"].is_number_integer() ||
          !line.contains("status"))
        continue;
      const int64_t index = line["index"];
      last_[index] = std::move(line);
    }
  }

  std::string path_;
  bool torn_ = false;  // the file ends within a line
  std::map<int64_t, Json> last_;
};

bool Exists(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0;
}

monarchrt::Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0777) == 0) return {};
  struct stat info = {};
  if (errno == EEXIST && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
  return IoError("[batch] cannot make the folder " + path + ": " + std::strerror(errno));
}

std::string ClipName(size_t number, const std::string& extension) {
  char name[32];
  std::snprintf(name, sizeof(name), "%04zu", number);
  return name + extension;
}

void PrintLine(const Json& clip) {
  std::printf("%s\n", mrt::DumpJson(clip).c_str());
  std::fflush(stdout);
}

}  // namespace

monarchrt::Result<std::vector<std::string>> ParsePrompts(const std::string& text) {
  constexpr const char* kSpace = " \t\r";
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";  // some editors put it first
  std::vector<std::string> prompts;
  for (size_t begin = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
       begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t first = line.find_first_not_of(kSpace);
    if (first == std::string::npos || line[first] == '#') continue;
    prompts.push_back(line.substr(first, line.find_last_not_of(kSpace) - first + 1));
    if (const Status status = monarchrt::Engine::CheckPrompt(prompts.back()); !status.ok())
      return Status(status.code(),
                    status.message() + " (prompt " + std::to_string(prompts.size()) + ")");
  }
  if (prompts.empty()) return InvalidArgument("[batch] got no prompt, need a line with one");
  return prompts;
}

monarchrt::Result<BatchResult> GenerateBatch(const BatchRun& batch) {
  MRT_ASSIGN_OR_RETURN(const std::string text, ReadText(batch.prompts_path, kPromptsBytesMax));
  MRT_ASSIGN_OR_RETURN(const std::vector<std::string> prompts, ParsePrompts(text));
  GenerationRun run = batch.clip;
  run.keep_cut = false;
  const bool folder_was_there = Exists(batch.out_dir);
  MRT_RETURN_IF_ERROR(MakeFolder(batch.out_dir));
  run.video_path = batch.out_dir + "/" + ClipName(1, batch.extension);
  run.stream.prompt = prompts[0];
  if (const Status status = Check(run); !status.ok()) {
    if (!folder_was_there) rmdir(batch.out_dir.c_str());
    return status;
  }
  MRT_ASSIGN_OR_RETURN(Record record, Record::Open(batch.out_dir + "/" + kRecordName));
  const Json settings = Settings(run);
  std::optional<monarchrt::Engine> engine;  // loaded for the first clip that is not there yet
  BatchResult result;
  for (size_t i = 0; i < prompts.size(); ++i) {
    run.stream.prompt = prompts[i];
    run.stream.seed = batch.clip.stream.seed + i;
    const std::string name = ClipName(i + 1, batch.extension);
    run.video_path = batch.out_dir + "/" + name;
    run.video.metadata = batch.clip.video.metadata;
    if (!run.video.metadata.empty()) {
      run.video.metadata["prompt"] = prompts[i];
      run.video.metadata["seed"] = std::to_string(run.stream.seed);
    }
    Json clip = {{"index", i + 1},
                 {"prompt", prompts[i]},
                 {"seed", run.stream.seed},
                 {"file", name},
                 {"settings", settings}};
    // What a JSON parser gives back of it: broken UTF-8 is replaced on the way out.
    clip = mrt::ParseOrderedJson(mrt::DumpJson(clip));
    if (record.Has(clip) && Exists(run.video_path)) {
      clip["status"] = "skipped";
      PrintLine(clip);
      continue;
    }
    if (!engine) {
      MRT_ASSIGN_OR_RETURN(engine, LoadEngine(run.engine));
    }
    if (record.HasFinished(clip["index"])) {
      // The file may be replaced and this process killed before it has said so.
      MRT_RETURN_IF_ERROR(record.Append(
          {{"index", i + 1}, {"prompt", prompts[i]}, {"file", name}, {"status", "outdated"}}));
    }
    const monarchrt::Result<GenerationResult> made = GenerateClip(*engine, run);
    if (made.ok()) result.interrupted_by = made->interrupted_by;
    if (result.interrupted_by != 0 && made->stats.frames < run.stream.frames) return result;
    if (made.ok()) {
      clip["status"] = "ok";
      clip["frames"] = made->stats.frames;
      clip["seconds"] = static_cast<double>(made->stats.frames) / run.video.fps;
      clip["text_cache"] = TextCacheUseName(made->stats.text_cache);
      clip["wall_s"] = made->stats.wall_s;
      clip["fps_end_to_end"] = made->stats.FpsEndToEnd();
    } else {
      clip["status"] = "failed";
      clip["error"] = made.status().message();
      ++result.failed;
    }
    MRT_RETURN_IF_ERROR(record.Append(clip));
    PrintLine(clip);
    if (result.interrupted_by != 0) return result;
    if (!made.ok() && made.status().code() != StatusCode::kInvalidArgument) return made.status();
  }
  return result;
}

}  // namespace mrt::apps
