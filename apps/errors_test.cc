// docs/errors.md in step with the code.
#include <regex>
#include <set>

#include "testing/cli.h"

namespace mrt::apps {
namespace {

using ::testing::HasSubstr;

const fs::path kRoot = fs::path(kGolden).parent_path().parent_path();

TEST(ErrorsPage, ExplainsEveryStatusCode) {
  const std::string page = ReadFile(kRoot / "docs/errors.md");
  std::string header = ReadFile(kRoot / "include/monarchrt/status.h");
  const size_t begin = header.find("enum class StatusCode {");
  ASSERT_NE(begin, std::string::npos);
  header = header.substr(begin, header.find("};", begin) - begin);
  const std::regex name(R"(\n  (k[A-Za-z]+))");
  int codes = 0;
  for (std::sregex_iterator code(header.begin(), header.end(), name), end; code != end; ++code) {
    EXPECT_THAT(page, HasSubstr("\n### `" + (*code)[1].str() + "`\n"));
    ++codes;
  }
  EXPECT_GE(codes, 9);
}

// Every message of the page begins as one in the code does: its [place] is there.
TEST(ErrorsPage, NamesPlacesThatAreInTheCode) {
  std::string code;
  for (const char* folder : {"src", "apps"})
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder))
      if (entry.path().extension() == ".cc" && !entry.path().stem().string().ends_with("_test"))
        code += ReadFile(entry.path());
  const std::string page = ReadFile(kRoot / "docs/errors.md");
  const std::regex place(R"(\nmonarchrt: (\[[a-z -]+\]))");
  std::set<std::string> places;
  for (std::sregex_iterator found(page.begin(), page.end(), place), end; found != end; ++found)
    places.insert((*found)[1]);
  EXPECT_GT(places.size(), 8u);
  for (const std::string& each : places)
    EXPECT_THAT(code.find("\"" + each), ::testing::Ne(code.npos)) << each;
}

class ErrorsPageCli : public Cli {};

// Lines of the page that any machine can make.
TEST_F(ErrorsPageCli, QuotesTheProgram) {
  const std::string page = ReadFile(kRoot / "docs/errors.md");
  const std::vector<std::pair<std::string, std::string>> flags = {
      {"--seed", "-1"},   {"--size", "833x480"}, {"--frames", "9223372036854775807"},
      {"--sink", "-7"},   {"--fps", "0"},        {"--prompt-at", "1e400:x"},
      {"--device", "gpu"}};
  for (const auto& [flag, value] : flags) {
    const Outcome outcome = Generate({flag, value});
    EXPECT_THAT(page, HasSubstr(outcome.err)) << flag;
    EXPECT_NE(outcome.err, "");
  }
}

}  // namespace
}  // namespace mrt::apps
