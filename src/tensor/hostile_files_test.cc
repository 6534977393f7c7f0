// Files that are cut, damaged at random or not there: always a Status or tensors inside the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tensor/checkpoint.h"
#include "tensor/pt.h"
#include "tensor/safetensors.h"
#include "testing/expect_failure.h"
#include "testing/pt_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/sanitizer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

using testing::BytesOf;
using testing::ExpectFailure;

std::string SmallSafetensors() {
  return testing::SafetensorsFile({{"a", DType::kF32, {2, 3}, BytesOf<float>({1, 2, 3, 4, 5, 6})},
                                   {"b", DType::kBF16, {3}, BytesOf<uint16_t>({1, 2, 3})},
                                   {"c", DType::kF64, {2}, BytesOf<double>({1, 2})},
                                   {"d", DType::kU8, {}, "x"}},
                                  R"({"key":"value"})");
}

std::string SmallPt() {
  const std::string pickle = testing::PickleWriter()
                                 .Dict({{"a", "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}},
                                        {"b", "FloatStorage", "0", 6, 0, {3, 2}, {1, 3}},
                                        {"c", "BFloat16Storage", "1", 4, 1, {3}, {1}, true},
                                        {"d", "LongStorage", "2", 1, 0, {}, {}}})
                                 .Finish();
  return testing::PtFile(pickle, {{"0", BytesOf<float>({0, 1, 2, 3, 4, 5})},
                                  {"1", BytesOf<uint16_t>({1, 2, 3, 4})},
                                  {"2", BytesOf<int64_t>({9})}});
}

/// Every tensor lies inside the mapped file or is a copy; all of its bytes can be read.
void ExpectReadable(const LoadedTensors& loaded, uint64_t& sum) {
  const std::string_view file = loaded.files.front()->bytes();
  int64_t copied_bytes = 0;
  for (const auto& [name, tensor] : loaded.tensors) {
    const char* begin = static_cast<const char*>(tensor.data);
    const bool mapped = begin >= file.data() && begin < file.data() + file.size();
    if (mapped) {
      ASSERT_LE(tensor.bytes(), file.data() + file.size() - begin) << name;
    } else {
      copied_bytes += tensor.bytes();
    }
    for (int64_t i = 0; i < tensor.bytes(); ++i) sum += static_cast<unsigned char>(begin[i]);
  }
  ASSERT_LE(copied_bytes, 4 * static_cast<int64_t>(file.size()));
}

/// Opens the file as Checkpoint does, and by the reader of its format even if its first bytes are
/// damaged. Returns whether the reader could read it.
bool TryRead(const std::string& path, bool pt, uint64_t& sum) {
  const auto opened = Checkpoint::Open(path);
  EXPECT_TRUE(!opened.ok() || Checkpoint::Keys(path).ok());
  const auto file = MappedFile::Open(path);
  EXPECT_TRUE(file.ok());
  const auto loaded = pt ? ReadPt(*file, "") : ReadSafetensors(*file);
  EXPECT_TRUE(!opened.ok() || (loaded.ok() && opened->tensors().size() == loaded->tensors.size()));
  if (!loaded.ok()) {
    EXPECT_EQ(loaded.status().message().find('\n'), std::string::npos);
    return false;
  }
  ExpectReadable(*loaded, sum);
  return true;
}

/// One to three random edits: bytes, 32- and 64-bit extremes, cuts, insertions, moved pieces.
std::string Mutated(std::string bytes, std::mt19937& random) {
  const auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  constexpr uint64_t kExtremes[] = {
      0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff};
  for (size_t edits = 1 + below(3); edits > 0 && !bytes.empty(); --edits) {
    const size_t at = below(bytes.size());
    switch (below(7)) {
      case 0: bytes[at] = static_cast<char>(random()); break;
      case 1: bytes[at] ^= static_cast<char>(1 << below(8)); break;
      case 2:
      case 3: {
        const uint64_t value = kExtremes[below(std::size(kExtremes))];
        const size_t width = below(2) ? 4 : 8;
        std::memcpy(&bytes[at], &value, std::min(width, bytes.size() - at));
        break;
      }
      case 4: bytes.erase(at, 1 + below(8)); break;
      case 5: bytes.insert(at, 1 + below(8), static_cast<char>(random())); break;
      default: {
        const std::string piece = bytes.substr(below(bytes.size()), 1 + below(32));
        bytes.replace(at, std::min(piece.size(), bytes.size() - at), piece);
      }
    }
  }
  return bytes;
}

class HostileFiles : public ::testing::TestWithParam<bool> {
 protected:
  std::string Small() const { return GetParam() ? SmallPt() : SmallSafetensors(); }
  testing::TempFolder folder_;
  uint64_t sum_ = 0;
};

TEST_P(HostileFiles, TheWholeFileIsReadable) {
  EXPECT_TRUE(TryRead(folder_.Write("f", Small()), GetParam(), sum_));
}

TEST_P(HostileFiles, EveryTruncationIsRefused) {
  const std::string whole = Small();
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    EXPECT_FALSE(TryRead(folder_.Write("f", whole.substr(0, size)), GetParam(), sum_));
  }
}

TEST_P(HostileFiles, EveryByteMayBeWrong) {
  const std::string whole = Small();
  const auto flips = testing::kSanitized ? std::vector{0xff} : std::vector{0x01, 0x80, 0xff};
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int flip : flips) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      TryRead(folder_.Write("f", damaged), GetParam(), sum_);
    }
  }
}

TEST_P(HostileFiles, RandomMutationsAreRefusedOrReadable) {
  constexpr int kMutations = testing::kSanitized ? 1000 : 5000;  // the fuzz targets try more
  const std::string whole = Small();
  std::mt19937 random(20240611);
  int readable = 0;
  for (int i = 0; i < kMutations; ++i) {
    SCOPED_TRACE(i);
    readable += TryRead(folder_.Write("f", Mutated(whole, random)), GetParam(), sum_);
    if (HasFatalFailure()) return;
  }
  // Both outcomes are exercised: damage in the data is not seen, damage elsewhere is.
  EXPECT_GT(readable, kMutations / 100);
  EXPECT_LT(readable, kMutations * 9 / 10);
}

INSTANTIATE_TEST_SUITE_P(Formats, HostileFiles, ::testing::Bool(),
                         [](const auto& format) { return format.param ? "pt" : "safetensors"; });

TEST(CheckpointOpen, RefusesWhatIsNoFile) {
  const testing::TempFolder folder;
  const auto fails = [&](const std::string& path, StatusCode code, const std::string& part) {
    ExpectFailure(Checkpoint::Open(path).status(), code, part);
  };
  fails(folder.path("nothing.safetensors"), StatusCode::kNotFound, "No such file");
  fails(folder.path(), StatusCode::kNotFound, "no diffusion_pytorch_model.safetensors");
  fails(folder.Write("empty", ""), StatusCode::kBadData, "not a safetensors file");
  fails(folder.Write("text", "hello"), StatusCode::kBadData, "not a safetensors file");
  fails("/dev/null", StatusCode::kInvalidArgument, "a special file");
  fails("", StatusCode::kNotFound, "No such file");
}

TEST(CheckpointOpen, RefusesAKeyForSafetensors) {
  const testing::TempFolder folder;
  const std::string path = folder.Write("model.pt", SmallSafetensors());  // the name does not count
  EXPECT_TRUE(Checkpoint::Open(path).ok());
  ExpectFailure(Checkpoint::Open(path, "ema").status(), StatusCode::kInvalidArgument, "ema");
}

TEST(Checkpoint, OutlivesTheFileAndKeepsAddedTensors) {
  const testing::TempFolder folder;
  const std::string path = folder.Write("f", SmallSafetensors());
  auto opened = Checkpoint::Open(path);
  ASSERT_TRUE(opened.ok());
  ASSERT_EQ(std::remove(path.c_str()), 0);
  Checkpoint checkpoint = *std::move(opened);
  checkpoint.DropPages();
  EXPECT_EQ(ElementAsFloat(checkpoint.Find("a"), 5), 6.0f);
  {
    auto owned = std::make_shared<Tensor>(DType::kF32, Shape{3});
    owned->as<float>()[2] = 8;
    checkpoint.Add("model.added", *owned, owned);
  }
  checkpoint.StripPrefix("absent.");
  EXPECT_EQ(checkpoint.tensors().size(), 5u);
  checkpoint.StripPrefix("model.");
  EXPECT_EQ(checkpoint.tensors().size(), 1u);
  EXPECT_EQ(checkpoint.Find("added").as<float>()[2], 8.0f);
}

}  // namespace
}  // namespace mrt
