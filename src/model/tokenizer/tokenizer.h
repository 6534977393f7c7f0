// From a prompt to token ids, as Wan does: clean the text, SentencePiece, </s>.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace mrt {

/// What Wan's text cleaning does: ftfy's repair (text_repair.h says which part of it), HTML
/// entities unescaped twice, Unicode white space collapsed to single blanks, trimmed. Invalid UTF-8
/// becomes U+FFFD. Takes linear time.
std::string CleanPrompt(std::string_view text);

/// A SentencePiece unigram model. Move-only; const calls may run at the same time.
class Tokenizer {
 public:
  /// Reads a spiece.model. The file is hostile input: it is checked first (spiece_model.h), and
  /// only what was checked reaches the library. NotFound, IoError or BadData.
  static Result<Tokenizer> Load(const std::string& path);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The ids of an already cleaned text: at most text_len - 1 pieces, then </s>. Not padded.
  /// text_len >= 1. Reads at most kBytesPerPieceMax bytes of text per piece asked for, so that a
  /// huge prompt costs no more than what is kept of it. BadData: the model breaks its own promises,
  /// then nothing of the text is known.
  Result<std::vector<int32_t>> Encode(std::string_view text, int text_len) const;

  /// Number of pieces; every id is below it.
  int vocabulary_size() const;

  static constexpr int32_t kEndOfText = 1;  // </s>
  /// Trained models have pieces of at most 16 characters, 64 bytes; an average one has 4 bytes.
  static constexpr int64_t kBytesPerPieceMax = 256;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mrt
