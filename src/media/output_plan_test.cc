#include "media/output_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mrt::media {
namespace {

using ::testing::HasSubstr;
using O = VideoWriterOptions;

O With(const std::function<void(O*)>& change) {
  O options = {.width = 96, .height = 64};
  change(&options);
  return options;
}

TEST(OutputPlan, FormatComesFromTheNameOrIsNamed) {
  const auto format = [](const std::string& path, const std::string& named = "") {
    const auto plan = PlanOutput(path, {}, With([&](O* o) { o->format = named; }));
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return plan.ok() ? plan->format : OutputFormat::kMp4;
  };
  EXPECT_EQ(format("a.mp4"), OutputFormat::kMp4);
  EXPECT_EQ(format("A.WEBM"), OutputFormat::kWebm);
  EXPECT_EQ(format("a.mp4.gif"), OutputFormat::kGif);
  EXPECT_EQ(format("x/a.y4m"), OutputFormat::kY4m);
  EXPECT_EQ(format("x/%05d.png"), OutputFormat::kPng);
  EXPECT_EQ(format("frames/"), OutputFormat::kPng);
  EXPECT_EQ(format("a.rgb"), OutputFormat::kRgb);
  EXPECT_EQ(format("a", "webm"), OutputFormat::kWebm);
  EXPECT_EQ(format("a.dat", "rgb"), OutputFormat::kRgb);
  EXPECT_EQ(format("a.mp4", "mp4"), OutputFormat::kMp4);
  EXPECT_EQ(format("frames", "png"), OutputFormat::kPng);
  EXPECT_EQ(format("-", "webm"), OutputFormat::kWebm);
}

TEST(OutputPlan, PngNamesBecomeAPattern) {
  const auto pattern = [](const std::string& path) {
    return PlanOutput(path, {}, With([](O* o) { o->format = "png"; }))->path;
  };
  EXPECT_EQ(pattern("frames"), "frames/%05d.png");
  EXPECT_EQ(pattern("a.b/frames/"), "a.b/frames/%05d.png");
  EXPECT_EQ(pattern("a/f%d.png"), "a/f%d.png");
  EXPECT_EQ(pattern("f%03d-x.PNG"), "f%03d-x.PNG");
}

TEST(OutputPlan, CodecAndQuality) {
  const auto plan = [](const std::string& path, const std::string& codec,
                       const std::string& quality) {
    return *PlanOutput(path, {}, With([&](O* o) {
                         o->codec = codec;
                         o->quality = quality;
                       }));
  };
  EXPECT_STREQ(plan("a.mp4", "", "").encoder->name, "libx264");
  EXPECT_STREQ(plan("a.webm", "", "").encoder->name, "libvpx-vp9");
  EXPECT_EQ(plan("a.mp4", "", "").crf, 18);
  EXPECT_EQ(plan("a.mp4", "h264", "low").crf, 28);
  EXPECT_EQ(plan("a.mp4", "", "51").crf, 51);
  EXPECT_EQ(plan("a.webm", "vp9", "63").crf, 63);
  for (const char* path : {"a.mp4", "a.webm"})
    for (const char* codec : {"", "av1"}) {  // a better name is a smaller crf
      int previous = 100;
      for (const char* quality : {"low", "medium", "high", "best"}) {
        EXPECT_LT(plan(path, codec, quality).crf, previous);
        previous = plan(path, codec, quality).crf;
      }
    }
}

TEST(OutputPlan, PipesAreLive) {
  const auto plan = PlanOutput("-", {}, With([](O* o) { o->format = "webm"; }));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->fd, 1);
  EXPECT_TRUE(plan->live());
  EXPECT_FALSE(PlanOutput("a.webm", {}, With([](O*) {}))->live());
  EXPECT_TRUE(PlanOutput("a.mp4", {}, With([](O* o) { o->fragmented = true; }))->live());
}

// Each contradiction: one line that names what was given.
TEST(OutputPlan, ContradictionsAreRefused) {
  struct Case {
    const char* path;
    std::function<void(O*)> change;
    const char* message;
  };
  const Case cases[] = {
      {"a", [](O*) {}, "'a'"},
      {"", [](O*) {}, "''"},
      {"a.avi", [](O*) {}, "'a.avi'"},
      {"v.mp4/", [](O*) {}, "'v.mp4/'"},
      {"a.mp4", [](O* o) { o->format = "avi"; }, "'avi'"},
      {"a.mp4", [](O* o) { o->format = "webm"; }, "ends in .webm"},
      {"a.mp4", [](O* o) { o->format = "rgb"; }, "ends in .rgb"},
      {"frames/", [](O* o) { o->format = "mp4"; }, "ends in .mp4"},
      {"a.mp4", [](O* o) { o->codec = "vp9"; }, "h264 or av1"},
      {"a.mp4", [](O* o) { o->codec = "mpeg2"; }, "'mpeg2'"},
      {"a.webm", [](O* o) { o->codec = "h264"; }, "vp9 or av1"},
      {"a.gif", [](O* o) { o->codec = "h264"; }, "which has none"},
      {"a.gif", [](O* o) { o->quality = "high"; }, "which has none"},
      {"a.rgb", [](O* o) { o->quality = "18"; }, "which has none"},
      {"%d.png", [](O* o) { o->quality = "18"; }, "which has none"},
      {"a.y4m", [](O* o) { o->preset = "fast"; }, "which has none"},
      {"a.mp4", [](O* o) { o->quality = "52"; }, "1 (best) to 51"},
      {"a.mp4", [](O* o) { o->quality = "high "; }, "'high '"},
      {"a.mp4", [](O* o) { o->quality = "99999999999999"; }, "1 (best) to 51"},
      {"a.webm", [](O* o) { o->quality = "64"; }, "1 (best) to 63"},
      {"a.webm", [](O* o) { o->fragmented = true; }, "need mp4"},
      {"a.png", [](O*) {}, "%05d"},
      {"x%d/a.png", [](O*) {}, "%05d"},
      {"%d%d.png", [](O*) {}, "%05d"},
      {"%s.png", [](O*) {}, "%05d"},
      {"%5d.png", [](O*) {}, "%05d"},
      {"%012d.png", [](O*) {}, "%05d"},
      {"100%.png", [](O*) {}, "%05d"},
      {"-", [](O*) {}, "no format"},
      {"-", [](O* o) { o->format = "mp4"; }, "need fragments"},
      {"-", [](O* o) { o->format = "png"; }, "folder"},
      {"a.gif", [](O* o) { o->fps = 51; }, "1 to 50"},
      {"a.mp4", [](O* o) { o->fps = 241; }, "1 to 240"},
      {"a.mp4", [](O* o) { o->fps = 0; }, "1 to 240"},
      {"a.mp4", [](O* o) { o->width = 97; }, "97x64"},
      {"a.y4m", [](O* o) { o->height = 63; }, "96x63"},
      {"a.gif", [](O* o) { o->height = 0; }, "height 0"},
      {"a.rgb", [](O* o) { o->width = 8193; }, "8192"},
      {"a.mp4", [](O* o) { o->threads = 65; }, "threads 65"},
  };
  for (const Case& c : cases) {
    const Status status = PlanOutput(c.path, {}, With(c.change)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.path << " " << c.message;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), HasSubstr("need"));
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace mrt::media
