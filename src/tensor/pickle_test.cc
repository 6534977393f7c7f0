#include "tensor/pickle.h"

#include <gtest/gtest.h>

#include <string>

#include "testing/expect_failure.h"
#include "testing/pt_writer.h"
#include "testing/sanitizer.h"

namespace mrt {
namespace {

using Kind = PickleValue::Kind;
using testing::ExpectFailure;
using testing::PickleWriter;

constexpr std::string_view kGlobals[] = {"torch FloatStorage"};

void ExpectBad(const std::string& bytes, const std::string& part) {
  ExpectFailure(Pickle::Parse(bytes, kGlobals).status(), StatusCode::kBadData, part);
}

/// A pickle of protocol 2 with this body.
std::string Body(const std::string& opcodes) { return PickleWriter().Raw(opcodes).Finish(); }

TEST(Pickle, ReadsPlainValues) {
  // [None, True, False, 200, 40000, -3, 2**40, -1, 1.5, "text", ("a",), {}, OrderedDict()]
  const std::string bytes = PickleWriter()
                                .Raw("](N\x88\x89K\xc8M\x40\x9cJ\xfd\xff\xff\xff")
                                .Int(int64_t{1} << 40)
                                .Raw("\x8a\x01\xff")
                                .Raw(std::string("G\x3f\xf8\0\0\0\0\0\0", 9))
                                .String("text")
                                .String("a")
                                .Raw("\x85}")
                                .Global("collections", "OrderedDict")
                                .Raw(")Re")
                                .Finish();
  const auto pickle = Pickle::Parse(bytes, kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status().message();
  const PickleValue& list = pickle->root();
  ASSERT_EQ(list.kind, Kind::kList);
  ASSERT_EQ(list.items.size(), 13u);
  EXPECT_EQ(pickle->item(list, 0).kind, Kind::kNone);
  EXPECT_EQ(pickle->item(list, 1).integer, 1);
  EXPECT_EQ(pickle->item(list, 2).kind, Kind::kBool);
  EXPECT_EQ(pickle->item(list, 3).integer, 200);
  EXPECT_EQ(pickle->item(list, 4).integer, 40000);
  EXPECT_EQ(pickle->item(list, 5).integer, -3);
  EXPECT_EQ(pickle->item(list, 6).integer, int64_t{1} << 40);
  EXPECT_EQ(pickle->item(list, 7).integer, -1);
  EXPECT_EQ(pickle->item(list, 8).real, 1.5);
  EXPECT_EQ(pickle->item(list, 9).text, "text");
  EXPECT_EQ(pickle->item(pickle->item(list, 10), 0).text, "a");
  EXPECT_EQ(pickle->item(list, 11).kind, Kind::kDict);
  EXPECT_EQ(pickle->item(list, 12).kind, Kind::kDict);
}

TEST(Pickle, ReadsTheOpcodesOfProtocol4) {
  // FRAME, SHORT_BINUNICODE, MEMOIZE, BINUNICODE8, BINGET
  const std::string bytes = PickleWriter(4)
                                .Raw(std::string("\x95\x20\0\0\0\0\0\0\0", 9))
                                .Raw("\x8c\x02hi\x94")
                                .Raw(std::string("\x8d\x02\0\0\0\0\0\0\0yo", 11))
                                .Raw(std::string("h\0", 2))
                                .Raw("\x87")
                                .Finish();
  const auto pickle = Pickle::Parse(bytes, kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status().message();
  EXPECT_EQ(pickle->item(pickle->root(), 0).text, "hi");
  EXPECT_EQ(pickle->item(pickle->root(), 1).text, "yo");
  EXPECT_EQ(pickle->item(pickle->root(), 2).text, "hi");
}

TEST(Pickle, SharesValuesThroughTheMemo) {
  // d = {}; [d, d] with d["a"] = 1 set afterwards
  const std::string bytes =
      PickleWriter().Raw(std::string("](}q\0h\0", 7)).String("a").Raw("K\1se").Finish();
  const auto pickle = Pickle::Parse(bytes, kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status().message();
  EXPECT_EQ(&pickle->item(pickle->root(), 0), &pickle->item(pickle->root(), 1));
  EXPECT_EQ(pickle->item(pickle->root(), 0).items.size(), 2u);
}

// As CPython: MEMOIZE counts what is in the memo, whatever its numbers.
TEST(Pickle, MemoizeGoesOnFromTheNumberOfValues) {
  const auto pickle = Pickle::Parse(Body(std::string("K\1q\7q\7K\2\x94h\1\x87", 12)), kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status().message();
  EXPECT_EQ(pickle->item(pickle->root(), 2).integer, 2);
}

TEST(Pickle, AValueMayContainItself) {
  const auto pickle = Pickle::Parse(Body(std::string("]q\0h\0a", 6)), kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status().message();
  EXPECT_EQ(&pickle->item(pickle->root(), 0), &pickle->root());
}

TEST(Pickle, RefusesUnknownGlobalsByName) {
  ExpectBad(PickleWriter().Global("os", "system").String("ls").Raw("\x85R").Finish(),
            "global 'os system' is not supported");
  ExpectBad(PickleWriter(4).Global("builtins", "eval").Finish(), "'builtins eval'");
  ExpectBad(PickleWriter().Global("torch", "FloatStorage x").Finish(), "'torch FloatStorage x'");
  ExpectBad(PickleWriter(4).Raw("NN\x93").Finish(), "a global needs two strings");
}

TEST(Pickle, RefusesUnknownOpcodesByNumber) {
  ExpectBad(Body("i"), "opcode 105 is not supported");             // INST
  ExpectBad(Body("P0\n"), "opcode 80 is not supported");           // PERSID
  ExpectBad(Body(")\x81"), "opcode 129 is not supported");         // NEWOBJ
  ExpectBad(Body("\x8f"), "byte 2: opcode 143 is not supported");  // EMPTY_SET
}

// Whatever CPython may know or come to know: what is not in this list is not executed.
TEST(Pickle, RefusesEveryOpcodeOutsideTheSubset) {
  constexpr std::string_view kSubset =
      "(.NKMJGX)t]ae}suqrhjcRQb\x85\x86\x87\x88\x89\x8a\x8c\x8d\x93\x94\x95";
  int refused = 0;
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (kSubset.find(static_cast<char>(opcode)) != kSubset.npos) continue;
    ExpectBad(Body(std::string(1, static_cast<char>(opcode)) + "aaaaaaaa\n"),
              "byte 2: opcode " + std::to_string(opcode) + " is not supported");
    ++refused;
  }
  EXPECT_EQ(refused, 256 - static_cast<int>(kSubset.size()));
}

TEST(Pickle, RefusesWrongProtocols) {
  ExpectBad("", "cut short");
  ExpectBad("\x80", "cut short");
  ExpectBad("(dp0\n.", "not a pickle of protocol 2 to 5");
  ExpectBad(PickleWriter(1).Raw("N").Finish(), "not a pickle of protocol 2 to 5");
  ExpectBad(PickleWriter(6).Raw("N").Finish(), "not a pickle of protocol 2 to 5");
}

TEST(Pickle, RefusesAWrongStack) {
  const std::string short_stacks[] = {"",  "a", "s",  "\x85", "\x86",   "\x87", "Nb",
                                      "R", "Q", "Na", "}Ns",  "(N\x86", "}(b"};
  for (const std::string& opcodes : short_stacks) {
    SCOPED_TRACE(opcodes);
    EXPECT_FALSE(Pickle::Parse(Body(opcodes), kGlobals).ok());
  }
  ExpectBad(Body(""), "unfinished value");
  ExpectBad(Body("NN"), "unfinished value");
  ExpectBad(Body("N("), "unfinished value");
  ExpectBad(Body("t"), "no mark");
  ExpectBad(Body("NNa"), "another kind");
  ExpectBad(Body("}(Nu"), "another kind");
  ExpectBad(Body(")NR"), "a call needs a global and a tuple");
  ExpectBad(PickleWriter().Global("collections", "OrderedDict").Raw("]\x85R").Finish(),
            "OrderedDict with arguments");
  ExpectBad(Body("]Nb"), "attributes (BUILD)");
  ExpectBad(Body("h\7"), "nothing in the memo under 7");
  ExpectBad(Body("Nq\7h\6"), "nothing in the memo under 6");
  ExpectBad(Body("\x8a\x09" + std::string(9, '\1')), "more than 64 bits");
}

TEST(Pickle, RefusesTextThatIsCutShort) {
  ExpectBad(Body("X\xff\xff\xff\xff"), "cut short");
  ExpectBad(Body("\x8d" + std::string(8, '\xff')), "cut short");
  ExpectBad(Body("ctorch"), "cut short");
  const std::string good = PickleWriter().Dict({{.name = "w", .shape = {1}}}).Finish();
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(Pickle::Parse(good.substr(0, size), kGlobals).ok());
}

TEST(Pickle, DeepNestingCostsNoStack) {
  constexpr size_t kDepth = testing::kSanitized ? 100'000 : 1'000'000;
  const auto nested = Pickle::Parse(Body(")" + std::string(kDepth, '\x85')), kGlobals);
  ASSERT_TRUE(nested.ok()) << nested.status().message();
  EXPECT_EQ(nested->root().kind, Kind::kTuple);
  ExpectBad(Body(std::string(kDepth, '(')), "unfinished value");
}

TEST(Pickle, BoundsTheNumberOfValues) {
  constexpr size_t kMany = 2'100'000;
  ExpectBad(Body(std::string(kMany, ')')), "more than 2097152 values");
  ExpectBad(Body(std::string(kMany, '(')), "more than 2097152 values");
  ExpectBad(Body("N" + std::string(kMany, '\x94')), "need at most 2097151");
  std::string fetches = std::string("Nq\0", 3);
  for (size_t i = 0; i < kMany; ++i) fetches += std::string_view("h\0", 2);
  ExpectBad(Body(fetches), "more than 2097152 values");
  ExpectBad(Body("Nr\xff\xff\xff\xff"), "got memo index 4294967295");
}

TEST(Pickle, SharedValuesDoNotMultiply) {
  // x = (); forty times x = (x, x): 2^40 leaves if anything walked them.
  std::string opcodes = ")";
  for (int i = 0; i < 40; ++i) opcodes += std::string("q\0h\0\x86", 5);
  const auto pickle = Pickle::Parse(Body(opcodes), kGlobals);
  ASSERT_TRUE(pickle.ok()) << pickle.status().message();
}

}  // namespace
}  // namespace mrt
