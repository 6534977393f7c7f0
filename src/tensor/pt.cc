#include "tensor/pt.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <vector>

#include "tensor/pickle.h"
#include "tensor/printable.h"
#include "tensor/zip.h"

namespace mrt {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kPickleBytesMax = size_t{64} << 20;  // 10,000 tensors take about 2 MiB
constexpr size_t kKeysListed = 20;                    // in a message

constexpr std::string_view kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils _rebuild_parameter";

struct StorageType {
  std::string_view global;
  DType dtype;
};
constexpr StorageType kStorageTypes[] = {
    {"torch FloatStorage", DType::kF32},
    {"torch HalfStorage", DType::kF16},
    {"torch BFloat16Storage", DType::kBF16},
    {"torch DoubleStorage", DType::kF64},
    {"torch CharStorage", DType::kI8},
    {"torch ByteStorage", DType::kU8},
    {"torch ShortStorage", DType::kI16},
    {"torch IntStorage", DType::kI32},
    {"torch LongStorage", DType::kI64},
    {"torch BoolStorage", DType::kBool},
    {"torch.storage UntypedStorage", DType::kU8},
};

std::vector<std::string_view> KnownGlobals() {
  std::vector<std::string_view> names = {kRebuildTensor, kRebuildParameter};
  for (const StorageType& type : kStorageTypes) names.push_back(type.global);
  return names;
}

std::optional<DType> StorageDType(const PickleValue& value) {
  if (value.kind == Kind::kGlobal)
    for (const StorageType& type : kStorageTypes)
      if (type.global == value.text) return type.dtype;
  return std::nullopt;
}

bool IsCallOf(const Pickle& pickle, const PickleValue& value, std::string_view global) {
  return value.kind == Kind::kCall && pickle.item(value, 0).text == global;
}

bool IsTensor(const Pickle& pickle, const PickleValue& value) {
  return IsCallOf(pickle, value, kRebuildTensor) || IsCallOf(pickle, value, kRebuildParameter);
}

}  // namespace

/// One file being read.
class PtReader {
 public:
  explicit PtReader(std::shared_ptr<const MappedFile> file)
      : file_(std::move(file)), budget_(*file_) {}

  /// The directory and the pickle. Comes first, once.
  Status Open() {
    MRT_ASSIGN_OR_RETURN(entries_, ReadZip(*file_));
    MRT_RETURN_IF_ERROR(FindRoot());
    MRT_RETURN_IF_ERROR(CheckByteOrder());
    return ParsePickle();
  }

  Result<LoadedTensors> Read(const std::string& key) {
    MRT_ASSIGN_OR_RETURN(const PickleValue* dict, FindDict(key));
    MRT_RETURN_IF_ERROR(AddTensors(*dict, key));
    loaded_.files.push_back(file_);
    return std::move(loaded_);
  }

  std::vector<std::string> Keys() {
    std::vector<std::string> keys;
    if (pickle_.root().kind == Kind::kDict) CollectKeys(pickle_.root(), "", 1, keys);
    return keys;
  }

 private:
  struct Storage {
    std::string_view bytes;
    DType dtype = DType::kF32;
    int64_t elements = 0;
  };

  Status Bad(const std::string& what) const {
    return BadData("[pt] " + file_->path() + ": " + what);
  }
  Status FindRoot();
  Status CheckByteOrder() const;
  Status ParsePickle();
  Result<const PickleValue*> FindDict(const std::string& key) const;
  Status AddTensors(const PickleValue& dict, const std::string& key);
  void CollectKeys(const PickleValue& dict, const std::string& path, int depth,
                   std::vector<std::string>& keys);
  Result<ConstTensorView> ReadTensor(const PickleValue& value);
  Result<Storage> ReadStorage(const PickleValue& value) const;
  Status ReadIntegers(const PickleValue& value, std::vector<int64_t>& out) const;
  const PickleValue* Lookup(const PickleValue& dict, std::string_view name) const;
  std::string KeysOf(const PickleValue& dict) const;

  std::shared_ptr<const MappedFile> file_;
  CopyBudget budget_;
  ZipEntries entries_;
  std::string root_;  // "archive/": all entries of the file are under it
  Pickle pickle_;
  std::unordered_set<const PickleValue*> searched_;  // dictionaries that Keys() has seen
  LoadedTensors loaded_;
};

Status PtReader::FindRoot() {
  constexpr std::string_view kPickleName = "data.pkl";
  for (const auto& [name, bytes] : entries_) {
    const size_t slash = name.find('/');
    if (slash == name.npos || name.substr(slash + 1) != kPickleName) continue;
    if (!root_.empty()) return Bad("more than one data.pkl");
    root_ = name.substr(0, slash + 1);
  }
  return root_.empty() ? Bad("no data.pkl in this zip archive: not written by torch.save")
                       : Status();
}

Status PtReader::CheckByteOrder() const {
  const auto entry = entries_.find(root_ + "byteorder");
  if (entry == entries_.end() || entry->second == "little") return {};
  return Bad("got byte order " + Printable(entry->second) + ", need 'little'");
}

Status PtReader::ParsePickle() {
  const std::string_view bytes = entries_.find(root_ + "data.pkl")->second;
  if (bytes.size() > kPickleBytesMax)
    return Bad("got a data.pkl of " + std::to_string(bytes.size()) + " bytes, need at most " +
               std::to_string(kPickleBytesMax));
  auto parsed = Pickle::Parse(bytes, KnownGlobals());
  if (!parsed.ok()) return Bad(parsed.status().message());
  pickle_ = *std::move(parsed);
  return {};
}

const PickleValue* PtReader::Lookup(const PickleValue& dict, std::string_view name) const {
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& key = pickle_.item(dict, i);
    if (key.kind == Kind::kString && key.text == name) return &pickle_.item(dict, i + 1);
  }
  return nullptr;
}

std::string PtReader::KeysOf(const PickleValue& dict) const {
  std::string text;
  size_t listed = 0;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& key = pickle_.item(dict, i);
    if (key.kind != Kind::kString) continue;
    if (listed++ == kKeysListed) return text + ", ...";
    text += (text.empty() ? "" : ", ") + Printable(key.text);
  }
  return text.empty() ? "none" : text;
}

Result<const PickleValue*> PtReader::FindDict(const std::string& key) const {
  const PickleValue* dict = &pickle_.root();
  if (dict->kind != Kind::kDict) return Bad("the top level is not a dictionary");
  std::string_view rest = key;
  for (bool more = !key.empty(); more;) {
    // A name may hold dots itself: the longest one that is there counts.
    size_t end = rest.size();
    const PickleValue* next = Lookup(*dict, rest);
    while (next == nullptr && end > 0 && (end = rest.rfind('.', end - 1)) != rest.npos)
      next = Lookup(*dict, rest.substr(0, end));
    if (next == nullptr) end = std::min(rest.find('.'), rest.size());
    if (next == nullptr || next->kind != Kind::kDict)
      return NotFound("[pt] " + file_->path() + ": " + Printable(rest.substr(0, end)) +
                      (next == nullptr ? " is not there" : " is not a dictionary") +
                      "; the keys are: " + KeysOf(*dict));
    dict = next;
    more = end < rest.size();
    if (more) rest.remove_prefix(end + 1);
  }
  return dict;
}

/// Adds `path` if this dictionary holds tensors, else looks into the dictionaries in it. Each one
/// is looked at once, so shared and cyclic values cost no more than others.
void PtReader::CollectKeys(const PickleValue& dict, const std::string& path, int depth,
                           std::vector<std::string>& keys) {
  constexpr int kDepthMax = 4;
  constexpr size_t kKeysMax = 64;
  if (depth > kDepthMax || !searched_.insert(&dict).second) return;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    if (keys.size() == kKeysMax) return;
    if (pickle_.item(dict, i).kind != Kind::kString) continue;
    if (IsTensor(pickle_, pickle_.item(dict, i + 1))) return keys.push_back(path);
  }
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& name = pickle_.item(dict, i);
    const PickleValue& value = pickle_.item(dict, i + 1);
    if (name.kind == Kind::kString && !name.text.empty() && value.kind == Kind::kDict)
      CollectKeys(value, (path.empty() ? "" : path + ".") + std::string(name.text), depth + 1,
                  keys);
  }
}

Status PtReader::AddTensors(const PickleValue& dict, const std::string& key) {
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& name = pickle_.item(dict, i);
    const PickleValue& value = pickle_.item(dict, i + 1);
    if (name.kind != Kind::kString || !IsTensor(pickle_, value)) continue;
    auto tensor = ReadTensor(value);
    if (!tensor.ok())
      return Bad("tensor " + Printable(name.text) + ": " + tensor.status().message());
    if (!loaded_.tensors.emplace(name.text, *tensor).second)
      return Bad("duplicate tensor " + Printable(name.text));
  }
  if (!loaded_.tensors.empty()) return {};
  return NotFound("[pt] " + file_->path() + ": no tensors under " +
                  (key.empty() ? std::string("the top level, a key is needed") : Printable(key)) +
                  "; the keys are: " + KeysOf(dict));
}

Status PtReader::ReadIntegers(const PickleValue& value, std::vector<int64_t>& out) const {
  if (value.kind != Kind::kTuple) return BadData("the shape or strides are not a tuple");
  if (value.items.size() > static_cast<size_t>(Shape::kMaxRank))
    return BadData("got " + std::to_string(value.items.size()) + " dimensions, need at most " +
                   std::to_string(Shape::kMaxRank));
  for (size_t i = 0; i < value.items.size(); ++i) {
    const PickleValue& item = pickle_.item(value, i);
    if (item.kind != Kind::kInt || item.integer < 0)
      return BadData("the shape or strides hold something else than integers >= 0");
    out.push_back(item.integer);
  }
  return {};
}

/// ("storage", type, key, location, number of elements)
Result<PtReader::Storage> PtReader::ReadStorage(const PickleValue& value) const {
  if (value.kind != Kind::kPersistentId) return BadData("no storage");
  const PickleValue& id = pickle_.item(value, 0);
  if (id.kind != Kind::kTuple || id.items.size() != 5 || pickle_.item(id, 0).text != "storage" ||
      pickle_.item(id, 2).kind != Kind::kString || pickle_.item(id, 4).kind != Kind::kInt)
    return BadData("a storage of unknown form");
  const auto dtype = StorageDType(pickle_.item(id, 1));
  if (!dtype) return BadData("a storage of unknown type");
  const auto entry = entries_.find(root_ + "data/" + std::string(pickle_.item(id, 2).text));
  if (entry == entries_.end())
    return BadData("its storage " + Printable(pickle_.item(id, 2).text) + " is not in the file");
  const int64_t elements = pickle_.item(id, 4).integer;
  const int64_t elements_in_file = static_cast<int64_t>(entry->second.size()) / DTypeSize(*dtype);
  if (elements < 0 || elements > elements_in_file)
    return BadData("got a storage of " + std::to_string(elements_in_file) + " elements, need " +
                   std::to_string(elements));
  return Storage{entry->second, *dtype, elements};
}

/// _rebuild_parameter(tensor, requires_grad, hooks)
/// _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])
Result<ConstTensorView> PtReader::ReadTensor(const PickleValue& value) {
  const PickleValue& arguments = pickle_.item(value, 1);
  if (IsCallOf(pickle_, value, kRebuildParameter)) {
    if (arguments.items.empty() || !IsCallOf(pickle_, pickle_.item(arguments, 0), kRebuildTensor))
      return BadData("a parameter without a tensor");
    return ReadTensor(pickle_.item(arguments, 0));
  }
  if (arguments.items.size() < 4 || pickle_.item(arguments, 1).kind != Kind::kInt)
    return BadData("a tensor of unknown form");
  MRT_ASSIGN_OR_RETURN(const Storage storage, ReadStorage(pickle_.item(arguments, 0)));
  const int64_t offset = pickle_.item(arguments, 1).integer;
  std::vector<int64_t> dims, strides;
  MRT_RETURN_IF_ERROR(ReadIntegers(pickle_.item(arguments, 2), dims));
  MRT_RETURN_IF_ERROR(ReadIntegers(pickle_.item(arguments, 3), strides));
  const auto shape = Shape::Checked(dims);
  if (!shape || strides.size() != dims.size())
    return BadData("the shape is too large or does not fit its strides");

  StridedTensor source{nullptr, storage.dtype, *shape, {}};
  std::copy(strides.begin(), strides.end(), source.strides.begin());
  int64_t last = offset;  // index of the last element in the storage
  bool overflow = offset < 0 || offset > storage.elements;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    int64_t reach = 0;
    overflow |= __builtin_mul_overflow(std::max<int64_t>(dims[axis] - 1, 0), strides[axis], &reach);
    overflow |= __builtin_add_overflow(last, reach, &last);
  }
  if (overflow || (shape->elements() > 0 && last >= storage.elements))
    return BadData("its " + shape->ToString() + " elements at offset " + std::to_string(offset) +
                   " leave its storage of " + std::to_string(storage.elements));
  source.data = storage.bytes.data() + offset * DTypeSize(storage.dtype);
  return MakeView(source, budget_, loaded_);
}

bool IsLegacyPt(std::string_view bytes) {
  // A pickled integer, the magic number 0x1950a86a20f9469cfc6c.
  constexpr std::string_view kMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
  return bytes.starts_with(kMagic);
}

Result<LoadedTensors> ReadPt(std::shared_ptr<const MappedFile> file, const std::string& key) {
  PtReader reader(std::move(file));
  MRT_RETURN_IF_ERROR(reader.Open());
  return reader.Read(key);
}

Result<std::vector<std::string>> PtKeys(std::shared_ptr<const MappedFile> file) {
  PtReader reader(std::move(file));
  MRT_RETURN_IF_ERROR(reader.Open());
  return reader.Keys();
}

}  // namespace mrt
