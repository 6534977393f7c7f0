#include "monarchrt/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "testing/expect_failure.h"
#include "testing/pt_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/temp_folder.h"

namespace monarchrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

const std::string kGolden = MRT_GOLDEN_DIR;
const std::string kToyFolder = kGolden + "/toy_wan";
const std::string kToyModel = kToyFolder + "/wan_models/Wan2.1-T2V-1.3B";
const std::string kToyPt = kToyFolder + "/checkpoints/self_forcing_dmd.pt";

InspectReport InspectOk(const std::string& path, const std::string& key = "") {
  auto report = Inspect(path, key);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return report.ok() ? *std::move(report) : InspectReport();
}

TEST(Inspect, CountsOneFile) {
  const InspectReport report = InspectOk(kToyModel + "/models_t5_umt5-xxl-enc-bf16.pth");
  ASSERT_EQ(report.models.size(), 1u);
  const InspectModel& model = report.models[0];
  EXPECT_EQ(model.kind, ModelKind::kUmt5Encoder);
  EXPECT_EQ(model.key, "");
  EXPECT_EQ(model.tensors.size(), 22u);
  EXPECT_EQ(model.parameters, 107456);
  EXPECT_EQ(model.memory_bf16_bytes, 2 * 107456);
  EXPECT_EQ(model.memory_f32_bytes, 4 * 107456);
  EXPECT_THAT(model.dtype_bytes, ElementsAre(Pair("BF16", 2 * 107456)));
  EXPECT_EQ(model.tensors[0].name, "blocks.0.attn.k.weight");
  EXPECT_EQ(model.tensors[0].dtype, "BF16");
  EXPECT_THAT(model.tensors[0].shape, ElementsAre(64, 64));
  EXPECT_EQ(model.tensors[0].bytes, 64 * 64 * 2);
}

TEST(Inspect, RecognisesModelsByTheirTensors) {
  const std::pair<std::string, ModelKind> files[] = {
      {"wan_dit/diffusion_pytorch_model.safetensors", ModelKind::kWanTransformer},
      {"toy_wan/checkpoints/self_forcing_dmd.pt:generator", ModelKind::kWanTransformer},
      {"umt5/models_t5_umt5-xxl-enc-bf16.pth", ModelKind::kUmt5Encoder},
      {"wan_vae/Wan2.1_VAE.pth", ModelKind::kWanVae},
      {"taehv/taew2_1.pth", ModelKind::kTaehv},
      {"wan_vae/vae_case.safetensors", ModelKind::kUnknown},
  };
  for (const auto& [file, kind] : files) {
    const InspectReport report = InspectOk(kGolden + "/" + file);
    ASSERT_EQ(report.models.size(), 1u) << file;
    EXPECT_EQ(ModelKindName(report.models[0].kind), ModelKindName(kind)) << file;
  }
}

TEST(Inspect, ListsTheDictionariesOfAPtFile) {
  const InspectReport all = InspectOk(kToyPt);
  ASSERT_EQ(all.models.size(), 2u);
  EXPECT_EQ(all.models[0].key, "generator");
  EXPECT_EQ(all.models[1].key, "generator_ema");
  EXPECT_EQ(all.models[1].parameters, 764224);
  EXPECT_EQ(InspectOk(kToyPt, "generator_ema").models[0].key, "generator_ema");
  const InspectReport one = InspectOk(kToyPt + ":generator_ema");
  ASSERT_EQ(one.models.size(), 1u);
  EXPECT_EQ(one.models[0].key, "generator_ema");
  EXPECT_EQ(one.path, kToyPt);
}

TEST(Inspect, ListsAWholeTree) {
  const InspectReport report = InspectOk(kToyFolder);
  std::vector<std::string> found;
  for (const InspectModel& model : report.models)
    if (model.kind != ModelKind::kUnknown) found.push_back(ModelKindName(model.kind));
  EXPECT_THAT(found, ElementsAre("Wan transformer", "Wan transformer", "Wan VAE", "Wan transformer",
                                 "UMT5 text encoder"));
  EXPECT_EQ(report.models.size(), 8u);  // and run_0 to run_2
  EXPECT_TRUE(report.problems.empty());
}

TEST(Inspect, ListsShardsOnceAndProblems) {
  using mrt::DType;
  const mrt::testing::TempFolder folder;
  const auto shard = [&](const std::string& name) {
    folder.Write("model/" + name + ".safetensors",
                 mrt::testing::SafetensorsFile({{name, DType::kI8, {2}, "xy"}}));
  };
  shard("m-1");
  shard("m-2");
  shard("other");
  folder.Write("model/m.safetensors.index.json",
               R"({"weight_map":{"m-1":"m-1.safetensors","m-2":"m-2.safetensors"}})");
  folder.Write("broken.pth", "PK\3\4");
  folder.Write("notes.txt", "hello");
  const InspectReport report = InspectOk(folder.path());
  ASSERT_EQ(report.models.size(), 2u);
  EXPECT_EQ(report.models[0].tensors.size(), 2u);
  EXPECT_EQ(report.models[0].parameters, 0);
  EXPECT_THAT(report.models[0].dtype_bytes, ElementsAre(Pair("I8", 4)));
  EXPECT_THAT(report.models[1].path, HasSubstr("other.safetensors"));
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].path, folder.path("broken.pth"));
  EXPECT_THAT(FormatInspect(report, InspectDetail::kSummary), HasSubstr("cannot be read: [zip]"));
}

TEST(Inspect, SaysWhatIsWrong) {
  using mrt::testing::ExpectFailure;
  const mrt::testing::TempFolder folder;
  ExpectFailure(Inspect(folder.path()).status(), StatusCode::kNotFound, "no model files");
  ExpectFailure(Inspect(folder.path("absent")).status(), StatusCode::kNotFound, "No such file");
  ExpectFailure(Inspect(folder.path("absent:key")).status(), StatusCode::kNotFound, "No such file");
  ExpectFailure(Inspect(kToyPt, "ema").status(), StatusCode::kNotFound,
                "the keys are: 'generator', 'generator_ema'");
  ExpectFailure(Inspect(kToyFolder, "ema").status(), StatusCode::kInvalidArgument, "for a folder");
  ExpectFailure(Inspect(folder.Write("a.pt", "hello")).status(), StatusCode::kBadData,
                "not a safetensors file");
  const std::string empty =
      mrt::testing::PtFile(mrt::testing::PickleWriter().Raw("}").Finish(), {});
  ExpectFailure(Inspect(folder.Write("b.pt", empty)).status(), StatusCode::kNotFound,
                "no tensors under the top level");
}

TEST(Inspect, CountsInt8MatricesAsParameters) {
  using mrt::DType;
  const mrt::testing::TempFolder folder;
  const std::string four(16, '\0');
  const std::string path = folder.Write(
      "a.safetensors",
      mrt::testing::SafetensorsFile({{"blocks.0.ffn.0.weight", DType::kI8, {4, 2}, "12345678"},
                                     {"blocks.0.ffn.0.weight_scale", DType::kF32, {4}, four},
                                     {"blocks.0.ffn.2.weight", DType::kI8, {1, 1}, "x"},
                                     {"ids", DType::kI8, {2}, "xy"},
                                     {"x", DType::kF32, {4}, four}}));
  const InspectReport report = InspectOk(path);
  EXPECT_EQ(report.models[0].parameters, 4 * 2 + 4);
  EXPECT_EQ(report.models[0].int8_matrices, 1) << "one has no scales";
  EXPECT_EQ(report.models[0].memory_bf16_bytes, 2 * (4 * 2 + 4));
  EXPECT_THAT(FormatInspect(report, InspectDetail::kSummary),
              HasSubstr("  1 matrices as int8 with a scale for each row\n"));
}

TEST(FormatInspect, IsForPeople) {
  const std::string summary = FormatInspect(InspectOk(kToyPt), InspectDetail::kSummary);
  EXPECT_THAT(summary, HasSubstr("self_forcing_dmd.pt:generator_ema\n"
                                 "  Wan transformer, 96 tensors, 764,224 parameters\n"
                                 "  in the file: 2.9 MiB F32\n"
                                 "  memory for the weights: 1.5 MiB as BF16, 2.9 MiB as F32, "
                                 "933.1 KiB with --dtype int8\n"));
  EXPECT_THAT(summary, HasSubstr("all together: 2.9 MiB as BF16, 5.8 MiB as F32\n"));
  EXPECT_THAT(summary, Not(HasSubstr("blocks.0")));
  const std::string tensors =
      FormatInspect(InspectOk(kToyPt, "generator"), InspectDetail::kTensors);
  EXPECT_THAT(tensors,
              HasSubstr("    F32  [128]               model.blocks.0.cross_attn.k.bias\n"));
}

TEST(FormatInspect, EscapesWhatComesOutOfFiles) {
  const mrt::testing::TempFolder folder;
  const std::string pickle = mrt::testing::PickleWriter()
                                 .Dict({{"\x1b[2J\n\xff", "FloatStorage", "0", 1, 0, {1}, {1}}})
                                 .Finish();
  const InspectReport report =
      InspectOk(folder.Write("a.pt", mrt::testing::PtFile(pickle, {{"0", "1234"}})));
  EXPECT_THAT(FormatInspect(report, InspectDetail::kTensors), HasSubstr("\\x1b[2J\\x0a\\xff\n"));
  EXPECT_TRUE(mrt::Json::accept(InspectToJson(report)));
}

TEST(InspectToJson, HoldsTheReport) {
  const auto json = mrt::ParseJson(InspectToJson(InspectOk(kToyPt)));
  ASSERT_EQ(json["models"].size(), 2u);
  const auto& model = json["models"][1];
  EXPECT_EQ(model["key"], "generator_ema");
  EXPECT_EQ(model["kind"], "Wan transformer");
  EXPECT_EQ(model["parameters"], 764224);
  EXPECT_EQ(model["dtype_bytes"]["F32"], 4 * 764224);
  EXPECT_EQ(model["tensors"].size(), 96u);
  EXPECT_EQ(model["tensors"][0]["shape"], mrt::Json::array({128}));
  EXPECT_TRUE(json["problems"].empty());
}

}  // namespace
}  // namespace monarchrt
