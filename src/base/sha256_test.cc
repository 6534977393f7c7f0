#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace mrt {
namespace {

std::string Hash(const std::string& text) {
  return Sha256().Add(text.data(), text.size()).Finish();
}

// The examples NIST publishes with FIPS 180-4.
TEST(Sha256, GivesThePublishedHashes) {
  EXPECT_EQ(Hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                 "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(Hash(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Lengths around the blocks, against what sha256sum of coreutils says of all of them in a row.
TEST(Sha256, TakesEveryLengthInAnyPieces) {
  Sha256 all;
  for (size_t length = 0; length < 200; ++length) {
    const std::string text(length, 'x');
    const std::string at_once = Hash(text);
    Sha256 pieces;
    for (size_t at = 0; at < length; at += 7)
      pieces.Add(text.data() + at, std::min<size_t>(7, length - at));
    ASSERT_EQ(pieces.Finish(), at_once) << length;
    all.Add(at_once.data(), at_once.size());
  }
  EXPECT_EQ(all.Finish(), "f61ffcc417e1f0e59eba2da7fa32fbe05b64e478b68c6bacf990455f00248b98");
}

TEST(Sha256, TellsPiecesOfTextApart) {
  EXPECT_NE(Sha256().AddText("ab").AddText("c").Finish(),
            Sha256().AddText("a").AddText("bc").Finish());
  EXPECT_NE(Sha256().AddInteger(1).Finish(), Sha256().AddInteger(2).Finish());
}

}  // namespace
}  // namespace mrt
