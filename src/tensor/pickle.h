// The subset of Python's pickle format that torch.save writes, parsed into plain values. Nothing in
// a pickle is ever called: a call of a known global becomes a kCall value, any other is an error.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace mrt {

struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,          // integer: 0 or 1
    kInt,           // integer
    kFloat,         // real
    kString,        // text
    kTuple,         // items
    kList,          // items
    kDict,          // items: key, value, key, value ... as they were set; OrderedDict too
    kGlobal,        // text: "module name"
    kCall,          // items: the global, the tuple of its arguments
    kPersistentId,  // items: the tuple that names an object outside the pickle
  };
  Kind kind = Kind::kNone;
  int64_t integer = 0;
  double real = 0;
  std::string_view text;        // into the pickled bytes
  std::vector<uint32_t> items;  // indices of values; may form cycles
};

/// The values of one pickle. They hold indices instead of pointers: shared and cyclic values need
/// no ownership, and deep nesting costs no stack.
class Pickle {
 public:
  /// Parses `bytes` (protocols 2 to 5), which must outlive the result. `globals` are the names, as
  /// "module name", that may appear besides "collections OrderedDict". BadData names an opcode or
  /// global that is not known and its position; the message has no place, the caller adds it.
  static Result<Pickle> Parse(std::string_view bytes, std::span<const std::string_view> globals);

  const PickleValue& root() const { return values_[root_]; }
  /// Item `i` of a value; a defect if there is none.
  const PickleValue& item(const PickleValue& value, size_t i) const;

 private:
  friend class PickleMachine;
  std::vector<PickleValue> values_;
  uint32_t root_ = 0;
};

}  // namespace mrt
