// The opcodes and their meaning: Lib/pickletools.py of CPython.
#include "tensor/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tensor/printable.h"

namespace mrt {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr uint8_t kProto = 0x80;
constexpr uint8_t kProtocolMin = 2, kProtocolMax = 5;
// Values of one pickle. A tensor takes about 30, so this is some 70,000 tensors and 128 MiB. As
// many may lie in the memo, come out of it, and be marks.
constexpr size_t kValuesMax = size_t{2} << 20;
constexpr uint32_t kNothing = UINT32_MAX;  // in the memo

}  // namespace

/// The stack machine of the format. Every method reads what its opcode needs from the stream and
/// the stack, or returns BadData.
class PickleMachine {
 public:
  PickleMachine(std::string_view bytes, std::span<const std::string_view> globals)
      : bytes_(bytes), globals_(globals) {}

  Result<Pickle> Run() {
    MRT_RETURN_IF_ERROR(ReadProtocol());
    while (!stopped_) {
      if (std::max({out_.values_.size(), marks_.size(), fetched_}) > kValuesMax)
        return Bad("more than " + std::to_string(kValuesMax) + " values");
      opcode_at_ = at_;
      uint8_t opcode = 0;
      MRT_RETURN_IF_ERROR(Read(opcode));
      MRT_RETURN_IF_ERROR(Execute(opcode));
    }
    return std::move(out_);
  }

 private:
  Status ReadProtocol() {
    uint8_t opcode = 0, protocol = 0;
    MRT_RETURN_IF_ERROR(Read(opcode));
    MRT_RETURN_IF_ERROR(Read(protocol));
    if (opcode != kProto || protocol < kProtocolMin || protocol > kProtocolMax)
      return Bad("not a pickle of protocol 2 to 5");
    return {};
  }
  Status Execute(uint8_t opcode);
  Status Bad(const std::string& what) const {
    return BadData("pickle byte " + std::to_string(opcode_at_) + ": " + what);
  }

  // The stream.
  Status Take(uint64_t count, std::string_view& text) {
    if (count > bytes_.size() - at_) return Bad("cut short");
    text = bytes_.substr(at_, count);
    at_ += count;
    return {};
  }
  template <typename T>
  Status Read(T& value) {
    std::string_view raw;
    MRT_RETURN_IF_ERROR(Take(sizeof(T), raw));
    std::memcpy(&value, raw.data(), sizeof(T));
    return {};
  }
  Status ReadLine(std::string_view& line) {
    const size_t end = bytes_.find('\n', at_);
    if (end == bytes_.npos) return Bad("cut short");
    line = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return {};
  }

  // The stack. Values above the last mark only: an opcode may not reach below it.
  size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  uint32_t Add(PickleValue value) {
    out_.values_.push_back(std::move(value));
    return static_cast<uint32_t>(out_.values_.size() - 1);
  }
  Status Push(PickleValue value) {
    stack_.push_back(Add(std::move(value)));
    return {};
  }
  Status PushInt(int64_t value) { return Push({.kind = Kind::kInt, .integer = value}); }
  Status PopItems(size_t count, std::vector<uint32_t>& items) {
    if (available() < count) return Bad("the stack is too short");
    items.assign(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return {};
  }
  Status PopToMark(std::vector<uint32_t>& items) {
    if (marks_.empty()) return Bad("no mark");
    MRT_RETURN_IF_ERROR(PopItems(available(), items));
    marks_.pop_back();
    return {};
  }
  /// The container on top of the stack that items are added to.
  Status AddTo(Kind kind, const std::vector<uint32_t>& items) {
    if (available() == 0) return Bad("the stack is too short");
    PickleValue& target = out_.values_[stack_.back()];
    if (target.kind != kind || (kind == Kind::kDict && items.size() % 2 != 0))
      return Bad("items are added to a value of another kind");
    target.items.insert(target.items.end(), items.begin(), items.end());
    return {};
  }

  // Opcodes.
  template <typename Length>
  Status PushString() {
    Length length = 0;
    PickleValue value{.kind = Kind::kString};
    MRT_RETURN_IF_ERROR(Read(length));
    MRT_RETURN_IF_ERROR(Take(length, value.text));
    return Push(std::move(value));
  }
  template <typename Integer>
  Status PushInteger() {
    Integer value = 0;
    MRT_RETURN_IF_ERROR(Read(value));
    return PushInt(value);
  }
  Status PushLong();
  Status PushFloat();
  Status PushTuple(size_t count) {
    PickleValue value{.kind = Kind::kTuple};
    MRT_RETURN_IF_ERROR(PopItems(count, value.items));
    return Push(std::move(value));
  }
  Status PushTupleFromMark() {
    PickleValue value{.kind = Kind::kTuple};
    MRT_RETURN_IF_ERROR(PopToMark(value.items));
    return Push(std::move(value));
  }
  Status AddItemsFromMark(Kind kind) {
    std::vector<uint32_t> items;
    MRT_RETURN_IF_ERROR(PopToMark(items));
    return AddTo(kind, items);
  }
  Status AddItems(Kind kind, size_t count) {
    std::vector<uint32_t> items;
    MRT_RETURN_IF_ERROR(PopItems(count, items));
    return AddTo(kind, items);
  }
  template <typename Index>
  Status Put() {
    Index index = 0;
    MRT_RETURN_IF_ERROR(Read(index));
    return Memoize(index);
  }
  Status Memoize(size_t index) {
    if (available() == 0) return Bad("the stack is too short");
    if (index >= kValuesMax)
      return Bad("got memo index " + std::to_string(index) + ", need at most " +
                 std::to_string(kValuesMax - 1));
    if (index >= memo_.size()) memo_.resize(index + 1, kNothing);
    if (memo_[index] == kNothing) ++memoized_;
    memo_[index] = stack_.back();
    return {};
  }
  template <typename Index>
  Status Get() {
    Index index = 0;
    MRT_RETURN_IF_ERROR(Read(index));
    if (index >= memo_.size() || memo_[index] == kNothing)
      return Bad("nothing in the memo under " + std::to_string(index));
    stack_.push_back(memo_[index]);
    ++fetched_;
    return {};
  }
  Status PushGlobal(std::string_view module, std::string_view name);
  Status PushGlobalFromLines();
  Status PushGlobalFromStack();
  Status PushCall();
  Status PushPersistentId();
  Status DropState();
  Status SkipFrame() {  // a hint for readers of streams
    uint64_t length = 0;
    return Read(length);
  }
  Status Stop();

  std::string_view bytes_;
  std::span<const std::string_view> globals_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  bool stopped_ = false;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;   // stack sizes when each mark was set
  std::vector<uint32_t> memo_;  // value or kNothing
  size_t memoized_ = 0;         // values in the memo
  size_t fetched_ = 0;          // values taken out of it
  Pickle out_;
};

Status PickleMachine::PushLong() {
  uint8_t length = 0;
  std::string_view raw;
  MRT_RETURN_IF_ERROR(Read(length));
  MRT_RETURN_IF_ERROR(Take(length, raw));
  if (length > sizeof(int64_t)) return Bad("an integer of more than 64 bits");
  uint64_t value = length > 0 && (raw.back() & 0x80) ? ~uint64_t{0} : 0;  // two's complement
  std::memcpy(&value, raw.data(), length);
  return PushInt(static_cast<int64_t>(value));
}

Status PickleMachine::PushFloat() {
  uint64_t big_endian = 0;
  MRT_RETURN_IF_ERROR(Read(big_endian));
  return Push({.kind = Kind::kFloat, .real = std::bit_cast<double>(__builtin_bswap64(big_endian))});
}

Status PickleMachine::PushGlobal(std::string_view module, std::string_view name) {
  const std::string joined = std::string(module) + " " + std::string(name);
  if (joined == kOrderedDict) return Push({.kind = Kind::kGlobal, .text = kOrderedDict});
  const auto known = std::find(globals_.begin(), globals_.end(), joined);
  if (known == globals_.end()) return Bad("global " + Printable(joined) + " is not supported");
  return Push({.kind = Kind::kGlobal, .text = *known});
}

Status PickleMachine::PushGlobalFromLines() {
  std::string_view module, name;
  MRT_RETURN_IF_ERROR(ReadLine(module));
  MRT_RETURN_IF_ERROR(ReadLine(name));
  return PushGlobal(module, name);
}

Status PickleMachine::PushGlobalFromStack() {
  std::vector<uint32_t> parts;
  MRT_RETURN_IF_ERROR(PopItems(2, parts));
  const PickleValue& module = out_.values_[parts[0]];
  const PickleValue& name = out_.values_[parts[1]];
  if (module.kind != Kind::kString || name.kind != Kind::kString)
    return Bad("a global needs two strings");
  return PushGlobal(module.text, name.text);
}

Status PickleMachine::PushCall() {
  PickleValue call{.kind = Kind::kCall};
  MRT_RETURN_IF_ERROR(PopItems(2, call.items));
  const PickleValue& function = out_.values_[call.items[0]];
  const PickleValue& arguments = out_.values_[call.items[1]];
  if (function.kind != Kind::kGlobal || arguments.kind != Kind::kTuple)
    return Bad("a call needs a global and a tuple");
  if (function.text != kOrderedDict) return Push(std::move(call));
  if (!arguments.items.empty()) return Bad("OrderedDict with arguments is not supported");
  return Push({.kind = Kind::kDict});
}

Status PickleMachine::PushPersistentId() {
  PickleValue id{.kind = Kind::kPersistentId};
  MRT_RETURN_IF_ERROR(PopItems(1, id.items));
  return Push(std::move(id));
}

/// BUILD sets attributes. A state_dict has one, the versions of its modules (_metadata): not
/// needed.
Status PickleMachine::DropState() {
  std::vector<uint32_t> state;
  MRT_RETURN_IF_ERROR(PopItems(1, state));
  if (available() == 0 || out_.values_[stack_.back()].kind != Kind::kDict)
    return Bad("attributes (BUILD) of a value that is not a dictionary");
  return {};
}

Status PickleMachine::Stop() {
  if (stack_.size() != 1 || !marks_.empty()) return Bad("the pickle ends with an unfinished value");
  out_.root_ = stack_.back();
  stopped_ = true;
  return {};
}

Status PickleMachine::Execute(uint8_t opcode) {
  switch (opcode) {
    case '(': marks_.push_back(stack_.size()); return {};         // MARK
    case '.': return Stop();                                      // STOP
    case 'N': return Push({});                                    // NONE
    case 0x88: return Push({.kind = Kind::kBool, .integer = 1});  // NEWTRUE
    case 0x89: return Push({.kind = Kind::kBool, .integer = 0});  // NEWFALSE
    case 'K': return PushInteger<uint8_t>();                      // BININT1
    case 'M': return PushInteger<uint16_t>();                     // BININT2
    case 'J': return PushInteger<int32_t>();                      // BININT
    case 0x8a: return PushLong();                                 // LONG1
    case 'G': return PushFloat();                                 // BINFLOAT
    case 0x8c: return PushString<uint8_t>();                      // SHORT_BINUNICODE
    case 'X': return PushString<uint32_t>();                      // BINUNICODE
    case 0x8d: return PushString<uint64_t>();                     // BINUNICODE8
    case ')': return PushTuple(0);                                // EMPTY_TUPLE
    case 0x85: return PushTuple(1);                               // TUPLE1
    case 0x86: return PushTuple(2);                               // TUPLE2
    case 0x87: return PushTuple(3);                               // TUPLE3
    case 't': return PushTupleFromMark();                         // TUPLE
    case ']': return Push({.kind = Kind::kList});                 // EMPTY_LIST
    case 'a': return AddItems(Kind::kList, 1);                    // APPEND
    case 'e': return AddItemsFromMark(Kind::kList);               // APPENDS
    case '}': return Push({.kind = Kind::kDict});                 // EMPTY_DICT
    case 's': return AddItems(Kind::kDict, 2);                    // SETITEM
    case 'u': return AddItemsFromMark(Kind::kDict);               // SETITEMS
    case 'q': return Put<uint8_t>();                              // BINPUT
    case 'r': return Put<uint32_t>();                             // LONG_BINPUT
    case 0x94: return Memoize(memoized_);                         // MEMOIZE
    case 'h': return Get<uint8_t>();                              // BINGET
    case 'j': return Get<uint32_t>();                             // LONG_BINGET
    case 'c': return PushGlobalFromLines();                       // GLOBAL
    case 0x93: return PushGlobalFromStack();                      // STACK_GLOBAL
    case 'R': return PushCall();                                  // REDUCE
    case 'Q': return PushPersistentId();                          // BINPERSID
    case 'b': return DropState();                                 // BUILD
    case 0x95: return SkipFrame();                                // FRAME
    default: return Bad("opcode " + std::to_string(opcode) + " is not supported");
  }
}

Result<Pickle> Pickle::Parse(std::string_view bytes, std::span<const std::string_view> globals) {
  return PickleMachine(bytes, globals).Run();
}

const PickleValue& Pickle::item(const PickleValue& value, size_t i) const {
  MRT_CHECK(i < value.items.size());
  return values_[value.items[i]];
}

}  // namespace mrt
