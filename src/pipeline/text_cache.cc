#include "pipeline/text_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/cpu_features.h"
#include "base/sha256.h"
#include "base/threads.h"
#include "monarchrt/stats.h"
#include "tensor/mapped_file.h"
#include "tensor/safetensors.h"
#include "tensor/safetensors_writer.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, std::string>;

constexpr const char* kEntryFormat = "monarchrt text embedding 1";
constexpr const char* kEmbedding = "embedding";
constexpr const char* kIds = "ids";
constexpr const char* kChecksum = "sha256";
constexpr const char* kSuffix = ".safetensors";
constexpr size_t kHashDigits = 64;

// Whatever else the last bits of an embedding depend on: which kernels run, and on how many
// threads their sums are spread.
std::string ComputedBy(const std::string& gpu) {
  if (!gpu.empty()) return std::string("monarchrt ") + monarchrt::Version() + ", " + gpu;
  const CpuFeatures& cpu = GetCpuFeatures();
  std::string text = std::string("monarchrt ") + monarchrt::Version() + ", " +
                     ops::VendorDescription() + ", " + cpu.brand + (cpu.avx2 ? " avx2" : "") +
                     (cpu.avx512 ? " avx512" : "") + (cpu.avx512_bf16 ? " avx512_bf16" : "") +
                     (cpu.amx_bf16 ? " amx_bf16" : "") + ", " + std::to_string(ThreadCount()) +
                     " threads";
  for (const char* name : {"MRT_DENSE_IMPL", "MRT_ROWWISE_IMPL", "ONEDNN_DEFAULT_FPMATH_MODE"})
    if (const char* value = std::getenv(name)) text += std::string(", ") + name + "=" + value;
  return text;
}

// Without the checksum, which is that of the bytes.
Metadata Describe(const std::string& encoder, const std::string& dtype, const std::string& gpu,
                  int64_t text_len) {
  return {{"format", kEntryFormat},
          {"encoder", encoder},
          {"dtype", dtype},
          {"text_len", std::to_string(text_len)},
          {"computed_by", ComputedBy(gpu)}};
}

std::string FileName(const Metadata& description, std::span<const int32_t> ids) {
  Sha256 hash;
  for (const auto& [key, value] : description) hash.AddText(key).AddText(value);
  hash.Add(ids.data(), ids.size_bytes());
  return hash.Finish() + kSuffix;
}

std::string ChecksumOf(const void* data, int64_t bytes) {
  return Sha256().Add(data, static_cast<size_t>(bytes)).Finish();
}

// A regular file of this user, not a link, and not larger than what it should hold.
bool IsOurs(const std::string& path, int64_t bytes_max) {
  struct stat info = {};
  return lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
         info.st_size <= bytes_max;
}

// Every folder on the way that is not there, for this user alone.
Status MakeFolders(const std::string& folder) {
  for (size_t end = 0; end != folder.npos;) {
    end = folder.find('/', end + 1);
    const std::string path = folder.substr(0, end);
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST && access(path.c_str(), X_OK) != 0)
      return IoError("[text cache] cannot make the folder " + path + ": " + std::strerror(errno));
  }
  return {};
}

struct CacheFile {
  std::timespec used;
  int64_t bytes;
  std::string name;
};

// <64 digits>.safetensors, or what a killed process left of one where files need a name.
bool HasOurName(const std::string& name) {
  const bool partial = name.starts_with('.') && name.find(".partial-") != name.npos;
  const std::string rest = name.substr(partial ? 1 : 0);
  return rest.size() > kHashDigits && (partial || rest.size() == kHashDigits + strlen(kSuffix)) &&
         rest.find_first_not_of("0123456789abcdef") == kHashDigits &&
         rest.compare(kHashDigits, strlen(kSuffix), kSuffix) == 0;
}

// The last used first.
std::vector<CacheFile> ListFiles(const std::string& folder) {
  std::vector<CacheFile> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    struct stat info = {};
    if (HasOurName(name) && lstat(entry->path().c_str(), &info) == 0 && S_ISREG(info.st_mode))
      files.push_back({info.st_mtim, info.st_size, name});
  }
  std::sort(files.begin(), files.end(), [](const CacheFile& a, const CacheFile& b) {
    return std::pair(a.used.tv_sec, a.used.tv_nsec) > std::pair(b.used.tv_sec, b.used.tv_nsec);
  });
  return files;
}

// `kept` stays: it was just written.
void DropOldest(const std::string& folder, const std::string& kept) {
  int64_t count = 0, bytes = 0;
  const std::vector<CacheFile> files = ListFiles(folder);
  for (const CacheFile& file : files)
    if (file.name == kept) count = 1, bytes = file.bytes;
  for (const CacheFile& file : files) {
    if (file.name == kept) continue;
    ++count;
    bytes += file.bytes;
    if (count > TextCache::kFilesMax || bytes > TextCache::kBytesMax)
      unlink((folder + "/" + file.name).c_str());
  }
}

}  // namespace

TextCache::TextCache(const std::string& folder, const Checkpoint& encoder, ops::Precision precision,
                     const std::string& gpu)
    : dtype_(precision == ops::Precision::kBF16 ? "bf16" : "f32"), gpu_(gpu) {
  if (folder.empty()) return;
  encoder_ = encoder.Fingerprint();
  if (!encoder_.empty()) folder_ = folder;
}

Tensor TextCache::Find(std::span<const int32_t> ids, int64_t text_len, int64_t dim) const {
  if (!on()) return {};
  constexpr int64_t kHeaderBytesMax = int64_t{64} << 10;
  Metadata description = Describe(encoder_, dtype_, gpu_, text_len);
  const std::string path = folder_ + "/" + FileName(description, ids);
  const auto n = static_cast<int64_t>(ids.size());
  const int64_t bytes = n * dim * DTypeSize(DType::kF32);
  if (!IsOurs(path, bytes + n * DTypeSize(DType::kI32) + kHeaderBytesMax)) return {};
  const auto file = MappedFile::Open(path);
  if (!file.ok()) return {};
  const auto loaded = ReadSafetensors(*file);
  if (!loaded.ok() || loaded->tensors.size() != 2) return {};
  const auto embedding = loaded->tensors.find(kEmbedding), stored = loaded->tensors.find(kIds);
  if (embedding == loaded->tensors.end() || stored == loaded->tensors.end()) return {};
  const ConstTensorView& rows = embedding->second;
  if (rows.dtype != DType::kF32 || !(rows.shape == Shape{n, dim}) ||
      stored->second.dtype != DType::kI32 || !(stored->second.shape == Shape{n}) ||
      !std::equal(ids.begin(), ids.end(), stored->second.as<int32_t>()))
    return {};
  // Copied first: what is checked is what is used, even if somebody writes into the file.
  Tensor found(DType::kF32, {text_len, dim});
  if (bytes > 0) std::memcpy(found.as<float>(), rows.data, static_cast<size_t>(bytes));
  description[kChecksum] = ChecksumOf(found.as<float>(), bytes);
  if (loaded->metadata != description) return {};
  static_cast<void>(utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW));  // was used
  return found;
}

Status TextCache::Store(std::span<const int32_t> ids, const ConstTensorView& embedding) const {
  MRT_CHECK(on());
  const int64_t text_len = embedding.shape[0];
  const auto n = static_cast<int64_t>(ids.size());
  const ConstTensorView rows = embedding.Slice(0, n);
  Metadata metadata = Describe(encoder_, dtype_, gpu_, text_len);
  const std::string name = FileName(metadata, ids);
  metadata[kChecksum] = ChecksumOf(rows.data, rows.bytes());
  MRT_RETURN_IF_ERROR(MakeFolders(folder_));
  MRT_ASSIGN_OR_RETURN(
      SafetensorsWriter writer,
      SafetensorsWriter::Create(folder_ + "/" + name,
                                {{kEmbedding, DType::kF32, rows.shape}, {kIds, DType::kI32, {n}}},
                                metadata, AtomicFile::kPrivate));
  for (const SafetensorsEntry& entry : writer.entries())
    MRT_RETURN_IF_ERROR(writer.Append(entry.name == kIds ? ids.data() : rows.data, entry.bytes()));
  MRT_RETURN_IF_ERROR(writer.Commit());
  DropOldest(folder_, name);
  return {};
}

}  // namespace mrt
