#include "model/tokenizer/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "model/tokenizer/spiece_model.h"

namespace mrt {
namespace {

constexpr int64_t kFileBytesMax = int64_t{64} << 20;  // UMT5's 256 k pieces take 4.5 MB

Result<std::string> ReadSmallFile(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return NotFound("[spiece.model] no file " + path);
  if (!std::filesystem::is_regular_file(status))
    return BadData("[spiece.model] " + path + " is not a regular file");
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return IoError("[spiece.model] cannot read " + path + ": " + error.message());
  if (bytes > kFileBytesMax)
    return BadData("[spiece.model] " + path + " has " + std::to_string(bytes) +
                   " bytes, need <= " + std::to_string(kFileBytesMax));
  std::string content(static_cast<size_t>(bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(content.data(), bytes)) return IoError("[spiece.model] cannot read " + path);
  return content;
}

std::string OneLine(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message;
}

// The part of `text` that can matter for `pieces` pieces, cut between two characters.
std::string_view Head(std::string_view text, int64_t pieces) {
  const size_t limit = static_cast<size_t>(pieces * Tokenizer::kBytesPerPieceMax);
  if (text.size() <= limit) return text;
  size_t end = limit;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace

struct Tokenizer::Impl {
  sentencepiece::SentencePieceProcessor processor;
  int pieces = 0;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::Load(const std::string& path) {
  MRT_ASSIGN_OR_RETURN(const std::string file, ReadSmallFile(path));
  MRT_ASSIGN_OR_RETURN(const SpieceModel model, CheckSpieceModel(file));
  auto impl = std::make_unique<Impl>();
  impl->pieces = model.pieces;
  try {
    const auto status = impl->processor.LoadFromSerializedProto(model.proto);
    if (!status.ok()) return BadData("[spiece.model] " + OneLine(status.ToString()));
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {  // its double array library throws
    return BadData("[spiece.model] " + OneLine(e.what()));
  }
  return Tokenizer(std::move(impl));
}

Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, int text_len) const {
  MRT_CHECK(text_len >= 1);
  const int64_t pieces_max = int64_t{text_len} - 1;
  std::vector<int> ids;
  const auto status = impl_->processor.Encode(Head(text, pieces_max), &ids);
  if (!status.ok()) return BadData("[spiece.model] " + OneLine(status.ToString()));
  if (static_cast<int64_t>(ids.size()) > pieces_max) ids.resize(static_cast<size_t>(pieces_max));
  std::vector<int32_t> out(ids.begin(), ids.end());
  out.push_back(kEndOfText);
  return out;
}

int Tokenizer::vocabulary_size() const { return impl_->pieces; }

}  // namespace mrt
