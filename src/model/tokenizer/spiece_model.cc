#include "model/tokenizer/spiece_model.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

namespace mrt {
namespace {

constexpr int kPiecesMax = 1 << 20;  // four times the largest vocabulary in use
// SentencePiece allows 64 nested user-defined pieces; a piece has at most as many prefixes as
// bytes.
constexpr size_t kUserPieceBytesMax = 64;
constexpr size_t kPieceBytesMax = 1024;  // trained: 16 characters at most

// SentencePiece keeps 32 nested normalization rules; a rule has at most as many prefixes as bytes.
constexpr int kRuleBytesMax = 32;
constexpr size_t kCharsmapBytesMax = 1 << 22;  // NFKC with case folding has 0.3 MB
constexpr size_t kReplacementBytesMax = 256;   // longest of NFKC: 33 (U+FDFA)
constexpr int64_t kEndOfTextId = 1;

Status Bad(const std::string& what) { return BadData("[spiece.model] " + what); }

// Field numbers of sentencepiece_model.proto.
enum : uint32_t {
  kModelPieces = 1,
  kModelTrainerSpec = 2,
  kModelNormalizerSpec = 3,
  kPieceText = 1,
  kPieceScore = 2,
  kPieceType = 3,
  kTrainerModelType = 3,
  kNormalizerCharsmap = 2,
};
enum : uint64_t { kTypeNormal = 1, kTypeControl = 3, kTypeUserDefined = 4, kTypeByte = 6 };
constexpr uint64_t kModelTypeUnigram = 1;

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct ProtoField {
  uint32_t number = 0;
  uint32_t wire_type = 0;
  uint64_t value = 0;      // of a varint
  std::string_view bytes;  // of the other three
  std::string_view raw;    // tag and all
};

// Reads one protobuf message, field by field. Groups (long deprecated) count as damage.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}

  // The next field, or nothing at the end or at damage: damaged() tells which.
  std::optional<ProtoField> Next() {
    if (rest_.empty() || damaged_) return std::nullopt;
    const std::string_view start = rest_;
    const uint64_t tag = Varint();
    ProtoField field;
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wire_type = static_cast<uint32_t>(tag & 7);
    damaged_ |= tag > UINT32_MAX || field.number == 0;
    if (field.wire_type == kVarint) {
      field.value = Varint();
    } else if (field.wire_type == kFixed64) {
      field.bytes = Take(8);
    } else if (field.wire_type == kFixed32) {
      field.bytes = Take(4);
    } else if (field.wire_type == kBytes) {
      field.bytes = Take(Varint());
    } else {
      damaged_ = true;
    }
    if (damaged_) return std::nullopt;
    field.raw = start.substr(0, start.size() - rest_.size());
    return field;
  }

  bool damaged() const { return damaged_; }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const uint8_t byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    damaged_ = true;
    return 0;
  }

  std::string_view Take(uint64_t size) {
    damaged_ |= size > rest_.size();
    if (damaged_) return {};
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool damaged_ = false;
};

Status CheckPiece(std::string_view message, int64_t id) {
  ProtoReader reader(message);
  std::string_view text;
  uint64_t type = kTypeNormal;
  while (const auto field = reader.Next()) {
    if (field->number == kPieceText && field->wire_type == kBytes) text = field->bytes;
    if (field->number == kPieceType && field->wire_type == kVarint) type = field->value;
    if (field->number == kPieceScore && field->wire_type == kFixed32) {
      float score = 0;
      std::memcpy(&score, field->bytes.data(), sizeof(score));
      if (!std::isfinite(score)) return Bad("the score of a piece is not finite");
    }
  }
  const std::string where = "piece " + std::to_string(id);
  if (reader.damaged()) return Bad(where + " is damaged");
  if (type < kTypeNormal || type > kTypeByte) return Bad(where + " has an unknown type");
  const size_t size_max = type == kTypeUserDefined ? kUserPieceBytesMax : kPieceBytesMax;
  if (text.empty() || text.size() > size_max || text.find('\0') != text.npos)
    return Bad("the text of " + where + " has " + std::to_string(text.size()) +
               " bytes, need 1 to " + std::to_string(size_max) + " and no NUL");
  if (id == kEndOfTextId && (text != "</s>" || type != kTypeControl))
    return Bad("piece 1 is not the control piece </s>");
  return {};
}

Status CheckTrainerSpec(std::string_view message) {
  ProtoReader reader(message);
  while (const auto field = reader.Next())
    if (field->number == kTrainerModelType && field->wire_type == kVarint &&
        field->value != kModelTypeUnigram)
      return Bad("got model type " + std::to_string(field->value) + ", need 1 (unigram)");
  return reader.damaged() ? Bad("trainer_spec is damaged") : Status();
}

Status CheckNormalizerSpec(std::string_view message) {
  ProtoReader reader(message);
  while (const auto field = reader.Next())
    if (field->number == kNormalizerCharsmap && field->wire_type == kBytes && !field->bytes.empty())
      MRT_RETURN_IF_ERROR(CheckCharsmap(field->bytes));
  return reader.damaged() ? Bad("normalizer_spec is damaged") : Status();
}

// One unit of a darts-clone double array.
struct TrieUnit {
  uint32_t bits = 0;
  bool is_value() const { return (bits >> 31) != 0; }
  uint32_t value() const { return bits & 0x7FFFFFFFu; }
  bool matches(uint32_t byte) const { return !is_value() && (bits & 0xFFu) == byte; }
  bool has_leaf() const { return ((bits >> 8) & 1) != 0; }
  uint32_t offset() const { return (bits >> 10) << ((bits & (1u << 9)) >> 6); }
};

// Follows every path of a trie of at least one unit.
class TrieCheck {
 public:
  TrieCheck(std::vector<TrieUnit> units, std::string_view strings)
      : units_(std::move(units)), strings_(strings), height_(units_.size(), kUnknown) {}

  bool Ok() { return Height(0, 0) >= 0; }

 private:
  static constexpr int8_t kUnknown = -1;

  // Bytes of the longest rule below the unit, or -1 if something is wrong. The depth also ends
  // walks in circles.
  int Height(uint32_t at, int depth) {
    if (depth > kRuleBytesMax) return -1;
    if (height_[at] != kUnknown) return height_[at] + depth > kRuleBytesMax ? -1 : height_[at];
    const TrieUnit unit = units_[at];
    const uint32_t base = at ^ unit.offset();
    if ((base | 0xFFu) >= units_.size()) return -1;
    if (unit.has_leaf() && !ValueOk(units_[base])) return -1;
    int height = 0;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      if (!units_[base ^ byte].matches(byte)) continue;
      const int below = Height(base ^ byte, depth + 1);
      if (below < 0) return -1;
      height = std::max(height, below + 1);
    }
    height_[at] = static_cast<int8_t>(height);
    return height;
  }

  bool ValueOk(TrieUnit leaf) const {
    if (leaf.value() >= strings_.size()) return false;
    return strings_.substr(leaf.value(), kReplacementBytesMax + 1).find('\0') != strings_.npos;
  }

  std::vector<TrieUnit> units_;
  std::string_view strings_;
  std::vector<int8_t> height_;
};

}  // namespace

Status CheckCharsmap(std::string_view charsmap) {
  uint32_t trie_bytes = 0;
  if (charsmap.size() <= sizeof(trie_bytes) || charsmap.size() > kCharsmapBytesMax)
    return Bad("the normalizer's map has " + std::to_string(charsmap.size()) +
               " bytes, need 5 to " + std::to_string(kCharsmapBytesMax));
  std::memcpy(&trie_bytes, charsmap.data(), sizeof(trie_bytes));
  charsmap.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes == 0 || trie_bytes >= charsmap.size() || trie_bytes % sizeof(TrieUnit) != 0)
    return Bad("the normalizer's trie has " + std::to_string(trie_bytes) + " bytes of " +
               std::to_string(charsmap.size()) + ", need 4 or more, less than all, in units of 4");
  std::vector<TrieUnit> units(trie_bytes / sizeof(TrieUnit));
  std::memcpy(units.data(), charsmap.data(), trie_bytes);
  if (!TrieCheck(std::move(units), charsmap.substr(trie_bytes)).Ok())
    return Bad("the normalizer's trie leads outside of it");
  return {};
}

Result<SpieceModel> CheckSpieceModel(std::string_view file) {
  SpieceModel model;
  model.proto.reserve(file.size());
  ProtoReader reader(file);
  while (const auto field = reader.Next()) {
    if (field->wire_type != kBytes) continue;
    if (field->number == kModelPieces) {
      if (model.pieces == kPiecesMax)
        return Bad("got more than " + std::to_string(kPiecesMax) + " pieces");
      MRT_RETURN_IF_ERROR(CheckPiece(field->bytes, model.pieces++));
    } else if (field->number == kModelTrainerSpec) {
      MRT_RETURN_IF_ERROR(CheckTrainerSpec(field->bytes));
    } else if (field->number == kModelNormalizerSpec) {
      MRT_RETURN_IF_ERROR(CheckNormalizerSpec(field->bytes));
    } else {
      continue;
    }
    model.proto += field->raw;
  }
  if (reader.damaged()) return Bad("not a protobuf message, or cut short");
  if (model.pieces <= kEndOfTextId)
    return Bad("got " + std::to_string(model.pieces) + " pieces, need at least 2");
  return model;
}

}  // namespace mrt
