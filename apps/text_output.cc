#include "apps/text_output.h"

#include <cstdio>

#include "media/atomic_file.h"

namespace mrt::apps {

monarchrt::Status CheckWritable(const std::string& path) {
  return media::AtomicFile::Create(path).status();
}

monarchrt::Status WriteText(const std::string& path, const std::string& text) {
  MRT_ASSIGN_OR_RETURN(media::AtomicFile file, media::AtomicFile::Create(path));
  MRT_RETURN_IF_ERROR(file.Append(reinterpret_cast<const uint8_t*>(text.data()),
                                  static_cast<int64_t>(text.size())));
  return file.Commit();
}

std::string FormatRates(const monarchrt::GenerationStats& s) {
  char text[512];
  std::snprintf(text, sizeof(text),
                "frames/s    transformer %.3g   with VAE %.3g   end to end %.3g\n"
                "seconds     load %.2f   text %.2f   first frames %.2f   %lld frames in %.2f\n"
                "peak memory %s\n",
                s.FpsTransformer(), s.FpsWithVae(), s.FpsEndToEnd(), s.load_s, s.text_s,
                s.first_frame_s, static_cast<long long>(s.frames), s.wall_s,
                FormatBytes(s.peak_rss_bytes).c_str());
  return text;
}

std::string FormatBytes(int64_t bytes) {
  char text[32];
  if (bytes >= 1'000'000'000)
    std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) * 1e-9);
  else
    std::snprintf(text, sizeof(text), "%.0f MB", static_cast<double>(bytes) * 1e-6);
  return text;
}

}  // namespace mrt::apps
