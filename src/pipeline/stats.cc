#include "monarchrt/stats.h"

#include <algorithm>
#include <cmath>

#include "base/json.h"

namespace monarchrt {
namespace {

double Rate(int64_t frames, double seconds) {
  return seconds > 0 ? static_cast<double>(frames) / seconds : 0;
}

// Nearest-rank percentile: the smallest value that at least p percent of the values do not exceed.
double Percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(p / 100 * static_cast<double>(values.size())));
  return values[std::max<size_t>(rank, 1) - 1];
}

}  // namespace

const char* Version() { return MRT_VERSION; }

const char* TextCacheUseName(TextCacheUse use) {
  switch (use) {
    case TextCacheUse::kOff: return "off";
    case TextCacheUse::kHit: return "hit";
    case TextCacheUse::kMiss: return "miss";
    case TextCacheUse::kUnwritable: return "unwritable";
  }
  return "off";
}

double GenerationStats::FpsTransformer() const { return Rate(frames, transformer_s); }
double GenerationStats::FpsWithVae() const { return Rate(frames, transformer_s + vae_s); }
double GenerationStats::FpsEndToEnd() const { return Rate(frames, wall_s); }

std::string ToJson(const GenerationStats& s) {
  mrt::OrderedJson json;
  json["load_s"] = s.load_s;
  json["text_s"] = s.text_s;
  json["text_cache"] = TextCacheUseName(s.text_cache);
  json["first_frame_s"] = s.first_frame_s;
  json["frames"] = s.frames;
  json["fps_transformer"] = s.FpsTransformer();
  json["fps_with_vae"] = s.FpsWithVae();
  json["fps_end_to_end"] = s.FpsEndToEnd();
  json["chunk_ms"] = {{"transformer_p50", Percentile(s.chunk_transformer_ms, 50)},
                      {"transformer_p95", Percentile(s.chunk_transformer_ms, 95)},
                      {"vae_p50", Percentile(s.chunk_vae_ms, 50)},
                      {"vae_p95", Percentile(s.chunk_vae_ms, 95)}};
  json["prompts"] = mrt::OrderedJson::array();
  for (const PromptChange& p : s.prompts)
    json["prompts"].push_back({{"prompt", p.prompt},
                               {"first_frame", p.first_frame},
                               {"start_s", p.start_s},
                               {"text_s", p.text_s},
                               {"text_cache", TextCacheUseName(p.text_cache)}});
  json["peak_rss_bytes"] = s.peak_rss_bytes;
  json["peak_device_bytes"] = s.peak_device_bytes;
  json["model"] = s.model;
  json["attention"] = {{"mode", s.attention_mode},
                       {"tiles", s.tiles},
                       {"iterations", s.iterations},
                       {"sparsity", s.sparsity}};
  json["dtype"] = s.dtype;
  json["threads"] = s.threads;
  json["cpu"] = s.cpu;
  json["device"] = s.device;
  json["version"] = s.version;
  return mrt::DumpJson(json, 2);
}

}  // namespace monarchrt
