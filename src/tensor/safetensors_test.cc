#include "tensor/safetensors.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tensor/checkpoint.h"
#include "testing/expect_failure.h"
#include "testing/safetensors_writer.h"
#include "testing/temp_folder.h"

namespace mrt {
namespace {

using testing::BytesOf;
using testing::ExpectFailure;
using testing::SafetensorsBytes;
using testing::SafetensorsFile;

class SafetensorsTest : public ::testing::Test {
 protected:
  Result<Checkpoint> Open(const std::string& bytes) {
    return Checkpoint::Open(folder_.Write("model.safetensors", bytes));
  }
  /// One tensor "w" whose header object is `entry`, over `data_bytes` zeros.
  void ExpectBad(const std::string& entry, size_t data_bytes, const std::string& part) {
    SCOPED_TRACE(entry);
    const std::string header = "{\"w\":" + entry + "}";
    ExpectFailure(Open(SafetensorsBytes(header, std::string(data_bytes, '\0'))).status(),
                  StatusCode::kBadData, part);
  }

  testing::TempFolder folder_;
};

TEST_F(SafetensorsTest, ReadsDTypesShapesAndMetadata) {
  const std::string file =
      SafetensorsFile({{"a.f32", DType::kF32, {2, 3}, BytesOf<float>({1, 2, 3, 4, 5, -6.5f})},
                       {"b.bf16", DType::kBF16, {2}, BytesOf<uint16_t>({0x3fc0, 0xc000})},
                       {"c.f16", DType::kF16, {1, 1, 2}, BytesOf<uint16_t>({0x3e00, 0xc400})},
                       {"d.f64", DType::kF64, {}, BytesOf<double>({0.25})},
                       {"e.i32", DType::kI32, {2}, BytesOf<int32_t>({-7, 1 << 30})},
                       {"f.empty", DType::kF32, {0, 5}, ""},
                       {"g.i64", DType::kI64, {1}, BytesOf<int64_t>({int64_t{1} << 40})},
                       {"h.bool", DType::kBool, {3}, std::string("\1\0\1", 3)}},
                      R"({"model":"toy \"one\""})");
  const auto opened = Open(file);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->tensors().size(), 8u);
  EXPECT_EQ(opened->metadata().at("model"), "toy \"one\"");
  EXPECT_EQ(opened->Find("a.f32").shape, (Shape{2, 3}));
  EXPECT_EQ(ElementAsFloat(opened->Find("a.f32"), 5), -6.5f);
  EXPECT_EQ(ElementAsFloat(opened->Find("b.bf16"), 0), 1.5f);
  EXPECT_EQ(ElementAsFloat(opened->Find("b.bf16"), 1), -2.0f);
  EXPECT_EQ(ElementAsFloat(opened->Find("c.f16"), 0), 1.5f);
  EXPECT_EQ(ElementAsFloat(opened->Find("c.f16"), 1), -4.0f);
  EXPECT_EQ(opened->Find("d.f64").shape.rank(), 0);
  EXPECT_EQ(ElementAsFloat(opened->Find("d.f64"), 0), 0.25f);
  EXPECT_EQ(opened->Find("e.i32").as<int32_t>()[1], 1 << 30);
  EXPECT_FALSE(opened->Find("f.empty").empty());
  EXPECT_EQ(opened->Find("f.empty").bytes(), 0);
  EXPECT_EQ(opened->Find("h.bool").bytes(), 3);
}

TEST_F(SafetensorsTest, CopiesTensorsThatAreNotAligned) {
  const std::string file = SafetensorsFile(
      {{"a", DType::kU8, {1}, "x"}, {"b", DType::kF32, {2}, BytesOf<float>({3, 4})}}, "",
      /*pad_header=*/false);
  const auto opened = Open(file);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const ConstTensorView b = opened->Find("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % sizeof(float), 0u);
  EXPECT_EQ(b.as<float>()[1], 4.0f);
}

TEST_F(SafetensorsTest, AFileWithoutTensorsIsValid) {
  const auto opened = Open(SafetensorsBytes("{}      ", ""));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_TRUE(opened->tensors().empty());
}

TEST_F(SafetensorsTest, RefusesAWrongHeader) {
  const auto bad = [&](const std::string& file, const std::string& part) {
    ExpectFailure(Open(file).status(), StatusCode::kBadData, part);
  };
  const std::string length_over_end = BytesOf<uint64_t>({1000}) + "{}";
  const std::string length_over_limit = BytesOf<uint64_t>({0xffffffff}) + "{}";
  bad(length_over_end, "got 10 bytes, need 1008 for the header (cut short?)");
  bad(length_over_limit, "got a header of 4294967295 bytes, need at most 100000000");
  bad(BytesOf<uint64_t>({UINT64_MAX}) + "{}", "not a safetensors file");
  bad(BytesOf<int64_t>({INT64_MIN}) + "{}", "not a safetensors file");
  bad(SafetensorsBytes("{\"a\":", ""), "broken JSON");
  bad(SafetensorsBytes("{\"\xff\":1}", ""), "broken JSON");
  bad(SafetensorsBytes("{\"a\":1}", ""), "need an object with dtype");
  bad(SafetensorsBytes("{\"__metadata__\":{\"a\":1}}", ""), "'a' is not a string");
  bad(SafetensorsBytes("{\"__metadata__\":[]}", ""), "__metadata__ is not an object");
  bad(SafetensorsBytes("{\"a\\n\x7f\":1}", ""), "'a\\x0a\\x7f'");
  const std::string deep(100'000, '[');
  bad(SafetensorsBytes("{\"a\":" + deep + "}", ""), "nests deeper than 8");
  std::string closed = "{\"a\":" + deep + std::string(deep.size(), ']') + "}";
  bad(SafetensorsBytes(closed, ""), "nests deeper than 8");
}

TEST_F(SafetensorsTest, RefusesWrongEntries) {
  ExpectBad(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4, "got 4 bytes, need 8");
  ExpectBad(R"({"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]})", 2, "'F8_E4M3'");
  ExpectBad(R"({"dtype":7,"shape":[2],"data_offsets":[0,2]})", 2, "need an object with dtype");
  ExpectBad(R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})", 1, "the shape");
  ExpectBad(R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})", 1, "the shape");
  ExpectBad(R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})", 1, "the shape");
  ExpectBad(R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})", 1, "the shape");
  ExpectBad(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", 1, "the shape");
  ExpectBad(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0,
            "too large");
  ExpectBad(R"({"dtype":"U8","shape":[9223372036854775807,9223372036854775807,0],)"
            R"("data_offsets":[0,0]})",
            0, "too large");
  ExpectBad(R"({"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]})", 1,
            "the shape");
  ExpectBad(R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})", 1, "data_offsets");
  ExpectBad(R"({"dtype":"U8","shape":[1],"data_offsets":[0]})", 1, "data_offsets");
  ExpectBad(R"({"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]})", 1,
            "data_offsets");
  ExpectBad(
      R"({"dtype":"U8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]})", 1,
      "begins at byte 9223372036854775806, need 0");
  ExpectBad(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})", 4, "cut short");
  ExpectBad(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", 5, "got 5 bytes after");
  ExpectBad(R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})", 2, "begins at byte 1, need 0");
}

TEST_F(SafetensorsTest, RefusesOverlapsAndDuplicates) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::string b = R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]})";
  ExpectFailure(Open(SafetensorsBytes("{" + a + "," + b + "}", "123456")).status(),
                StatusCode::kBadData, "'b' begins at byte 2, need 4");
  ExpectFailure(Open(SafetensorsBytes("{" + a + "," + a + "}", "1234")).status(),
                StatusCode::kBadData, "duplicate name 'a'");
}

class SafetensorsIndexTest : public SafetensorsTest {
 protected:
  void SetUp() override {
    folder_.Write("m-1.safetensors",
                  SafetensorsFile({{"a", DType::kF32, {1}, BytesOf<float>({1})},
                                   {"extra", DType::kF32, {1}, BytesOf<float>({9})}},
                                  R"({"format":"pt"})"));
    folder_.Write("m-2.safetensors",
                  SafetensorsFile({{"b", DType::kF32, {1}, BytesOf<float>({2})}}));
  }
  Result<Checkpoint> OpenIndex(const std::string& json) {
    return Checkpoint::Open(folder_.Write("m.safetensors.index.json", json));
  }
};

TEST_F(SafetensorsIndexTest, JoinsShards) {
  const auto opened = OpenIndex(
      "{\n  \"metadata\": {\"total_size\": 8},\n"
      "  \"weight_map\": {\"a\": \"m-1.safetensors\", \"b\": \"m-2.safetensors\"}}");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->tensors().size(), 2u);
  EXPECT_EQ(ElementAsFloat(opened->Find("b"), 0), 2.0f);
  EXPECT_EQ(opened->metadata().at("format"), "pt");
}

TEST_F(SafetensorsIndexTest, IsFoundInAFolder) {
  folder_.Write("diffusion_pytorch_model.safetensors.index.json",
                R"({"weight_map":{"a":"m-1.safetensors"}})");
  const auto opened = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(ElementAsFloat(opened->Find("a"), 0), 1.0f);
}

TEST_F(SafetensorsIndexTest, RefusesWrongMaps) {
  const auto fails = [&](const std::string& json, StatusCode code, const std::string& part) {
    SCOPED_TRACE(json);
    ExpectFailure(OpenIndex(json).status(), code, part);
  };
  fails("{}", StatusCode::kBadData, "need an object weight_map");
  fails(R"({"weight_map":[]})", StatusCode::kBadData, "need an object weight_map");
  fails(R"({"weight_map":{"a":1}})", StatusCode::kBadData, "need the name of a file");
  fails(R"({"weight_map":{"a":"../m-1.safetensors"}})", StatusCode::kBadData, "need the name");
  fails(R"({"weight_map":{"a":"/etc/passwd"}})", StatusCode::kBadData, "need the name");
  fails(R"({"weight_map":{"a":".."}})", StatusCode::kBadData, "need the name");
  fails(R"({"weight_map":{"a":"m\u0000"}})", StatusCode::kBadData, "need the name");
  fails(R"({"weight_map":{"a":"m-3.safetensors"}})", StatusCode::kNotFound, "m-3.safetensors");
  fails(R"({"weight_map":{"b":"m-1.safetensors"}})", StatusCode::kBadData, "'b' is not in");
  fails(R"({"weight_map":{"a":"m-1.safetensors","a":"m-2.safetensors"}})", StatusCode::kBadData,
        "duplicate name 'a'");
  fails(R"({"weight_map":)", StatusCode::kBadData, "broken JSON");
}

}  // namespace
}  // namespace mrt
