#include "tensor/pt.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "tensor/checkpoint.h"
#include "testing/expect_failure.h"
#include "testing/pt_writer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

using testing::BytesOf;
using testing::ExpectFailure;
using testing::PickleWriter;
using testing::PtFile;
using testing::PtTensor;

std::vector<float> Floats(const ConstTensorView& tensor) {
  std::vector<float> values;
  for (int64_t i = 0; i < tensor.shape.elements(); ++i) values.push_back(ElementAsFloat(tensor, i));
  return values;
}

class PtTest : public ::testing::Test {
 protected:
  Result<Checkpoint> Open(const std::string& bytes, const std::string& key = "") {
    return Checkpoint::Open(folder_.Write("model.pt", bytes), key);
  }
  /// A file of one dictionary of tensors.
  Result<Checkpoint> OpenTensors(const std::vector<PtTensor>& tensors,
                                 const std::map<std::string, std::string>& storages) {
    return Open(PtFile(PickleWriter().Dict(tensors).Finish(), storages));
  }
  /// One tensor over a storage of six floats.
  void ExpectBad(const PtTensor& tensor, const std::string& part) {
    ExpectFailure(OpenTensors({tensor}, {{"0", six_}}).status(), StatusCode::kBadData, part);
  }

  testing::TempFolder folder_;
  const std::string six_ = BytesOf<float>({0, 1, 2, 3, 4, 5});
};

TEST_F(PtTest, ReadsEveryStorageType) {
  const auto opened = OpenTensors({{"f32", "FloatStorage", "0", 1, 0, {1}, {1}},
                                   {"f16", "HalfStorage", "1", 1, 0, {1}, {1}},
                                   {"bf16", "BFloat16Storage", "1", 1, 0, {1}, {1}},
                                   {"f64", "DoubleStorage", "2", 1, 0, {1}, {1}},
                                   {"i8", "CharStorage", "2", 8, 0, {8}, {1}},
                                   {"u8", "ByteStorage", "2", 8, 0, {8}, {1}},
                                   {"i16", "ShortStorage", "2", 4, 0, {4}, {1}},
                                   {"i32", "IntStorage", "2", 2, 0, {2}, {1}},
                                   {"i64", "LongStorage", "2", 1, 0, {1}, {1}},
                                   {"bool", "BoolStorage", "2", 8, 0, {8}, {1}}},
                                  {{"0", BytesOf<float>({1.25f})},
                                   {"1", BytesOf<uint16_t>({0x3e00})},
                                   {"2", BytesOf<double>({2.5})}});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(ElementAsFloat(opened->Find("f32"), 0), 1.25f);
  EXPECT_EQ(ElementAsFloat(opened->Find("f16"), 0), 1.5f);
  EXPECT_EQ(ElementAsFloat(opened->Find("bf16"), 0), 0.125f);
  EXPECT_EQ(ElementAsFloat(opened->Find("f64"), 0), 2.5f);
  const std::pair<const char*, DType> integers[] = {{"i8", DType::kI8},   {"u8", DType::kU8},
                                                    {"i16", DType::kI16}, {"i32", DType::kI32},
                                                    {"i64", DType::kI64}, {"bool", DType::kBool}};
  for (const auto& [name, dtype] : integers) {
    EXPECT_EQ(opened->Find(name).dtype, dtype);
    EXPECT_EQ(opened->Find(name).bytes(), 8);
  }
}

TEST_F(PtTest, ReadsStridesOffsetsAndSharedStorages) {
  const auto opened = OpenTensors({{"whole", "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}},
                                   {"transposed", "FloatStorage", "0", 6, 0, {3, 2}, {1, 3}},
                                   {"tail", "FloatStorage", "0", 6, 4, {2}, {1}},
                                   {"column", "FloatStorage", "0", 6, 1, {2}, {3}},
                                   {"expanded", "FloatStorage", "0", 6, 5, {3}, {0}},
                                   {"scalar", "FloatStorage", "0", 6, 3, {}, {}},
                                   {"unit", "FloatStorage", "0", 6, 2, {1, 2, 1}, {99, 1, 7}},
                                   {"empty", "FloatStorage", "0", 6, 6, {0, 4}, {4, 1}},
                                   {"parameter", "FloatStorage", "0", 6, 0, {6}, {1}, true}},
                                  {{"0", six_}});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(Floats(opened->Find("whole")), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Floats(opened->Find("transposed")), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(Floats(opened->Find("tail")), (std::vector<float>{4, 5}));
  EXPECT_EQ(Floats(opened->Find("column")), (std::vector<float>{1, 4}));
  EXPECT_EQ(Floats(opened->Find("expanded")), (std::vector<float>{5, 5, 5}));
  EXPECT_EQ(Floats(opened->Find("scalar")), (std::vector<float>{3}));
  EXPECT_EQ(opened->Find("scalar").shape.rank(), 0);
  EXPECT_EQ(Floats(opened->Find("unit")), (std::vector<float>{2, 3}));
  EXPECT_EQ(opened->Find("empty").shape, (Shape{0, 4}));
  EXPECT_FALSE(opened->Find("empty").empty());
  EXPECT_EQ(Floats(opened->Find("parameter")).size(), 6u);
  // Contiguous tensors are the mapped bytes themselves, not copies.
  EXPECT_EQ(opened->Find("whole").data, opened->Find("parameter").data);
  EXPECT_EQ(opened->Find("tail").as<float>(), opened->Find("whole").as<float>() + 4);
  EXPECT_EQ(opened->Find("unit").as<float>(), opened->Find("whole").as<float>() + 2);
}

TEST_F(PtTest, ReadsProtocol4AndModuleStates) {
  // OrderedDict() with a tensor, then BUILD with {"_metadata": {}} as nn.Module.state_dict has it.
  for (const int protocol : {2, 4}) {
    PickleWriter pickle(protocol);
    pickle.Global("collections", "OrderedDict").Raw(")R(").String("w");
    pickle.Tensor({"w", "FloatStorage", "0", 6, 0, {6}, {1}});
    pickle.String("step").Int(1000).String("rate").Raw("N");
    pickle.Raw("u}").String("_metadata").Raw("}sb");
    const auto opened = Open(PtFile(pickle.Finish(), {{"0", six_}}));
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(opened->tensors().size(), 1u);
  }
}

TEST_F(PtTest, KeysPickNestedDictionaries) {
  const PtTensor first{"w", "FloatStorage", "0", 6, 1, {1}, {1}};
  const PtTensor second{"w", "FloatStorage", "0", 6, 2, {1}, {1}};
  const PtTensor third{"w", "FloatStorage", "0", 6, 3, {1}, {1}};
  PickleWriter pickle;
  pickle.Raw("}(").String("ema").Dict({first});
  pickle.String("a").Raw("}(").String("b").Dict({second}).Raw("u");
  pickle.String("a.c").Dict({third}).String("step").Int(3).Raw("u");
  const std::string file = PtFile(pickle.Finish(), {{"0", six_}});
  EXPECT_EQ(Floats(Open(file, "ema")->Find("w")), std::vector<float>{1});
  EXPECT_EQ(Floats(Open(file, "a.b")->Find("w")), std::vector<float>{2});
  EXPECT_EQ(Floats(Open(file, "a.c")->Find("w")), std::vector<float>{3});
  const auto fails = [&](const std::string& key, const std::string& part) {
    SCOPED_TRACE(key);
    ExpectFailure(Open(file, key).status(), StatusCode::kNotFound, part);
  };
  fails("", "a key is needed; the keys are: 'ema', 'a', 'a.c', 'step'");
  fails("emb", "'emb' is not there; the keys are: 'ema', 'a', 'a.c', 'step'");
  fails("a.d", "'d' is not there; the keys are: 'b'");
  fails("step", "'step' is not a dictionary");
  fails("a", "no tensors under 'a'");
  fails(".", "is not there");
  fails("a..b", "is not there");
  fails("ema.", "'' is not there");
}

TEST_F(PtTest, KeysListsDictionariesOfTensors) {
  const PtTensor tensor{"w", "FloatStorage", "0", 6, 1, {1}, {1}};
  const auto keys = [&](PickleWriter& pickle) {
    const std::string path = folder_.Write("k.pt", PtFile(pickle.Finish(), {{"0", six_}}));
    const auto found = Checkpoint::Keys(path);
    EXPECT_TRUE(found.ok()) << found.status().message();
    if (!found.ok()) return std::vector<std::string>();
    for (const std::string& key : *found) EXPECT_TRUE(Checkpoint::Open(path, key).ok()) << key;
    return *found;
  };
  PickleWriter flat;
  EXPECT_EQ(keys(flat.Dict({tensor})), std::vector<std::string>{""});
  PickleWriter nested;  // {"ema": {w}, "step": 3, "a": {"b.c": {w}}, "empty": {}, "": {w}}
  nested.Raw("}(").String("ema").Dict({tensor}).String("step").Int(3);
  nested.String("a").Raw("}(").String("b.c").Dict({tensor}).Raw("u");
  nested.String("empty").Raw("}").String("").Dict({tensor}).Raw("u");
  EXPECT_EQ(keys(nested), (std::vector<std::string>{"ema", "a.b.c"}));
  PickleWriter list;
  EXPECT_TRUE(keys(list.Raw("]")).empty());
  // Each level holds the one below under 3000 names, and the lowest holds itself: 27e9 paths lead
  // down, but each dictionary is looked at once.
  PickleWriter knot;
  knot.Raw("}").String("levels").Raw("](}q\1").String("self").Raw("h\1s");
  for (const std::string level : {"\2", "\3", "\4"}) {
    const std::string below(1, static_cast<char>(level[0] - 1));
    knot.Raw("}q").Raw(level);
    for (int name = 0; name < 3000; ++name)
      knot.String(std::to_string(name)).Raw("h").Raw(below).Raw("s");
  }
  knot.Raw("es").String("top").Raw("h\4s");
  EXPECT_TRUE(keys(knot).empty());
}

TEST_F(PtTest, RefusesTensorsThatLeaveTheirStorage) {
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {7}, {1}}, "leave its storage of 6");
  ExpectBad({"w", "FloatStorage", "0", 6, 1, {2, 3}, {3, 1}}, "leave its storage");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {2}, {6}}, "leave its storage");
  ExpectBad({"w", "FloatStorage", "0", 6, 7, {0}, {1}}, "leave its storage");
  ExpectBad({"w", "FloatStorage", "0", 6, -1, {1}, {1}}, "leave its storage");
  ExpectBad({"w", "FloatStorage", "0", 6, INT64_MAX, {2}, {1}}, "leave its storage");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {3}, {INT64_MAX}}, "leave its storage");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {-1}, {1}}, "integers >= 0");
  ExpectBad({"w", "FloatStorage", "0", 6, 5, {2}, {-1}}, "integers >= 0");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {1 << 30, 1 << 30, 1 << 30}, {0, 0, 0}}, "too large");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {0, INT64_MAX, INT64_MAX}, {0, 0, 0}}, "too large");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {2, 3}, {1}}, "does not fit its strides");
  ExpectBad({"w", "FloatStorage", "0", 6, 0, std::vector<int64_t>(9, 1), {}}, "9 dimensions");
  ExpectBad({"w", "FloatStorage", "0", 7, 0, {1}, {1}}, "got a storage of 6 elements, need 7");
  ExpectBad({"w", "DoubleStorage", "0", 4, 0, {1}, {1}}, "got a storage of 3 elements, need 4");
  ExpectBad({"w", "FloatStorage", "0", -1, 0, {1}, {1}}, "need -1");
  ExpectBad({"w", "FloatStorage", "9", 6, 0, {1}, {1}}, "'9' is not in the file");
  ExpectBad({"w", "FloatStorage", "../version", 0, 0, {0}, {1}}, "is not in the file");
  ExpectBad({"w", "ComplexFloatStorage", "0", 3, 0, {1}, {1}}, "'torch ComplexFloatStorage'");
}

TEST_F(PtTest, BoundsCopiesByTheFile) {
  ExpectBad({"w", "FloatStorage", "0", 6, 0, {1'000'000}, {0}}, "out of proportion");
  std::vector<PtTensor> many;
  for (int i = 0; i < 200; ++i)
    many.push_back({"w" + std::to_string(i), "FloatStorage", "0", 6, 0, {20'000}, {0}});
  ExpectFailure(OpenTensors(many, {{"0", six_}}).status(), StatusCode::kBadData,
                "out of proportion");
}

TEST_F(PtTest, RefusesDuplicateTensors) {
  const PtTensor tensor{"w", "FloatStorage", "0", 6, 0, {1}, {1}};
  ExpectFailure(OpenTensors({tensor, tensor}, {{"0", six_}}).status(), StatusCode::kBadData,
                "duplicate tensor 'w'");
}

TEST_F(PtTest, RefusesCallsOfAnotherForm) {
  const auto bad = [&](PickleWriter& value, const std::string& part) {
    const std::string pickle =
        PickleWriter().Raw("}").String("w").Raw(value.Finish().substr(2)).Finish();
    std::string body = pickle.substr(0, pickle.size() - 2) + "s.";
    ExpectFailure(Open(PtFile(body, {{"0", six_}})).status(), StatusCode::kBadData, part);
  };
  const auto tensor = [] { return PickleWriter().Global("torch._utils", "_rebuild_tensor_v2"); };
  bad(tensor().Raw(")R"), "a tensor of unknown form");
  bad(tensor().Raw("(NK\1))tR"), "no storage");
  bad(tensor().Raw("()QK\1))tR"), "a storage of unknown form");
  bad(tensor().Raw("((").String("storage").Raw("N").String("0").String("cpu").Raw("K\6tQK\1))tR"),
      "a storage of unknown type");
  PickleWriter parameter;
  bad(parameter.Global("torch._utils", "_rebuild_parameter").Raw("N\x85R"), "without a tensor");
}

TEST_F(PtTest, RefusesOtherArchives) {
  const auto bad = [&](const std::string& file, const std::string& part) {
    ExpectFailure(Open(file).status(), StatusCode::kBadData, part);
  };
  const std::string pickle = PickleWriter().Raw("}").Finish();
  bad(testing::ZipFile({{"word/document.xml", "x"}}), "no data.pkl");
  bad(testing::ZipFile({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}}), "more than one data.pkl");
  bad(testing::ZipFile({{"a/data.pkl", pickle}, {"a/byteorder", "big"}}),
      "got byte order 'big', need 'little'");
  bad(testing::ZipFile({{"a/data.pkl", PickleWriter().Raw("]").Finish()}}),
      "the top level is not a dictionary");
  bad(testing::ZipFile({{"a/data.pkl", "garbage"}}), "not a pickle of protocol 2 to 5");
  bad(PtFile(PickleWriter().Global("os", "system").String("true").Raw("\x85R").Finish(), {}),
      "global 'os system' is not supported");
  bad("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "PyTorch before 1.6");
}

TEST_F(PtTest, ReadsTensorsBeyondFourGiB) {
  constexpr int64_t kHole = (int64_t{4} << 30) + 64;  // bytes; sparse
  constexpr int64_t kElements = kHole / 4 + 1;
  const std::string path = folder_.path("large.pt");
  {
    std::ofstream out(path, std::ios::binary);
    testing::ZipWriter writer(out);
    const std::vector<PtTensor> tensors = {
        {"last", "FloatStorage", "0", kElements, kElements - 1, {1}, {1}},
        {"whole", "FloatStorage", "0", kElements, 0, {kElements}, {1}},
        {"ends", "FloatStorage", "0", kElements, 0, {2}, {kElements - 1}}};
    writer.Add({.name = "a/data.pkl", .data = PickleWriter().Dict(tensors).Finish()});
    writer.Add(
        {.name = "a/data/0", .data = BytesOf<float>({7.5f}), .hole_bytes = kHole, .zip64 = true});
    writer.Finish(/*zip64=*/true);
    ASSERT_TRUE(out.good());
  }
  const auto opened = Checkpoint::Open(path);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(Floats(opened->Find("last")), std::vector<float>{7.5f});
  EXPECT_EQ(opened->Find("whole").bytes(), kHole + 4);
  EXPECT_EQ(ElementAsFloat(opened->Find("whole"), kElements - 1), 7.5f);
  EXPECT_EQ(Floats(opened->Find("ends")), (std::vector<float>{0, 7.5f}));
}

}  // namespace
}  // namespace mrt
