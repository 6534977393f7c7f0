#include "media/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <utility>

#include "media/decode_for_test.h"

namespace mrt::media {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::ReadBytes;
using testing::TemporaryDirectory;

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryDirectory dir;
  const uint8_t bytes[] = {1, 2, 3};
  auto first = AtomicFile::Create(dir / "f");
  auto second = AtomicFile::Create(dir / "f");  // the same name at the same time
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_TRUE(first->Append(bytes, 3).ok());
  EXPECT_FALSE(std::filesystem::exists(dir / "f"));
  EXPECT_TRUE(first->Commit().ok());
  { const AtomicFile dropped = std::move(*second); }
  EXPECT_THAT(dir.Files(), ElementsAre("f"));
  EXPECT_THAT(ReadBytes(dir / "f"), ElementsAre(1, 2, 3));
}

TEST(AtomicFile, CleansUpWhenTheNameCannotBeTaken) {
  const TemporaryDirectory dir;
  {
    auto file = AtomicFile::Create(dir / "f");
    ASSERT_TRUE(file.ok());
    std::filesystem::create_directory(dir / "f");
    EXPECT_EQ(file->Commit().code(), StatusCode::kIoError);
  }
  EXPECT_THAT(dir.Files(), ElementsAre("f"));
}

}  // namespace
}  // namespace mrt::media
