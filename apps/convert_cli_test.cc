// convert through the binary: what it makes is used by the other commands.
#include "testing/cli.h"
#include "testing/sanitizer.h"

namespace mrt::apps {
namespace {

using ::testing::HasSubstr;

const std::string kCheckpoint = kTree + "/checkpoints/self_forcing_dmd.pt";

// The miniature model's folder with `model` as its own transformer.
void CopyModel(const std::string& folder, const std::string& model) {
  fs::copy(kTree + "/wan_models/Wan2.1-T2V-1.3B", folder, fs::copy_options::recursive);
  fs::rename(model, folder + "/diffusion_pytorch_model.safetensors");
}

TEST_F(Cli, GeneratesTheSameFromAConvertedCheckpoint) {
  const Outcome converted = Run(
      {"convert", kCheckpoint + ":generator_ema", In("m.safetensors"), "--strip-prefix", "model."});
  ASSERT_EQ(converted.exit_code, 0) << converted.err;
  EXPECT_THAT(converted.out, HasSubstr("m.safetensors\n96 tensors, 3 MB\n"));
  EXPECT_THAT(converted.err, HasSubstr("4/4 MB"));
  CopyModel(In("model"), In("m.safetensors"));
  const std::vector<std::string> flags = {"--prompt", "a red ball", "--size",
                                          "80x48",    "--frames",   "9"};
  std::vector<std::string> own = {"generate", "--model", In("model"), "--out", In("a.rgb")};
  std::vector<std::string> pt = {"generate",  "--model", kTree,      "--checkpoint",
                                 kCheckpoint, "--out",   In("b.rgb")};
  for (auto* arguments : {&own, &pt}) {
    arguments->insert(arguments->end(), flags.begin(), flags.end());
    const Outcome outcome = Run(*arguments);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  EXPECT_EQ(ReadFile(In("a.rgb")).size(), size_t{9} * 80 * 48 * 3);
  EXPECT_EQ(ReadFile(In("a.rgb")), ReadFile(In("b.rgb")));
}

TEST_F(Cli, VerifiesAConvertedModel) {
  if (testing::kSanitized) GTEST_SKIP() << "conversion and verify are tested without the binary";
  fs::copy(kGolden + "/wan_dit", In("wan_dit"), fs::copy_options::recursive);
  const std::string model = In("wan_dit/diffusion_pytorch_model.safetensors");
  ASSERT_EQ(Run({"convert", kGolden + "/wan_dit", model, "--dtype", "f32"}).exit_code, 0);
  const Outcome outcome = Run({"verify", In("wan_dit")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(" 0 wrong, 0 skipped"));
}

TEST_F(Cli, GeneratesTheSameFromAnInt8Package) {
  const std::string package = kGolden + "/package";
  const Outcome converted = Run({"convert", package, In("int8"), "--quantize", "int8"});
  ASSERT_EQ(converted.exit_code, 0) << converted.err;
  EXPECT_THAT(converted.out, HasSubstr(", 20 quantised to int8\n"));
  const auto generate = [&](const std::string& model, const std::string& dtype,
                            const std::string& out) {
    return Run({"generate", "--model", model, "--dtype", dtype, "--prompt", "a red ball",
                "--frames", "9", "--no-cache", "--stats", In("stats.json"), "--out", In(out)});
  };
  ASSERT_EQ(generate(package, "int8", "a.rgb").exit_code, 0);
  ASSERT_EQ(generate(In("int8"), "auto", "b.rgb").exit_code, 0);
  EXPECT_THAT(ReadFile(In("stats.json")), HasSubstr("\"dtype\": \"int8\""));
  EXPECT_EQ(ReadFile(In("a.rgb")), ReadFile(In("b.rgb")));
  ASSERT_EQ(generate(package, "f32", "c.rgb").exit_code, 0);
  EXPECT_NE(ReadFile(In("a.rgb")), ReadFile(In("c.rgb")));
  const Outcome refused = generate(In("int8"), "f32", "d.rgb");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("holds int8 weights, need --dtype int8 or auto\n"));
  EXPECT_FALSE(fs::exists(In("d.rgb")));
  EXPECT_THAT(Run({"inspect", In("int8"), "--summary"}).out,
              HasSubstr("20 matrices as int8 with a scale for each row"));

  fs::copy(package + "/run_dense.safetensors", In("int8/run_dense.safetensors"));
  const Outcome verified = Run({"verify", In("int8"), "--dtype", "int8"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("allowed 2.00e-02"));
}

TEST_F(Cli, RefusesConversionsInOneLine) {
  ExpectRefusal(Run({"convert", kCheckpoint, In("m.safetensors")}), 2,
                "need one of: 'generator', 'generator_ema'");
  ExpectRefusal(Run({"convert", kCheckpoint, In("m.safetensors"), "--key", "ema"}), 1, "'ema'");
  ExpectRefusal(Run({"convert", kCheckpoint, In("m.safetensors"), "--dtype", "int8"}), 2,
                "--dtype");
  ExpectRefusal(Run({"convert", kCheckpoint}), 2, "output is required");
  ExpectRefusal(Run({"convert", In("absent"), In("m.safetensors")}), 1, "No such file");
}

}  // namespace
}  // namespace mrt::apps
