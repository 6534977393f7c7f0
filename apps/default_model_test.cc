#include "apps/default_model.h"

#include <gtest/gtest.h>

#include "testing/temp_folder.h"

namespace mrt::apps {
namespace {

TEST(DemoModel, LiesInTheInstalledOrTheSourceTree) {
  const testing::TempFolder folder;
  const std::string built = folder.path("build/cpu/apps/monarchrt");
  const std::string installed = folder.path("tree/bin/monarchrt");
  EXPECT_EQ(DemoModel(built), "");
  folder.Write("models/demo/model.json", "{}");
  EXPECT_EQ(DemoModel(built), folder.path("models/demo"));
  EXPECT_EQ(DemoModel(installed), "");
  folder.Write("tree/share/monarchrt/models/demo/model.json", "{}");
  EXPECT_EQ(DemoModel(installed), folder.path("tree/share/monarchrt/models/demo"));
}

}  // namespace
}  // namespace mrt::apps
