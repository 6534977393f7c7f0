#include "apps/text_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/atomic_file.h"

namespace mrt::apps {

monarchrt::Result<std::string> ReadText(const std::string& path, int64_t bytes_max) {
  // O_NONBLOCK: a named pipe must not wait for a writer.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const StatusCode code = errno == ENOENT ? StatusCode::kNotFound : StatusCode::kIoError;
    return Status(code, "[file] " + path + ": " + std::strerror(errno));
  }
  struct stat info = {};
  const bool regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  std::string text;
  ssize_t got = 0;
  if (regular && info.st_size <= bytes_max) {
    text.resize(static_cast<size_t>(info.st_size));
    got = read(fd, text.data(), text.size());
  }
  close(fd);
  if (!regular) return InvalidArgument("[file] " + path + " is not a regular file, need one");
  if (info.st_size > bytes_max)
    return BadData("[file] " + path + " has " + std::to_string(info.st_size) +
                   " bytes, need at most " + std::to_string(bytes_max));
  if (got < 0) return IoError("[file] " + path + ": " + std::strerror(errno));
  text.resize(static_cast<size_t>(got));
  return text;
}

monarchrt::Status CheckWritable(const std::string& path) {
  return AtomicFile::Create(path).status();
}

monarchrt::Status WriteText(const std::string& path, const std::string& text) {
  MRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  MRT_RETURN_IF_ERROR(file.Append(reinterpret_cast<const uint8_t*>(text.data()),
                                  static_cast<int64_t>(text.size())));
  return file.Commit();
}

std::string FormatRates(const monarchrt::GenerationStats& s) {
  const std::string device =
      s.peak_device_bytes == 0 ? "" : "   of " + s.device + " " + FormatBytes(s.peak_device_bytes);
  char text[512];
  std::snprintf(text, sizeof(text),
                "frames/s    transformer %.3g   with VAE %.3g   end to end %.3g\n"
                "seconds     load %.2f   text %.2f%s   first frames %.2f   %lld frames in %.2f\n"
                "peak memory %s%s\n",
                s.FpsTransformer(), s.FpsWithVae(), s.FpsEndToEnd(), s.load_s, s.text_s,
                s.text_cache == monarchrt::TextCacheUse::kHit ? " (cached)" : "", s.first_frame_s,
                static_cast<long long>(s.frames), s.wall_s, FormatBytes(s.peak_rss_bytes).c_str(),
                device.c_str());
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
