#include "apps/prompt_changes.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/status.h"

namespace mrt::apps {

monarchrt::Result<std::vector<PromptChangeAt>> ParsePromptChanges(
    const std::vector<std::string>& texts) {
  std::vector<PromptChangeAt> changes;
  for (const std::string& text : texts) {
    PromptChangeAt change;
    const char* const end = text.data() + text.size();
    auto [at, error] = std::from_chars(text.data(), end, change.at_s);
    if (error == std::errc() && at < end && *at == 's') ++at;
    if (error != std::errc() || at == end || *at != ':')
      return InvalidArgument("[prompt-at] got '" + text.substr(0, 40) +
                             "', need SECONDS:TEXT, like 2.5s:a blue cube");
    if (!(change.at_s >= 0 && std::isfinite(change.at_s)))
      return InvalidArgument("[prompt-at] got '" + std::string(text.data(), at) +
                             "', need 0 seconds or more");
    change.prompt.assign(at + 1, end);
    changes.push_back(std::move(change));
  }
  std::ranges::sort(changes, {}, &PromptChangeAt::at_s);
  for (size_t i = 1; i < changes.size(); ++i)
    if (changes[i].at_s == changes[i - 1].at_s)
      return InvalidArgument("[prompt-at] got two prompts at " + std::to_string(changes[i].at_s) +
                             " s, need one");
  return changes;
}

monarchrt::Status PromptChanger::Apply(monarchrt::Stream& stream) {
  const double next_s = static_cast<double>(stream.next_prompt_frame()) / fps_;
  size_t due = next_;
  while (due < changes_.size() && changes_[due].at_s <= next_s) ++due;
  if (due == next_) return {};
  next_ = due;
  const auto change = stream.SetPrompt(changes_[due - 1].prompt, recache_);
  // The last chunk has been begun: the prompt never shows, and the video is none the worse.
  if (change.status().code() == StatusCode::kNotFound) return {};
  MRT_RETURN_IF_ERROR(change.status());
  shown_.push_back({due - 1, change->first_frame});
  return {};
}

std::string PromptChanger::Report() const {
  std::string report;
  char line[128];
  for (size_t i = 0; i < changes_.size(); ++i) {
    const auto shown = std::ranges::find(shown_, i, &Shown::change);
    if (shown != shown_.end())
      std::snprintf(line, sizeof(line), "prompt at %g s shows from %.2f s on (frame %lld)\n",
                    changes_[i].at_s, static_cast<double>(shown->first_frame) / fps_,
                    static_cast<long long>(shown->first_frame));
    else
      std::snprintf(line, sizeof(line),
                    "prompt at %g s never shows: no chunk begins between it and the next prompt or "
                    "the end\n",
                    changes_[i].at_s);
    report += line;
  }
  return report;
}

}  // namespace mrt::apps
