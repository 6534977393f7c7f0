// CleanPrompt against what ftfy 6.3, html.unescape and re.sub(r"\s+", " ") of Python 3.11 make of
// the same text.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "model/tokenizer/html_entities.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/unicode.h"
#include "testing/sanitizer.h"

namespace mrt {
namespace {

struct CleanCase {
  std::string text, clean;
};

void ExpectClean(std::initializer_list<CleanCase> cases) {
  for (const CleanCase& c : cases) EXPECT_EQ(CleanPrompt(c.text), c.clean) << c.text;
}

TEST(CleanPrompt, CollapsesWhiteSpace) {
  ExpectClean({
      {"", ""},
      {" \t\n ", ""},
      {"  a   cat\n\non  a\tmat  ", "a cat on a mat"},
      {"zero\ufeffwidth\u200b \u2028\u2029\x1c\u3000"
       "end\u00a0",
       "zerowidth\u200b end"},
  });
}

TEST(CleanPrompt, UnescapesHtml) {
  ExpectClean({
      {"A cat &amp; a dog", "A cat & a dog"},
      {"&amp;amp;lt;b&amp;amp;gt;", "<b>"},
      {"&lt;b&gt; &amp;lt;", "<b> <"},
      {"&amp;eacute;", "é"},
      {"a < b &amp; c &eacute;", "a < b & c é"},
      {"one &eacute; \n<p> &eacute; \n&eacute;", "one é <p> é é"},
      {"caf&eacute; &hellip; &nbsp; x", "café … x"},
      {"&copy2020 &notit; &amp &ampx &notanentity; &;", "©2020 ¬it; & &x ¬anentity; &;"},
      {"&NotEqualTilde;&acE;&fjlig;", "\u2242\u0338\u223e\u0333fj"},
      {"&#39;q&#39; &#x4e2d;&#x6587 &#128; &#0; &#xD800; &#x110000; &#99999999999999999999;&#1;",
       "'q' 中文 € \ufffd \ufffd \ufffd \ufffd"},
  });
}

TEST(CleanPrompt, RepairsLikeFtfy) {
  ExpectClean({
      {"“curly” ‘quotes’ \u02bcn", "\"curly\" 'quotes' 'n"},
      {"ﬁne ﬂuﬀ ﬆ Ǆ ĳ", "fine fluff st DŽ ij"},
      {"ＬＯＵＤ\u3000ＮＯＩＳＥ，！", "LOUD NOISE,!"},
      {"ｶﾞｷﾞｸﾞ ﾊﾟ ￦ ﾡ", "ガギグ パ ₩ \u1100"},
      {"猫在“窗边”睡觉，很安静。🎈", "猫在\"窗边\"睡觉,很安静。🎈"},
      {"e\u0301 a\u0302\u0323 \u212b \u1100\u1161\u11a8 \uf900 \u0958",
       "é ậ Å 각 豈 \u0915\u093c"},  // composed, but not what NFC excludes
      {"\x1b[1;31mred\x1b[0m \x1bplain \x07"
       "bell",
       "red plain bell"},
      {"\u0080\u0093 c1 \u0085", "€\" c1 …"},  // windows-1252
      {"ä¸\u0080å\u008fªç\u008c«", "一只猫"},  // UTF-8 read as Latin-1
  });
}

// Valid text that other heuristics could take for damage.
TEST(CleanPrompt, LeavesGoodTextAlone) {
  for (const std::string text :
       {"CAFÉ® on a sign", "Ein Mädchen läuft über die Straße", "tiếng Việt: một cậu bé chạy",
        "ولد يلعب بالكرة", "हिन्दी में एक वाक्य", "한국어 문장",
        "👨‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "AT&T & R&D; 5 > 3"})
    EXPECT_EQ(CleanPrompt(text), text);
}

TEST(CleanPrompt, ReplacesInvalidUtf8) {
  ExpectClean({
      {"a\xff"
       "b",
       "a\ufffd"
       "b"},
      {"\xe4\xb8", "\ufffd"},                  // cut short: one character
      {"\xc0\xaf", "\ufffd\ufffd"},            // overlong
      {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},  // a surrogate
      {"\xf0\x9f\x8e \xf4\x90\x80\x80", "\ufffd \ufffd\ufffd\ufffd\ufffd"},
      {std::string("nul\0l", 5), "null"},
  });
}

// Each of these takes quadratic time somewhere if it is done the obvious way.
TEST(CleanPrompt, TakesLinearTime) {
  for (const std::string unit : {"a cat ", "amp;", "&", "&#", "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                 "\u0301\u0323", "ガ", "\x1b[", "\xff", "\n", "&#1111111111"}) {
    std::string text(1, '&');
    while (text.size() < (testing::kSanitized ? 1 << 16 : 1 << 20)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    CleanPrompt(text);
    const std::chrono::duration<double> taken_s = std::chrono::steady_clock::now() - start;
    EXPECT_LT(taken_s.count(), 10) << unit;  // 0.2 s on an idle machine
  }
}

TEST(UnescapeHtml, KnowsEveryNameAndIsOneLevelDeep) {
  EXPECT_EQ(UnescapeHtml(U"&amp;amp;", EntityRule::kHtml5), U"&amp;");
  EXPECT_EQ(UnescapeHtml(U"&AElig &zwnj;&Aacute;", EntityRule::kHtml5), U"\u00c6 \u200c\u00c1");
  EXPECT_EQ(UnescapeHtml(U"&CounterClockwiseContourIntegral;", EntityRule::kHtml5), U"\u2233");
  EXPECT_EQ(UnescapeHtml(U"&amp &#65 &#59; &#x41;", EntityRule::kStrict), U"&amp &#65 &#59; A");
}

TEST(Unicode, ComposesRunsOfMarksInAnyOrder) {
  EXPECT_EQ(ComposeNfc(U"a\u0302\u0323"), U"\u1ead");
  EXPECT_EQ(ComposeNfc(U"a\u0323\u0302"), U"\u1ead");
  EXPECT_EQ(ComposeNfc(U"\u0958"), U"\u0915\u093c");  // excluded from composition
}

}  // namespace
}  // namespace mrt
