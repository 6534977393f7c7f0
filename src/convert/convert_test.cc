#include "monarchrt/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <vector>

#include "tensor/checkpoint.h"
#include "tensor/int8_weights.h"
#include "testing/expect_failure.h"
#include "testing/pt_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/temp_folder.h"

namespace monarchrt {
namespace {

namespace fs = std::filesystem;
using mrt::Checkpoint;
using mrt::ConstTensorView;
using mrt::DType;
using mrt::Shape;
using mrt::testing::BytesOf;
using mrt::testing::ExpectFailure;
using mrt::testing::PickleWriter;
using mrt::testing::PtFile;
using mrt::testing::PtTensor;
using mrt::testing::SafetensorsFile;
using ::testing::ElementsAre;
using ::testing::Pair;

const std::string kGolden = MRT_GOLDEN_DIR;
const std::string kToyPt = kGolden + "/toy_wan/checkpoints/self_forcing_dmd.pt";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ConvertTest : public ::testing::Test {
 protected:
  ConvertReport ConvertOk(const ConvertOptions& options) {
    const auto report = Convert(options);
    EXPECT_TRUE(report.ok()) << report.status().message();
    return report.ok() ? *report : ConvertReport();
  }
  Checkpoint Opened() {
    auto checkpoint = Checkpoint::Open(out_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    return checkpoint.ok() ? *std::move(checkpoint) : Checkpoint();
  }
  static std::string Bytes(const ConstTensorView& tensor) {
    return {static_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes())};
  }
  static void ExpectSameTensors(const Checkpoint& got, const Checkpoint& want,
                                const std::string& prefix = "") {
    ASSERT_EQ(got.tensors().size(), want.tensors().size());
    for (const auto& [name, tensor] : got.tensors()) {
      const ConstTensorView source = want.Find(prefix + name);
      ASSERT_FALSE(source.empty()) << name;
      EXPECT_EQ(tensor.dtype, source.dtype) << name;
      EXPECT_EQ(tensor.shape, source.shape) << name;
      EXPECT_EQ(Bytes(tensor), Bytes(source)) << name;
    }
  }
  // Nothing in the folder but what the test put there.
  size_t Files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_.path()), {}));
  }

  mrt::testing::TempFolder folder_;
  const std::string out_ = folder_.path("out.safetensors");
};

TEST_F(ConvertTest, KeepsEveryBitOfADictionary) {
  const ConvertReport report =
      ConvertOk({.input = kToyPt + ":generator_ema", .output = out_, .strip_prefix = "model."});
  EXPECT_EQ(report.key, "generator_ema");
  EXPECT_EQ(report.tensors, 96);
  EXPECT_EQ(report.rounded, 0);
  EXPECT_EQ(report.output_bytes, 4 * 764224);
  const Checkpoint out = Opened();
  ExpectSameTensors(out, *Checkpoint::Open(kToyPt, "generator_ema"), "model.");
  EXPECT_THAT(out.metadata(),
              ElementsAre(Pair("converted_from", "self_forcing_dmd.pt:generator_ema"),
                          Pair("format", "pt")));
  // Once more from the result, keeping what it says of itself; the same bytes but for the origin.
  const std::string again = folder_.path("again.safetensors");
  ConvertOk({.input = out_, .output = again});
  ExpectSameTensors(*Checkpoint::Open(again), out);
  EXPECT_EQ(Checkpoint::Open(again)->metadata().at("converted_from"), "out.safetensors");
}

TEST_F(ConvertTest, TakesTheOnlyDictionaryAndListsSeveral) {
  const PtTensor one = {"w", "FloatStorage", "0", 1, 0, {1}, {1}};
  const std::string only = folder_.Write(
      "only.pt",
      PtFile(PickleWriter().Raw("}").String("a").Dict({one}).Raw("s").Finish(), {{"0", "1234"}}));
  EXPECT_EQ(ConvertOk({.input = only, .output = out_}).key, "a");
  fs::remove(out_);
  ExpectFailure(Convert({.input = kToyPt, .output = out_}).status(), StatusCode::kInvalidArgument,
                "need one of: 'generator', 'generator_ema'");
  ExpectFailure(Convert({.input = kToyPt, .key = "ema", .output = out_}).status(),
                StatusCode::kNotFound, "the keys are: 'generator', 'generator_ema'");
  EXPECT_EQ(Files(), 1u);
}

TEST_F(ConvertTest, ConvertsOnlyFloatingPointTensors) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::string in = folder_.Write(
      "in.safetensors",
      SafetensorsFile({{"bool", DType::kBool, {2}, std::string("\0\1", 2)},
                       {"empty", DType::kF32, {0, 3}, ""},
                       {"f16", DType::kF16, {2}, BytesOf(std::vector<uint16_t>{0x3c00, 0x7c00})},
                       {"f32", DType::kF32, {2, 2}, BytesOf(std::vector<float>{1, nan, -inf, 3})},
                       {"f64", DType::kF64, {1}, BytesOf(std::vector<double>{0.5})},
                       {"i64", DType::kI64, {1}, BytesOf(std::vector<int64_t>{1LL << 40})},
                       {"one", DType::kF32, {}, BytesOf(std::vector<float>{2})}},
                      R"({"format":"mlx","note":"kept"})"));
  const ConvertReport report =
      ConvertOk({.input = in, .output = out_, .dtype = ConvertDType::kBF16});
  EXPECT_EQ(report.tensors, 7);
  EXPECT_EQ(report.rounded, 5);
  const Checkpoint out = Opened();
  EXPECT_EQ(out.metadata().at("format"), "mlx");
  EXPECT_EQ(out.metadata().at("note"), "kept");
  EXPECT_EQ(Bytes(out.Find("bool")), std::string("\0\1", 2));
  EXPECT_EQ(Bytes(out.Find("i64")), BytesOf(std::vector<int64_t>{1LL << 40}));
  EXPECT_EQ(out.Find("empty").dtype, DType::kBF16);
  EXPECT_EQ(out.Find("empty").shape, Shape({0, 3}));
  EXPECT_EQ(out.Find("one").shape, Shape());
  EXPECT_EQ(Bytes(out.Find("one")), BytesOf(std::vector<uint16_t>{0x4000}));
  EXPECT_EQ(Bytes(out.Find("f16")), BytesOf(std::vector<uint16_t>{0x3f80, 0x7f80}));
  EXPECT_EQ(Bytes(out.Find("f32")), BytesOf(std::vector<uint16_t>{0x3f80, 0x7fc0, 0xff80, 0x4040}));
  EXPECT_EQ(Bytes(out.Find("f64")), BytesOf(std::vector<uint16_t>{0x3f00}));
}

TEST_F(ConvertTest, MakesPtTensorsContiguousAndUnshared) {
  const std::vector<float> storage = {0, 1, 2, 3, 4, 5};
  const std::string in = folder_.Write(
      "in.pt", PtFile(PickleWriter()
                          .Dict({{"expanded", "FloatStorage", "0", 6, 2, {3}, {0}},
                                 {"tail", "FloatStorage", "0", 6, 4, {2}, {1}},
                                 {"transposed", "FloatStorage", "0", 6, 0, {3, 2}, {1, 3}},
                                 {"whole", "FloatStorage", "0", 6, 0, {2, 3}, {3, 1}, true},
                                 {"zero_dim", "LongStorage", "1", 1, 0, {}, {}}})
                          .Finish(),
                      {{"0", BytesOf(storage)}, {"1", BytesOf(std::vector<int64_t>{-7})}}));
  EXPECT_EQ(ConvertOk({.input = in, .output = out_}).output_bytes, 4 * 3 + 4 * 2 + 24 + 24 + 8);
  const Checkpoint out = Opened();
  EXPECT_EQ(Bytes(out.Find("expanded")), BytesOf(std::vector<float>{2, 2, 2}));
  EXPECT_EQ(Bytes(out.Find("tail")), BytesOf(std::vector<float>{4, 5}));
  EXPECT_EQ(Bytes(out.Find("transposed")), BytesOf(std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(Bytes(out.Find("whole")), BytesOf(storage));
  EXPECT_EQ(Bytes(out.Find("zero_dim")), BytesOf(std::vector<int64_t>{-7}));
}

TEST_F(ConvertTest, JoinsShards) {
  folder_.Write("m-1.safetensors", SafetensorsFile({{"a", DType::kI8, {2}, "xy"}}));
  folder_.Write("m-2.safetensors", SafetensorsFile({{"b", DType::kI8, {1}, "z"}}));
  const std::string index =
      folder_.Write("diffusion_pytorch_model.safetensors.index.json",
                    R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  ConvertOk({.input = folder_.path(), .output = out_});
  EXPECT_EQ(Bytes(Opened().Find("a")), "xy");
  EXPECT_EQ(Bytes(Opened().Find("b")), "z");
  for (const std::string& input : {index, folder_.path("m-2.safetensors"), folder_.path("link")}) {
    fs::remove(folder_.path("link"));
    fs::create_hard_link(folder_.path("m-2.safetensors"), folder_.path("link"));
    ExpectFailure(Convert({.input = index, .output = input}).status(), StatusCode::kInvalidArgument,
                  "as input and output");
  }
  EXPECT_TRUE(Checkpoint::Open(index).ok());
}

// More than one piece, with a tail, and what progress says of it.
TEST_F(ConvertTest, CopiesLargeTensorsInPieces) {
  std::vector<float> values((size_t{1} << 20) + 5);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251);
  const auto elements = static_cast<int64_t>(values.size());
  const std::string in = folder_.Write(
      "in.safetensors", SafetensorsFile({{"a", DType::kF32, {elements}, BytesOf(values)}}));
  std::vector<int64_t> seen;
  ASSERT_TRUE(
      Convert({.input = in, .output = out_, .dtype = ConvertDType::kF16}, [&](int64_t done,
                                                                              int64_t total) {
        EXPECT_EQ(total, 2 * elements);
        seen.push_back(done);
      }).ok());
  EXPECT_THAT(seen, ElementsAre(2 << 20, 2 * elements));
  ASSERT_TRUE(
      Convert(
          {.input = out_, .output = folder_.path("back.safetensors"), .dtype = ConvertDType::kF32})
          .ok());
  EXPECT_EQ(Bytes(Checkpoint::Open(folder_.path("back.safetensors"))->Find("a")), BytesOf(values));
}

TEST_F(ConvertTest, RefusesWhatWouldLoseNumbersOrNames) {
  const std::string in = folder_.Write(
      "in.safetensors",
      SafetensorsFile({{"p.a", DType::kF32, {2}, BytesOf(std::vector<float>{1, -7e4})},
                       {"p.b", DType::kI8, {1}, "x"}}));
  ExpectFailure(Convert({.input = in, .output = out_, .dtype = ConvertDType::kF16}).status(),
                StatusCode::kInvalidArgument,
                "tensor 'p.a' holds -70000, which is infinite as F16");
  ExpectFailure(Convert({.input = in, .output = out_, .strip_prefix = "p.a"}).status(),
                StatusCode::kInvalidArgument, "the tensor 'p.a', need names that go on after");
  ExpectFailure(Convert({.input = in, .output = out_, .strip_prefix = "q."}).status(),
                StatusCode::kInvalidArgument, "'p.a'");
  ExpectFailure(Convert({.input = in, .key = "a", .output = out_}).status(),
                StatusCode::kInvalidArgument, "need none for a safetensors file");
  ConvertOk({.input = in, .output = out_, .dtype = ConvertDType::kBF16});
  EXPECT_EQ(Files(), 2u);
}

// x.weight = values * scales, off by half a scale at most; everything else as it was.
TEST_F(ConvertTest, QuantizesTheMatricesOfBlocks) {
  const ConvertReport report = ConvertOk({.input = kToyPt + ":generator_ema",
                                          .output = out_,
                                          .dtype = ConvertDType::kBF16,
                                          .quantize = ConvertQuantize::kInt8,
                                          .strip_prefix = "model."});
  EXPECT_EQ(report.quantized, 3 * 10);
  EXPECT_EQ(report.tensors, 96 + 30);
  EXPECT_EQ(report.rounded, 96 - 30);
  const Checkpoint in = *Checkpoint::Open(kToyPt, "generator_ema"), out = Opened();
  EXPECT_TRUE(mrt::HasInt8Weights(out));
  int64_t bytes = 0;
  for (const auto& [name, tensor] : out.tensors()) {
    bytes += tensor.bytes();
    const ConstTensorView source = in.Find("model." + name);
    if (source.empty() || !mrt::IsBlockMatrix(name)) continue;
    ASSERT_EQ(tensor.dtype, DType::kI8);
    ASSERT_EQ(tensor.shape, source.shape);
    const ConstTensorView scales = out.Find(name + "_scale");
    const int64_t width = source.shape[1];
    ASSERT_EQ(scales.shape, Shape({source.shape[0]}));
    for (int64_t i = 0; i < source.shape.elements(); ++i) {
      const double scale = scales.as<float>()[i / width];
      const double value = scale * static_cast<const int8_t*>(tensor.data)[i];
      ASSERT_LE(std::abs(value - mrt::ElementAsFloat(source, i)), 0.5001 * scale) << name;
    }
  }
  EXPECT_EQ(report.output_bytes, bytes);
  // Scales stay float32 in another conversion, and int8 stays int8: all bits but of the others.
  const std::string again = folder_.path("again.safetensors");
  EXPECT_EQ(ConvertOk({.input = out_,
                       .output = again,
                       .dtype = ConvertDType::kBF16,
                       .quantize = ConvertQuantize::kInt8})
                .quantized,
            0);
  ExpectSameTensors(*Checkpoint::Open(again), out);
}

TEST_F(ConvertTest, RefusesWhatInt8CannotHold) {
  const auto convert = [&](const std::string& name, const std::vector<int64_t>& shape,
                           std::vector<float> values) {
    int64_t elements = 1;
    for (const int64_t dim : shape) elements *= dim;
    values.resize(static_cast<size_t>(elements), 1.0f);
    const std::string in = folder_.Write(
        "in.safetensors", SafetensorsFile({{name, DType::kF32, shape, BytesOf(values)}}));
    return Convert({.input = in, .output = out_, .quantize = ConvertQuantize::kInt8}).status();
  };
  const std::string name = "blocks.0.ffn.0.weight";
  EXPECT_TRUE(convert(name, {2, 3}, {}).ok());
  fs::remove(out_);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
    ExpectFailure(convert(name, {2, 3}, {1, 2, 3, 4, bad}), StatusCode::kInvalidArgument,
                  "tensor 'blocks.0.ffn.0.weight' holds NaN or infinity in row 1");
  ExpectFailure(convert(name, {6}, {}), StatusCode::kInvalidArgument, "is [6], need a matrix");
  ExpectFailure(convert(name, {1, 65537}, {}), StatusCode::kInvalidArgument, "65536 columns");
  ExpectFailure(convert("blocks.0.attn.q.weight", {2, 3}, {}), StatusCode::kInvalidArgument,
                "got no matrix of a transformer's block");
  EXPECT_EQ(Files(), 1u);
}

TEST_F(ConvertTest, MakesAPackageOfAPackage) {
  const std::string in = kGolden + "/package", out = folder_.path("int8");
  const ConvertReport report =
      ConvertOk({.input = in, .output = out, .quantize = ConvertQuantize::kInt8});
  EXPECT_EQ(report.quantized, 2 * 10);
  EXPECT_TRUE(mrt::HasInt8Weights(*Checkpoint::Open(out + "/transformer.safetensors")));
  for (const std::string file : {"/text_encoder.safetensors", "/autoencoder.safetensors"})
    ExpectSameTensors(*Checkpoint::Open(out + file), *Checkpoint::Open(in + file));
  EXPECT_EQ(ReadFile(out + "/spiece.model"), ReadFile(in + "/spiece.model"));
  const auto compact = [](std::string text) {
    std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
    return text;
  };
  EXPECT_EQ(compact(ReadFile(out + "/model.json")), compact(ReadFile(in + "/model.json")));
  const auto fails = [&](const ConvertOptions& options, StatusCode code, const std::string& what) {
    ExpectFailure(Convert(options).status(), code, what);
  };
  fails({.input = in, .output = out}, StatusCode::kInvalidArgument, "is there, need a new name");
  // As a conversion leaves it that is stopped on the way.
  const std::string part = folder_.path("part");
  fs::create_directory(part);
  fails({.input = in, .output = part}, StatusCode::kInvalidArgument,
        "is there without a model.json, need a new name; if");
  fs::remove(part);
  fails({.input = in, .key = "a", .output = folder_.path("b")}, StatusCode::kInvalidArgument,
        "need none for a package");
  fails({.input = in, .output = folder_.path("no/b")}, StatusCode::kIoError, "cannot make");
  // Nothing is left of what fails on the way: half of the autoencoder is too large for f16.
  const std::string bad = folder_.path("bad");
  fs::copy(in, bad);
  fs::permissions(bad, fs::perms::owner_all);
  const std::string large =
      SafetensorsFile({{"a", DType::kF32, {1}, BytesOf(std::vector<float>{1e38f})}});
  folder_.Write("bad/autoencoder.safetensors", large);
  fails({.input = bad, .output = folder_.path("c"), .dtype = ConvertDType::kF16},
        StatusCode::kInvalidArgument, "infinite as F16");
  const std::string start = R"({"format":"monarchrt model 1")";
  for (const auto& [text, what] : std::vector<std::pair<std::string, std::string>>{
           {"[]", "is not a JSON object"},
           {"{}", "got format '', need 'monarchrt model 1'"},
           {R"({"format":"monarchrt model 2\n","files":{}})",
            "got format 'monarchrt model 2\\x0a'"},
           {R"({"format":1,"files":{}})", "got format ''"},
           {start + "}", "files is not an object"},
           {start + R"(,"files":{"transformer":"../x"}})", "files.transformer is not the name"},
           {std::string(20, '['), "nested too deep"},
           {start + R"(,"note":"[[[[[[[[[[","files":{}})", "files.transformer is not the name"},
           {std::string((1 << 20) + 1, ' '), "need at most 1048576"}}) {
    folder_.Write("bad/model.json", text);
    fails({.input = bad, .output = folder_.path("c")}, StatusCode::kBadData, what);
  }
  EXPECT_EQ(Files(), 2u);
}

TEST_F(ConvertTest, LeavesTheOutputAsItWasAfterAFailure) {
  const std::string in =
      folder_.Write("in.safetensors",
                    SafetensorsFile({{"a", DType::kF32, {1}, BytesOf(std::vector<float>{1e38f})}}));
  folder_.Write("out.safetensors", "old");
  const auto convert = [&](const std::string& from, const std::string& to) {
    return Convert({.input = from, .output = to, .dtype = ConvertDType::kF16}).status();
  };
  ExpectFailure(convert(in, out_), StatusCode::kInvalidArgument, "infinite");
  ExpectFailure(convert(folder_.path("absent.pt"), out_), StatusCode::kNotFound, "absent.pt");
  ExpectFailure(convert(folder_.path(), out_), StatusCode::kNotFound, "no diffusion_pytorch_model");
  ExpectFailure(convert(folder_.Write("bad.pt", "PK\3\4"), out_), StatusCode::kBadData, "[zip]");
  ExpectFailure(convert("/dev/zero", out_), StatusCode::kInvalidArgument, "need a regular file");
  EXPECT_EQ(ReadFile(out_), "old");
  ExpectFailure(convert(in, in), StatusCode::kInvalidArgument, "as input and output");
  ExpectFailure(convert(in, folder_.path()), StatusCode::kInvalidArgument, "directory");
  ExpectFailure(convert(in, folder_.path("no/out")), StatusCode::kNotFound, "does not exist");
  ExpectFailure(convert(in, "/dev/full"), StatusCode::kInvalidArgument, "not a regular file");
  ExpectFailure(convert(in, ""), StatusCode::kInvalidArgument, "empty");
  EXPECT_EQ(Files(), 3u);
}

// A limit on the size of files stands for a full disk.
TEST_F(ConvertTest, SaysThatTheDiskIsFull) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {.rlim_cur = 100'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = Convert({.input = kToyPt, .key = "generator", .output = out_}).status();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ExpectFailure(status, StatusCode::kIoError, "cannot write");
  EXPECT_EQ(Files(), 0u);
}

}  // namespace
}  // namespace monarchrt
