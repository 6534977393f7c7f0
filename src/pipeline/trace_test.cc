#include "monarchrt/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/json.h"
#include "monarchrt/engine.h"

namespace monarchrt {
namespace {

using mrt::Json;

std::shared_ptr<Trace> TraceOfAVideo(DecodeOverlap overlap) {
  auto trace = std::make_shared<Trace>();
  auto engine = Engine::Load({.model = MRT_GOLDEN_DIR "/toy_wan",
                              .checkpoint = "checkpoints/self_forcing_dmd.pt",
                              .precision = Precision::kF32,
                              .trace = trace});
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  auto stream = engine->Open(
      {.prompt = "a red ball", .width = 80, .height = 48, .frames = 21, .decode_overlap = overlap});
  EXPECT_TRUE(stream.ok()) << stream.status().message();
  while (!stream->done()) EXPECT_TRUE(stream->Next().ok());
  return trace;
}

TEST(Trace, CountsWhatAVideoTakes) {
  const auto trace = TraceOfAVideo(DecodeOverlap::kOff);
  const TraceSummary summary = trace->Summary();
  std::map<std::string, int64_t> stages;
  for (const TraceStage& stage : summary.stages) stages[stage.name] = stage.calls;
  // Of the transformer two chunks, and the clean pass between them.
  EXPECT_EQ(stages, (std::map<std::string, int64_t>{
                        {"load", 1}, {"text", 1}, {"transformer", 3}, {"decoder", 2}}));
  double operations_s = 0;
  std::map<std::string, TraceOperation> operations;
  for (const TraceOperation& operation : summary.operations) {
    operations[operation.name] = operation;
    operations_s += operation.seconds;
    EXPECT_EQ(operation.matrix, operation.flop > 0) << operation.name;
    EXPECT_GT(operation.bytes, 0) << operation.name;
  }
  // Two chunks of four steps through every layer, and a clean pass, whose last layer needs none,
  // between them.
  const auto engine = Engine::Load(
      {.model = MRT_GOLDEN_DIR "/toy_wan", .checkpoint = "checkpoints/self_forcing_dmd.pt"});
  EXPECT_EQ(operations["monarch attention"].calls, 9 * engine->info().layers - 1);
  EXPECT_GT(operations["linear"].flop, operations["monarch attention"].flop);
  EXPECT_GT(operations["convolution"].calls, 0);
  EXPECT_LE(operations_s, summary.stages_s);
  EXPECT_NEAR(summary.BetweenSeconds(), summary.stages_s - operations_s, 1e-9);
  EXPECT_GT(summary.ShareNotMatrix(), 0);
  EXPECT_LT(summary.ShareNotMatrix(), 1);
}

// Stages of one thread do not overlap, and everything else lies inside a stage.
TEST(Trace, EventsAreNested) {
  for (const DecodeOverlap overlap : {DecodeOverlap::kOff, DecodeOverlap::kOn}) {
    const Json json = mrt::ParseJson(TraceOfAVideo(overlap)->ToChromeJson());
    EXPECT_EQ(json["otherData"]["dropped"], 0);
    std::map<int, std::vector<std::pair<double, double>>> stages;  // of a thread: begin, end
    for (const Json& event : json["traceEvents"]) {
      EXPECT_EQ(event["ph"], "X");
      if (event["cat"] == "stage")
        stages[event["tid"]].emplace_back(event["ts"], double(event["ts"]) + double(event["dur"]));
    }
    EXPECT_EQ(stages.size(), overlap == DecodeOverlap::kOn ? 2u : 1u);
    for (auto& [thread, spans] : stages) {
      std::sort(spans.begin(), spans.end());
      for (size_t i = 1; i < spans.size(); ++i) EXPECT_GE(spans[i].first, spans[i - 1].second);
    }
    for (const Json& event : json["traceEvents"]) {
      if (event["cat"] == "stage") continue;
      const double begin = event["ts"], end = begin + double(event["dur"]);
      const bool inside = std::ranges::any_of(stages[event["tid"]], [&](const auto& stage) {
        return stage.first <= begin && end <= stage.second;
      });
      EXPECT_TRUE(inside) << event;
    }
  }
}

TEST(Trace, PrintsATable) {
  Trace trace;
  trace.AddStage("video encoder", 2);
  const std::string table = FormatTrace(trace.Summary());
  EXPECT_THAT(table, ::testing::ContainsRegex("video encoder +1 +2.000 +100.0 %\n"));
  EXPECT_THAT(table, ::testing::ContainsRegex("between operations +2.000 +100.0 %\n"));
  EXPECT_THAT(table, ::testing::HasSubstr("not matrix arithmetic: 100.0 %\n"));
  EXPECT_THAT(FormatTrace({}), ::testing::HasSubstr("not matrix arithmetic: 0.0 %\n"));
}

}  // namespace
}  // namespace monarchrt
