#include "base/span.h"

#include <gtest/gtest.h>

namespace mrt {
namespace {

TEST(Span, WithoutALogDoesNothing) { const Span span(nullptr, "nowhere", SpanKind::kOther); }

TEST(Span, IsRecordedWhenItEnds) {
  SpanLog log;
  {
    const Span stage(&log, "stage", SpanKind::kStage, {}, 3);
    const Span inner(&log, "product", SpanKind::kMatrix, {.flop = 8, .bytes = 2});
    EXPECT_TRUE(log.Records().empty());
  }
  const auto records = log.Records();
  ASSERT_EQ(records.size(), 2u);  // the inner one ends first
  EXPECT_STREQ(records[0].name, "product");
  EXPECT_EQ(records[0].work.flop, 8);
  EXPECT_EQ(records[0].index, -1);
  EXPECT_STREQ(records[1].name, "stage");
  EXPECT_EQ(records[1].index, 3);
  EXPECT_LE(records[1].start_us, records[0].start_us);
  EXPECT_GE(records[1].start_us + records[1].duration_us,
            records[0].start_us + records[0].duration_us);
}

TEST(Span, TotalsAddUp) {
  SpanLog log;
  for (int i = 0; i < 3; ++i)
    const Span span(&log, "product", SpanKind::kMatrix, {.flop = 8, .bytes = 2});
  const auto totals = log.Totals();
  ASSERT_EQ(totals.count("product"), 1u);
  const SpanTotal& total = totals.at("product");
  EXPECT_EQ(total.calls, 3);
  EXPECT_EQ(total.work.flop, 24);
  EXPECT_EQ(total.work.bytes, 6);
  EXPECT_GE(total.seconds, 0);
}

TEST(Span, ThreadsHaveLanesOfTheirOwn) {
  SpanLog log;
  const auto work = [&log] {
    for (int i = 0; i < 100; ++i) const Span span(&log, "work", SpanKind::kOther);
  };
  std::thread other(work);
  work();
  other.join();
  int in_lane[2] = {0, 0};
  for (const SpanRecord& record : log.Records()) ++in_lane[record.lane];
  EXPECT_EQ(in_lane[0], 100);
  EXPECT_EQ(in_lane[1], 100);
}

TEST(SpanLog, KeepsCountingWhenItIsFull) {
  SpanLog log;
  const int64_t more = 5, all = static_cast<int64_t>(SpanLog::kRecordsMax) + more;
  for (int64_t i = 0; i < all; ++i) const Span span(&log, "work", SpanKind::kOther);
  EXPECT_EQ(log.dropped(), more);
  EXPECT_EQ(log.Records().size(), SpanLog::kRecordsMax);
  EXPECT_EQ(log.Totals().at("work").calls, all);
}

}  // namespace
}  // namespace mrt
