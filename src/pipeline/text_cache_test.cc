// The cache of text embeddings: the same bits or nothing, whatever lies in its folder.
#include "pipeline/text_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/threads.h"
#include "monarchrt/engine.h"
#include "pipeline/prompt_encoder.h"
#include "testing/pt_writer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

namespace fs = std::filesystem;
using monarchrt::Engine;
using monarchrt::EngineOptions;
using monarchrt::StreamOptions;
using monarchrt::TextCacheUse;
using ops::Precision;

const std::string kTree = std::string(MRT_GOLDEN_DIR) + "/toy_wan";
const std::string kEncoder = kTree + "/wan_models/Wan2.1-T2V-1.3B/models_t5_umt5-xxl-enc-bf16.pth";

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Bytes(const Tensor& tensor) {
  return {static_cast<const char*>(tensor.view().data), static_cast<size_t>(tensor.bytes())};
}

class TextCacheTest : public ::testing::Test {
 protected:
  static constexpr int64_t kTextLen = 12, kDim = 8;

  // [kTextLen, kDim], a row for each id, then zeros.
  static Tensor Embedding(const std::vector<int32_t>& ids) {
    Tensor tensor(DType::kF32, {kTextLen, kDim});
    std::mt19937 random(static_cast<unsigned>(ids.size() + 1000u * static_cast<unsigned>(ids[0])));
    for (int64_t i = 0; i < static_cast<int64_t>(ids.size()) * kDim; ++i)
      tensor.as<float>()[i] = static_cast<float>(random()) * 0x1p-32f;
    return tensor;
  }
  static Checkpoint Encoder(const std::string& path = kEncoder) {
    auto checkpoint = Checkpoint::Open(path);
    EXPECT_TRUE(checkpoint.ok());
    return checkpoint.ok() ? *std::move(checkpoint) : Checkpoint();
  }
  TextCache Cache() const { return TextCache(dir_, Encoder(), Precision::kF32); }
  static bool Has(const TextCache& cache, const std::vector<int32_t>& ids) {
    const Tensor found = cache.Find(ids, kTextLen, kDim);
    if (found.empty()) return false;
    EXPECT_EQ(Bytes(found), Bytes(Embedding(ids)));
    return true;
  }
  static void Store(const TextCache& cache, const std::vector<int32_t>& ids) {
    const Status status = cache.Store(ids, Embedding(ids));
    EXPECT_TRUE(status.ok()) << status.message();
  }
  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(dir_)) files.push_back(entry.path());
    return files;
  }
  // A file of the cache that was used `age_s` ago; its bytes are zeros that need no disk.
  void AddFile(int number, int age_s, uintmax_t bytes) const {
    char name[80];
    std::snprintf(name, sizeof(name), "%064x.safetensors", static_cast<unsigned>(number));
    const std::string path = dir_ + "/" + name;
    std::ofstream(path).put('x');
    fs::resize_file(path, bytes);
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::seconds(age_s));
  }

  testing::TempFolder folder_;
  const std::string dir_ = folder_.path("a/b");
  const std::vector<int32_t> ids_ = {5, 6, 7, 1};
};

TEST_F(TextCacheTest, GivesBackEveryBit) {
  const TextCache cache = Cache();
  EXPECT_TRUE(cache.on());
  EXPECT_FALSE(Has(cache, ids_));
  Store(cache, ids_);
  EXPECT_TRUE(Has(cache, ids_));
  EXPECT_TRUE(Has(Cache(), ids_));
  Store(cache, ids_);
  EXPECT_EQ(Files().size(), 1u);
}

TEST_F(TextCacheTest, IsOffWithoutAFolderOrAFileOfTheEncoder) {
  EXPECT_FALSE(TextCache().on());
  EXPECT_FALSE(TextCache("", Encoder(), Precision::kF32).on());
  EXPECT_FALSE(TextCache(dir_, Checkpoint(), Precision::kF32).on());
  EXPECT_TRUE(TextCache().Find(ids_, kTextLen, kDim).empty());
}

TEST_F(TextCacheTest, TellsApartWhatChangesTheBits) {
  const TextCache cache = Cache();
  Store(cache, ids_);
  EXPECT_FALSE(Has(cache, {5, 6, 7, 8, 1}));
  EXPECT_FALSE(Has(cache, {5, 6, 7}));
  EXPECT_TRUE(cache.Find(ids_, kTextLen + 1, kDim).empty());
  EXPECT_TRUE(cache.Find(ids_, kTextLen, kDim / 2).empty());
  EXPECT_FALSE(Has(TextCache(dir_, Encoder(), Precision::kBF16), ids_));
  EXPECT_FALSE(Has(TextCache(dir_, Encoder(), Precision::kF32, "a GPU"), ids_));
  SetThreadCount(ThreadCount() == 1 ? 2 : 1);
  EXPECT_FALSE(Has(cache, ids_));
  SetThreadCount(0);
  EXPECT_TRUE(Has(cache, ids_));
}

TEST_F(TextCacheTest, KnowsTheEncoderByItsTensorsAndItsTimeOfWriting) {
  const std::string bytes = ReadFile(kEncoder);
  const std::string copy = folder_.Write("copy.pth", bytes);
  const auto written = fs::last_write_time(kEncoder);
  const auto fingerprint = [&] {
    fs::last_write_time(copy, written);
    return Encoder(copy).Fingerprint();
  };
  EXPECT_EQ(fingerprint(), Encoder().Fingerprint());  // nothing of the path
  fs::last_write_time(copy, written + std::chrono::nanoseconds(1));
  EXPECT_NE(Encoder(copy).Fingerprint(), Encoder().Fingerprint());
  // One bit of the first, and of the last byte of a tensor.
  const Checkpoint encoder = Encoder();
  const ConstTensorView tensor = encoder.Find("token_embedding.weight");
  const std::string content(static_cast<const char*>(tensor.data),
                            static_cast<size_t>(tensor.bytes()));
  const size_t at = bytes.find(content);
  ASSERT_NE(at, bytes.npos);
  for (const size_t offset : {at, at + content.size() - 1}) {
    std::string changed = bytes;
    changed[offset] = static_cast<char>(changed[offset] ^ 1);
    folder_.Write("copy.pth", changed);
    EXPECT_NE(fingerprint(), Encoder().Fingerprint()) << offset;
  }
}

TEST_F(TextCacheTest, IsForTheOwnerAlone) {
  const mode_t before = umask(0);
  Store(Cache(), ids_);
  umask(before);
  const auto mode = [](const fs::path& path) {
    struct stat info = {};
    EXPECT_EQ(stat(path.c_str(), &info), 0);
    return info.st_mode & 07777u;
  };
  EXPECT_EQ(mode(folder_.path("a")), 0700u);
  EXPECT_EQ(mode(dir_), 0700u);
  EXPECT_EQ(mode(Files().at(0)), 0600u);
}

// Every damage gives the same bits (in the header's padding, say) or nothing; then it heals.
TEST_F(TextCacheTest, UsesNoDamagedFile) {
  const TextCache cache = Cache();
  Store(cache, ids_);
  const fs::path path = Files().at(0);
  const std::string good = ReadFile(path);
  std::mt19937 random(1);
  int refused = 0;
  for (int n = 0; n < 400; ++n) {
    std::string bad = good;
    const size_t at = random() % bad.size();
    if (n % 4 == 0) bad.resize(at);
    if (n % 4 == 1) bad.insert(at, 1, static_cast<char>(random()));
    if (n % 4 >= 2) bad[at] = static_cast<char>(bad[at] ^ (1u << random() % 8));
    folder_.Write("a/b/" + path.filename().string(), bad);
    refused += !Has(cache, ids_);
  }
  EXPECT_GT(refused, 390);
  // The numbers themselves, to the last bit.
  const auto data = static_cast<size_t>(ids_.size() * (kDim + 1) * 4);
  for (size_t at = good.size() - data; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    folder_.Write("a/b/" + path.filename().string(), bad);
    EXPECT_FALSE(Has(cache, ids_)) << at;
  }
  Store(cache, ids_);
  EXPECT_TRUE(Has(cache, ids_));
}

TEST_F(TextCacheTest, UsesNothingForeign) {
  const TextCache cache = Cache();
  Store(cache, ids_);
  const fs::path path = Files().at(0);
  const std::string good = ReadFile(path);
  // Another prompt's entry under this name.
  Store(cache, {9, 1});
  for (const fs::path& other : Files())
    if (other != path) fs::rename(other, path);
  EXPECT_FALSE(Has(cache, ids_));
  fs::remove(path);
  fs::create_symlink(folder_.Write("elsewhere", good), path);
  EXPECT_FALSE(Has(cache, ids_));
  fs::remove(path);
  std::ofstream(path) << good;
  EXPECT_TRUE(Has(cache, ids_));
  fs::resize_file(path, uintmax_t{1} << 40);
  EXPECT_FALSE(Has(cache, ids_));
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_FALSE(Has(cache, ids_));
  fs::remove(path);
  std::ofstream(path) << testing::PtFile(testing::PickleWriter().Raw("}").Finish(), {});
  EXPECT_FALSE(Has(cache, ids_));
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_FALSE(Has(cache, ids_));
  EXPECT_FALSE(cache.Store(ids_, Embedding(ids_)).ok());
  if (geteuid() == 0) {
    fs::remove(path);
    Store(cache, ids_);
    ASSERT_EQ(chown(path.c_str(), 12345, 12345), 0);
    EXPECT_FALSE(Has(cache, ids_)) << "a file of somebody else";
  }
}

TEST_F(TextCacheTest, DropsWhatWasNotUsedForTheLongestTime) {
  const TextCache cache = Cache();
  Store(cache, ids_);
  const fs::path used = Files().at(0);
  fs::last_write_time(used, fs::file_time_type::clock::now() - std::chrono::hours(24));
  for (int i = 0; i < 300; ++i) AddFile(i, 100 + i, 1);
  folder_.Write("a/b/notes.txt", "not ours");
  EXPECT_TRUE(Has(cache, ids_));  // was used now
  Store(cache, {8, 1});
  EXPECT_EQ(Files().size(), static_cast<size_t>(TextCache::kFilesMax) + 1);
  EXPECT_TRUE(fs::exists(used));
  EXPECT_TRUE(Has(cache, {8, 1}));
  EXPECT_TRUE(fs::exists(dir_ + "/notes.txt"));
  EXPECT_TRUE(fs::exists(dir_ + "/" + std::string(64, '0') + ".safetensors"));  // the youngest
}

TEST_F(TextCacheTest, BoundsItsBytes) {
  const TextCache cache = Cache();
  Store(cache, ids_);
  for (int i = 0; i < 6; ++i) AddFile(i, 100 + i, TextCache::kBytesMax / 4);
  Store(cache, {8, 1});
  EXPECT_EQ(Files().size(), 5u);  // three of these, and the two that hardly count
  int64_t bytes = 0;
  for (const fs::path& file : Files()) bytes += static_cast<int64_t>(fs::file_size(file));
  EXPECT_LE(bytes, TextCache::kBytesMax);
}

TEST_F(TextCacheTest, TakesManyWritersAtOnce) {
  const TextCache cache = Cache();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int32_t i = 0; i < 10; ++i)
        for (const int32_t id : {i, 100 * t + i}) {
          const std::vector<int32_t> ids = {id, 1};
          if (!cache.Store(ids, Embedding(ids)).ok()) ++wrong;
          const Tensor found = cache.Find(ids, kTextLen, kDim);
          if (found.empty() || Bytes(found) != Bytes(Embedding(ids))) ++wrong;
        }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(Files().size(), 40u);
}

// The engine on the miniature model.
class CachedEngineTest : public TextCacheTest {
 protected:
  struct Made {
    std::vector<uint8_t> video;
    monarchrt::GenerationStats stats;
  };
  static EngineOptions Toy(const std::string& cache_dir) {
    return {.model = kTree,
            .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema",
            .cache_dir = cache_dir};
  }
  static StreamOptions Small(const std::string& prompt) {
    return {.prompt = prompt,
            .seed = 7,
            .width = 80,
            .height = 48,
            .frames = 21,
            .decode_overlap = monarchrt::DecodeOverlap::kOff};  // a prompt then fits on any machine
  }
  static Made Generate(const std::string& cache_dir, const std::string& prompt = "a red ball") {
    auto engine = Engine::Load(Toy(cache_dir));
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    auto stream = engine->Open(Small(prompt));
    EXPECT_TRUE(stream.ok()) << stream.status().message();
    Made made;
    while (!stream->done()) {
      const auto chunk = stream->Next();
      EXPECT_TRUE(chunk.ok());
      if (!chunk.ok()) break;
      made.video.insert(made.video.end(), chunk->rgb.begin(), chunk->rgb.end());
      if (chunk->index == 0) {
        EXPECT_TRUE(stream->SetPrompt("a " + prompt).ok());
      }
    }
    made.stats = stream->stats();
    return made;
  }
  PromptEncoder Prompts() const {
    auto files = OpenModelFiles(Toy(dir_));
    EXPECT_TRUE(files.ok());
    const auto cpu = mrt::Device::Open("cpu");
    auto prompts =
        PromptEncoder::Open(*files, {.precision = monarchrt::Precision::kF32, .cache_dir = dir_},
                            *cpu, /*models_bytes=*/0);
    EXPECT_TRUE(prompts.ok());
    return std::move(prompts).value();
  }
};

TEST_F(CachedEngineTest, GivesTheSameVideoFromTheCache) {
  const Made off = Generate("");
  EXPECT_EQ(off.stats.text_cache, TextCacheUse::kOff);
  for (const TextCacheUse use : {TextCacheUse::kMiss, TextCacheUse::kHit}) {
    const Made made = Generate(dir_);
    EXPECT_EQ(made.stats.text_cache, use);
    ASSERT_EQ(made.stats.prompts.size(), 1u);
    EXPECT_EQ(made.stats.prompts[0].text_cache, use);
    EXPECT_EQ(made.stats.text_cache_problem, "");
    EXPECT_EQ(made.video, off.video);
  }
  EXPECT_EQ(Files().size(), 2u);
  EXPECT_EQ(Generate(dir_, "another").stats.text_cache, TextCacheUse::kMiss);
}

TEST_F(CachedEngineTest, WorksWhereNothingCanBeKept) {
  const std::string below_a_file = folder_.Write("file", "x") + "/cache";
  const Made made = Generate(below_a_file);
  EXPECT_EQ(made.stats.text_cache, TextCacheUse::kUnwritable);
  EXPECT_THAT(made.stats.text_cache_problem, ::testing::HasSubstr("cannot make the folder"));
  EXPECT_EQ(made.video, Generate("").video);
}

// An entry that says something else shows that nothing is encoded beside it.
TEST_F(CachedEngineTest, DoesNotRunTheEncoderOnAHit) {
  const PromptEncoder prompts = Prompts();
  ops::Context context(Precision::kF32);
  PromptEncoder::Prompt prompt = prompts.Prepare("a red ball").value();
  EXPECT_TRUE(prompt.cached.empty());
  const std::vector<int32_t> ids = prompt.ids;
  const int64_t peak_of_encoder = prompts.PeakBytes(prompt);
  auto encoded = prompts.Encode(context, std::move(prompt));
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(encoded->cache, TextCacheUse::kMiss);

  // The same when cleaned.
  PromptEncoder::Prompt cached = prompts.Prepare("  a red\nball ").value();
  EXPECT_EQ(Bytes(cached.cached), Bytes(encoded->embedding));
  EXPECT_LT(prompts.PeakBytes(cached), peak_of_encoder / 10);

  encoded->embedding.as<float>()[0] = 42;
  ASSERT_TRUE(Cache().Store(ids, encoded->embedding).ok());
  const auto hit = prompts.Encode(context, prompts.Prepare("a red ball").value());
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->cache, TextCacheUse::kHit);
  EXPECT_EQ(hit->embedding.as<float>()[0], 42);
}

TEST_F(CachedEngineTest, KeepsNothingOfACancelledEncoding) {
  const std::atomic<bool> stop = true;
  ops::Context context(Precision::kF32);
  context.set_stop(&stop);
  const PromptEncoder prompts = Prompts();
  EXPECT_EQ(prompts.Encode(context, prompts.Prepare("a red ball").value()).status().code(),
            StatusCode::kCancelled);
  EXPECT_FALSE(fs::exists(dir_));
}

TEST_F(CachedEngineTest, PlansMemoryWithoutTheEncoder) {
  const auto before = Engine::EstimateMemory(Toy(dir_), Small("a red ball"));
  Generate(dir_);
  const auto after = Engine::EstimateMemory(Toy(dir_), Small("a red ball"));
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_LT(after->text_bytes, before->text_bytes / 10);
  EXPECT_EQ(Engine::EstimateMemory(Toy(dir_), Small("another"))->text_bytes, before->text_bytes);
}

}  // namespace
}  // namespace mrt
