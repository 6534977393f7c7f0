// Checks a SentencePiece model before the SentencePiece library sees it.
//
// The library trusts its files: it follows the normalizer's double array without a bounds check,
// and writes fixed arrays of prefix matches. So the file is walked here, everything the library
// would index is checked, and a new file with only the checked fields is handed on.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace mrt {

struct SpieceModel {
  std::string proto;  // ModelProto with pieces, trainer_spec and normalizer_spec only
  int pieces = 0;
};

/// BadData unless `file` is a ModelProto of a unigram model that is safe to load:
///   pieces: 1 to kPiecesMax, none empty, too long or with a NUL, finite scores, known types,
///           piece 1 is the control piece </s>
///   precompiled_charsmap: see CheckCharsmap
Result<SpieceModel> CheckSpieceModel(std::string_view file);

/// Checks a normalizer's map: the size of its trie (uint32), the trie (a darts-clone double array
/// of uint32 units), replacement strings that end in NUL. Every walk from the root must stay inside
/// the trie and end within kRuleBytesMax bytes, every value must lie inside the strings.
Status CheckCharsmap(std::string_view charsmap);

}  // namespace mrt
