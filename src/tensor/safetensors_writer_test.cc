#include "tensor/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tensor/checkpoint.h"
#include "testing/expect_failure.h"
#include "testing/sanitizer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

using testing::ExpectFailure;

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string BytesOf(const ConstTensorView& view) {
  return {static_cast<const char*>(view.data), static_cast<size_t>(view.bytes())};
}

class SafetensorsWriterTest : public ::testing::Test {
 protected:
  /// Random tensors of every dtype and rank, odd sizes, empty ones and names of all kinds.
  std::vector<SafetensorsEntry> RandomEntries() {
    std::vector<SafetensorsEntry> entries;
    for (int i = 0; i < 40; ++i) {
      Shape shape;
      for (int rank = Pick(0, 4); rank > 0; --rank) shape.Append(Pick(i % 8 == 0 ? 0 : 1, 7));
      const auto dtype = static_cast<DType>(i % 10);
      entries.push_back({"t" + std::to_string(Pick(0, 9)) + "." + std::to_string(i), dtype, shape});
    }
    entries[3].name = "";
    entries[5].name = "quote \" backslash \\ line\n and \xc3\xa9";
    return entries;
  }

  int Pick(int first, int last) { return std::uniform_int_distribution(first, last)(random_); }

  /// Writes every entry in pieces of random size; returns the bytes by name.
  std::map<std::string, std::string> WriteRandom(SafetensorsWriter& writer) {
    std::map<std::string, std::string> bytes;
    for (const SafetensorsEntry& entry : writer.entries()) {
      std::string& all = bytes[entry.name];
      for (int64_t i = 0; i < entry.bytes(); ++i) all += static_cast<char>(Pick(0, 255));
      for (size_t at = 0; at < all.size();) {
        const size_t piece = std::min<size_t>(static_cast<size_t>(Pick(1, 99)), all.size() - at);
        EXPECT_TRUE(writer.Append(all.data() + at, static_cast<int64_t>(piece)).ok());
        at += piece;
      }
    }
    return bytes;
  }

  Status CreateStatus(std::vector<SafetensorsEntry> entries,
                      const std::map<std::string, std::string>& metadata = {}) const {
    return SafetensorsWriter::Create(path_, std::move(entries), metadata).status();
  }

  const testing::TempFolder folder_;
  const std::string path_ = folder_.path("w.safetensors");
  std::mt19937 random_{2026};
};

TEST_F(SafetensorsWriterTest, IsReadBackAsItWasWritten) {
  const std::vector<SafetensorsEntry> entries = RandomEntries();
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"from", "a \"file\""}};
  auto writer = SafetensorsWriter::Create(path_, entries, metadata);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  const auto bytes = WriteRandom(*writer);
  EXPECT_FALSE(std::filesystem::exists(path_));
  ASSERT_TRUE(writer->Commit().ok());

  const auto read = Checkpoint::Open(path_);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->metadata(), metadata);
  ASSERT_EQ(read->tensors().size(), entries.size());
  for (const SafetensorsEntry& entry : entries) {
    const ConstTensorView view = read->Find(entry.name);
    EXPECT_EQ(view.dtype, entry.dtype) << entry.name;
    EXPECT_EQ(view.shape, entry.shape) << entry.name;
    EXPECT_EQ(BytesOf(view), bytes.at(entry.name)) << entry.name;
  }
}

TEST_F(SafetensorsWriterTest, LaysOutAsThePublishedWriter) {
  auto writer = SafetensorsWriter::Create(
      path_, {{"b", DType::kF16, {1}}, {"z", DType::kI64, {1}}, {"a", DType::kF16, {2}}}, {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->Append("12345678abcdef", 14).ok());
  ASSERT_TRUE(writer->Commit().ok());
  const std::string header = R"({"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                             R"("a":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},)"
                             R"("b":{"dtype":"F16","shape":[1],"data_offsets":[12,14]}})";
  const std::string file = Read(path_);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_LT(header_bytes - header.size(), 8u);
  EXPECT_EQ(file.substr(8, header.size()), header);
  EXPECT_EQ(file.substr(8 + header_bytes), "12345678abcdef");
}

// The order in which safetensors 0.8.0 (Python) wrote one tensor of each dtype, names reversed.
TEST_F(SafetensorsWriterTest, OrdersDtypesAsThePublishedWriter) {
  const std::vector<DType> want = {DType::kI64,  DType::kF64, DType::kF32, DType::kI32,
                                   DType::kBF16, DType::kF16, DType::kI16, DType::kI8,
                                   DType::kU8,   DType::kBool};
  std::vector<SafetensorsEntry> entries;
  for (size_t i = 0; i < want.size(); ++i)
    entries.push_back({std::string(1, static_cast<char>('z' - i)), want[i], {1}});
  std::shuffle(entries.begin(), entries.end(), random_);
  const auto writer = SafetensorsWriter::Create(path_, entries);
  ASSERT_TRUE(writer.ok());
  std::vector<DType> got;
  for (const SafetensorsEntry& entry : writer->entries()) got.push_back(entry.dtype);
  EXPECT_EQ(got, want);
}

TEST_F(SafetensorsWriterTest, WritesAFileWithoutTensors) {
  auto writer = SafetensorsWriter::Create(path_, {}, {});
  ASSERT_TRUE(writer.ok() && writer->Commit().ok());
  const auto read = Checkpoint::Open(path_);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(read->tensors().empty());
}

TEST_F(SafetensorsWriterTest, LeavesNothingBeforeItIsComplete) {
  {
    auto writer = SafetensorsWriter::Create(path_, {{"a", DType::kF32, {4}}});
    ASSERT_TRUE(writer.ok() && writer->Append("1234", 4).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(SafetensorsWriterTest, RefusesWhatTheFormatCannotSay) {
  const auto bad = StatusCode::kInvalidArgument;
  ExpectFailure(CreateStatus({{"a", DType::kF32, {1}}, {"a", DType::kI8, {1}}}), bad, "'a' twice");
  ExpectFailure(CreateStatus({{"__metadata__", DType::kF32, {1}}}), bad, "__metadata__");
  ExpectFailure(CreateStatus({{"\xff", DType::kF32, {1}}}), bad, "UTF-8");
  ExpectFailure(CreateStatus({}, {{"k", "\xff"}}), bad, "UTF-8");
  if (!testing::kSanitized)  // 10 s there
    ExpectFailure(CreateStatus({}, {{"k", std::string(100'000'001, 'x')}}), bad, "100000000");
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace mrt
