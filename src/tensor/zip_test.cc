#include "tensor/zip.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>

#include "testing/expect_failure.h"
#include "testing/temp_folder.h"
#include "testing/zip_writer.h"

namespace mrt {
namespace {

using testing::ExpectFailure;
using testing::ZipEntry;
using testing::ZipFile;

class ZipTest : public ::testing::Test {
 protected:
  Result<ZipEntries> Read(const std::string& bytes) {
    auto file = MappedFile::Open(folder_.Write("a.zip", bytes));
    if (!file.ok()) return file.status();
    file_ = *file;
    return ReadZip(*file_);
  }
  void ExpectBad(const std::string& bytes, const std::string& part) {
    ExpectFailure(Read(bytes).status(), StatusCode::kBadData, part);
  }

  testing::TempFolder folder_;
  std::shared_ptr<const MappedFile> file_;
};

TEST_F(ZipTest, ReadsStoredEntriesInEveryForm) {
  const std::vector<ZipEntry> entries = {
      {.name = "a/plain", .data = "one"},
      {.name = "a/zip64", .data = "two!", .zip64 = true},
      {.name = "a/descriptor", .data = "three", .descriptor = true},
      {.name = "a/both", .data = "four", .zip64 = true, .descriptor = true},
      {.name = "a/empty"},
  };
  for (const bool zip64 : {false, true}) {
    for (const std::string comment : {"", "a comment", "PK\5\6 looks like a record"}) {
      const auto read = Read(ZipFile(entries, zip64, comment));
      ASSERT_TRUE(read.ok()) << read.status().message();
      ASSERT_EQ(read->size(), entries.size());
      for (const ZipEntry& entry : entries) EXPECT_EQ(read->at(entry.name), entry.data);
    }
  }
}

TEST_F(ZipTest, AnEmptyArchiveHasNoEntries) {
  const auto read = Read(ZipFile({}));
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(read->empty());
}

TEST_F(ZipTest, ReadsEntriesBeyondFourGiB) {
  const std::string path = folder_.path("large.zip");
  constexpr int64_t kHole = (int64_t{4} << 30) + 12345;  // sparse: takes no room on the disk
  {
    std::ofstream out(path, std::ios::binary);
    testing::ZipWriter writer(out);
    writer.Add({.name = "a/large", .data = "tail", .hole_bytes = kHole, .zip64 = true});
    writer.Add({.name = "a/behind", .data = "found", .zip64 = true});
    writer.Finish(/*zip64=*/true);
    ASSERT_TRUE(out.good());
  }
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto read = ReadZip(**file);
  ASSERT_TRUE(read.ok()) << read.status().message();
  ASSERT_EQ(read->at("a/large").size(), static_cast<size_t>(kHole) + 4);
  EXPECT_EQ(read->at("a/large").substr(kHole), "tail");
  EXPECT_EQ(read->at("a/behind"), "found");
}

TEST_F(ZipTest, RefusesWhatItCannotMap) {
  ExpectBad(ZipFile({{.name = "a", .data = "x", .method = 8}}), "'a': is compressed (method 8)");
  ExpectBad(ZipFile({{.name = "a", .data = "x", .flags = 1}}), "'a': is encrypted");
}

TEST_F(ZipTest, RefusesWrongSizes) {
  const uint64_t huge[] = {10'000, 0xfffffffe, uint64_t{1} << 40, UINT64_MAX - 8, UINT64_MAX};
  for (const uint64_t size : huge) {
    ExpectBad(ZipFile({{.name = "a",
                        .data = "xyz",
                        .zip64 = true,
                        .claimed_stored_bytes = size,
                        .claimed_bytes = size}},
                      true),
              "leave the file");
    ExpectBad(ZipFile({{.name = "a", .data = "xyz", .zip64 = true, .claimed_offset = size}}, true),
              "no local header");
  }
  ExpectBad(ZipFile({{.name = "a", .data = "xyz", .claimed_bytes = 2}}), "two sizes differ");
  ExpectBad(ZipFile({{.name = "a", .data = "xyz", .claimed_bytes = 0xffffffff}}),
            "broken zip64 field");
  ExpectBad(ZipFile({{.name = "a", .data = "xyz", .claimed_offset = 1}}), "no local header");
}

TEST_F(ZipTest, RefusesOverlapsAndDuplicates) {
  ExpectBad(ZipFile({{.name = "a", .data = "x"}, {.name = "a", .data = "y"}}),
            "duplicate entry 'a'");
  ExpectBad(ZipFile({{.name = "a", .data = "x"}, {.name = "b", .data = "y", .claimed_offset = 0}}),
            "another name");
  // "a" claims to reach over the header and data of "b".
  ExpectBad(ZipFile({{.name = "a", .data = "x", .claimed_stored_bytes = 70, .claimed_bytes = 70},
                     {.name = "b", .data = std::string(64, 'y')}}),
            "overlap");
}

TEST_F(ZipTest, RefusesWrongEndRecords) {
  const std::string good = ZipFile({{.name = "a", .data = "xyz"}});
  const size_t end = good.size() - 22;
  const auto patched = [&](size_t at, const std::string& bytes) {
    return std::string(good).replace(end + at, bytes.size(), bytes);
  };
  ExpectBad("PK", "too short");
  ExpectBad(good + "x", "no end of central directory");
  ExpectBad(good.substr(0, good.size() - 1), "no end of central directory");
  ExpectBad(patched(4, "\1"), "several disks");
  ExpectBad(patched(10, "\2"), "2 entries");
  ExpectBad(patched(10, "\xff\xff"), "zip64 end record is missing");
  ExpectBad(patched(12, "\xff\xff"), "outside the file");
  ExpectBad(patched(16, "\xff\xff\xff\x7f"), "outside the file");
  ExpectBad(patched(16, std::string(1, '\0')), "broken central directory");

  const std::string large = ZipFile({{.name = "a", .data = "xyz"}}, true);
  const size_t locator = large.size() - 22 - 20;
  ExpectBad(std::string(large).replace(locator + 8, 8, 8, '\xff'), "zip64 end record is not where");
  ExpectBad(std::string(large).replace(locator + 8, 8, 8, '\0'), "zip64 end record is not where");
  const size_t record = locator - 56;
  ExpectBad(std::string(large).replace(record + 48, 8, 8, '\xff'), "outside the file");
  ExpectBad(std::string(large).replace(record + 32, 8, 8, '\x7f'), "entries");
}

}  // namespace
}  // namespace mrt
