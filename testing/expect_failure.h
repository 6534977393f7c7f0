// How tests look at a Status that must not be ok.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status.h"

namespace mrt::testing {

/// Not ok, with this code and a one-line message that says `part`.
inline void ExpectFailure(const Status& status, StatusCode code, const std::string& part) {
  ASSERT_FALSE(status.ok()) << "need a failure that says: " << part;
  EXPECT_EQ(static_cast<int>(status.code()), static_cast<int>(code)) << status.message();
  EXPECT_THAT(status.message(), ::testing::HasSubstr(part));
  EXPECT_THAT(status.message(), ::testing::Not(::testing::HasSubstr("\n")));
}

}  // namespace mrt::testing
