// After its first chunks a stream leaves the heap alone, and its memory does not grow with the
// video. This binary counts every allocation of the process.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/prctl.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "monarchrt/engine.h"
#include "testing/sanitizer.h"

namespace {

std::atomic<bool> counting = false;
std::atomic<int64_t> ours = 0;
std::atomic<int64_t> vendors = 0;
std::atomic<size_t> largest = 0;  // bytes of one

// Whether the code at `caller` is oneDNN's: it makes some small objects for every product.
bool IsVendor(void* caller) {
  Dl_info info = {};
  return dladdr(caller, &info) != 0 && info.dli_fname != nullptr &&
         std::strstr(info.dli_fname, "libdnnl") != nullptr;
}

void* Allocate(size_t size, size_t alignment, void* caller) {
  if (counting) {
    ++(IsVendor(caller) ? vendors : ours);
    for (size_t seen = largest; size > seen && !largest.compare_exchange_weak(seen, size);) {
    }
  }
  const size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, rounded > 0 ? rounded : alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

// Not inlined: g++ would see free() on the result of new and warn, not knowing that new is ours.
[[gnu::noinline]] void Release(void* p) { std::free(p); }

}  // namespace

void* operator new(size_t size) {
  return Allocate(size, alignof(std::max_align_t), __builtin_return_address(0));
}
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<size_t>(alignment), __builtin_return_address(0));
}
void operator delete(void* p) noexcept { Release(p); }
void operator delete(void* p, size_t) noexcept { Release(p); }
void operator delete(void* p, std::align_val_t) noexcept { Release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { Release(p); }

namespace monarchrt {
namespace {

class StreamMemory : public ::testing::Test {
 protected:
  static Engine& ToyEngine() {
    static Result<Engine> engine =
        Engine::Load({.model = std::string(MRT_GOLDEN_DIR) + "/toy_wan",
                      .checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema"});
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return *engine;
  }
  static Stream Open(int64_t frames, DecodeOverlap overlap = DecodeOverlap::kOff,
                     AttentionMode mode = AttentionMode::kMonarch) {
    Result<Stream> stream = ToyEngine().Open({.prompt = "A red ball bounces.",
                                              .width = 80,
                                              .height = 48,
                                              .frames = frames,
                                              .attention = {.mode = mode},
                                              .window_frames = 6,
                                              .sink_frames = 3,
                                              .decode_overlap = overlap});
    EXPECT_TRUE(stream.ok()) << stream.status().message();
    return std::move(*stream);
  }
};

// The window is full from the second chunk on and rolls from the third.
TEST_F(StreamMemory, NothingIsAllocatedPerChunk) {
  const std::pair<DecodeOverlap, AttentionMode> settings[] = {
      {DecodeOverlap::kOff, AttentionMode::kMonarch},
      {DecodeOverlap::kOn, AttentionMode::kMonarch},
      {DecodeOverlap::kOff, AttentionMode::kTopK},
      {DecodeOverlap::kOff, AttentionMode::kWindow},
      {DecodeOverlap::kOff, AttentionMode::kRadial}};
  for (const auto& [overlap, mode] : settings) {
    Stream stream = Open(200, overlap, mode);
    Chunk chunk;
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream.Next(chunk).ok());
    ours = vendors = 0;
    counting = true;
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream.Next(chunk).ok());
    counting = false;
    EXPECT_EQ(ours, 0);
    EXPECT_GT(vendors, 0) << "the count does not see oneDNN: does it see anything?";
  }
}

// Of many only the last ones are used: no copy of all is made.
TEST_F(StreamMemory, InitialFramesAreReadInPlace) {
  StreamOptions options = {.prompt = "A red ball bounces.", .width = 80, .height = 48};
  options.initial_frames = 4000;
  options.initial_rgb.resize(static_cast<size_t>(4000 * 80 * 48 * 3));
  Engine& engine = ToyEngine();
  largest = 0;
  counting = true;
  const Result<Stream> stream = engine.Open(options);
  counting = false;
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  EXPECT_GT(largest, 0u);
  EXPECT_LT(largest, options.initial_rgb.size());
}

// What malloc has given out, of oneDNN too.
int64_t HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

// Pages of the process that belong to no file, counted one by one: /proc/self/status and
// getrusage() are off by some hundred KiB, and file pages come and go. -1 if this system does not
// tell.
int64_t AnonymousBytes() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  int64_t kib = 0, parts = 0;
  for (std::string line; std::getline(rollup, line);)
    for (const std::string name : {"Anonymous:", "Swap:"})
      if (line.starts_with(name)) kib += std::stoll(line.substr(name.size())), ++parts;
  return parts == 2 ? kib << 10 : -1;
}

// Within one stream: a second one has a history of the heap of its own.
TEST_F(StreamMemory, AMinuteTakesNoMoreThanFiveSeconds) {
  if (mrt::testing::kSanitized)
    GTEST_SKIP() << "the sanitizer has a heap of its own and keeps what oneDNN frees";
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // else pages become larger ones at any time
  Stream stream = Open(60 * 16);
  Chunk chunk;
  const auto play_until = [&](int64_t frames) {
    while (chunk.first_frame + chunk.frames < frames) ASSERT_TRUE(stream.Next(chunk).ok());
  };
  play_until(5 * 16);
  const int64_t chunks = chunk.index, heap = HeapBytes(), anonymous = AnonymousBytes();
  play_until(60 * 16);
  const int64_t more_chunks = chunk.index - chunks;
  ASSERT_GT(more_chunks, 60);
  constexpr int64_t kHeapObjectMin = 16, kPage = 4096;  // bytes: so even one a chunk shows
  EXPECT_GT(heap, 1 << 20) << "mallinfo2() sees nothing";
  EXPECT_LT(HeapBytes() - heap, more_chunks * kHeapObjectMin);
  if (anonymous < 0) GTEST_SKIP() << "no /proc/self/smaps_rollup: only the heap was counted";
  EXPECT_LT(AnonymousBytes() - anonymous, more_chunks * kPage);
}

}  // namespace
}  // namespace monarchrt
