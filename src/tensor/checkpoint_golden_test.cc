// Every golden file, read and compared with what PyTorch read out of it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "tensor/checkpoint.h"

namespace mrt {
namespace {

struct GoldenFile {
  const char* path;  // in tests/golden
  const char* key;
  size_t metadata;  // entries
  size_t tensors;
  int64_t elements;  // of all tensors
  double checksum;   // of all tensors: sum of |x[i]| * (1 + i % 97), which sees the order too
};

constexpr GoldenFile kGoldenFiles[] = {
    {"attention/all_tiles.safetensors", "", 13, 9, 159744, 3107976.567087748},
    {"attention/batch2.safetensors", "", 13, 9, 331776, 6894383.901407369},
    {"attention/causal3.safetensors", "", 13, 8, 86016, 1901444.2668863279},
    {"attention/frame_tile.safetensors", "", 13, 9, 115200, 2272142.232698374},
    {"attention/h_reduce2.safetensors", "", 13, 9, 319488, 6252792.879237807},
    {"attention/iterations2.safetensors", "", 13, 9, 84480, 1650725.7399039108},
    {"attention/iterations4.safetensors", "", 13, 9, 38080, 754500.2444898875},
    {"attention/sharp.safetensors", "", 13, 9, 130560, 9563911.282172099},
    {"attention/tied_frames3.safetensors", "", 13, 9, 149760, 2904708.5393616618},
    {"attention/w_reduce4.safetensors", "", 13, 9, 239616, 4701195.894392835},
    {"attention/wan_frame.safetensors", "", 13, 4, 1198080, 39229438.95787657},
    {"package/autoencoder.safetensors", "", 0, 128, 94043, 191449.0941747129},
    {"package/run_dense.safetensors", "", 7, 7, 169876, 1315613.7197057218},
    {"package/run_monarch.safetensors", "", 7, 7, 108820, 873944.5222885502},
    {"package/text_encoder.safetensors", "", 0, 12, 19648, 423993.9813094139},
    {"package/transformer.safetensors", "", 0, 69, 81184, 395262.0089624673},
    {"taehv/taehv_case.safetensors", "", 1, 4, 546816, 9111692.555798775},
    {"taehv/taew2_1.pth", "", 0, 128, 315867, 776778.4405207038},
    {"toy_wan/checkpoints/self_forcing_dmd.pt", "generator", 0, 96, 764224, 3033389.712451451},
    {"toy_wan/checkpoints/self_forcing_dmd.pt", "generator_ema", 0, 96, 764224, 3025080.0909356433},
    {"toy_wan/run_0.safetensors", "", 9, 6, 272800, 7330720.314673212},
    {"toy_wan/run_1.safetensors", "", 9, 6, 272800, 7398020.6524362285},
    {"toy_wan/run_2.safetensors", "", 9, 6, 272800, 7271506.7825353565},
    {"toy_wan/wan_models/Wan2.1-T2V-1.3B/Wan2.1_VAE.pth", "", 0, 194, 924491, 1754532.382036089},
    {"toy_wan/wan_models/Wan2.1-T2V-1.3B/diffusion_pytorch_model.safetensors", "", 0, 96, 764224,
     3022313.398048712},
    {"toy_wan/wan_models/Wan2.1-T2V-1.3B/models_t5_umt5-xxl-enc-bf16.pth", "", 0, 22, 107456,
     513666.1464773491},
    {"umt5/models_t5_umt5-xxl-enc-bf16.pth", "", 0, 32, 148672, 704379.1790685207},
    {"umt5/t5_cases.safetensors", "", 4, 8, 8320, 554437.716671984},
    {"wan_dit/bidirectional_dense.safetensors", "", 2, 3, 71168, 3263283.9176263665},
    {"wan_dit/bidirectional_monarch.safetensors", "", 2, 3, 71168, 3251792.171559153},
    {"wan_dit/diffusion_pytorch_model.safetensors", "", 0, 69, 2177856, 6072012.797758309},
    {"wan_dit/rollout_continuation_dense.safetensors", "", 11, 5, 140288, 5831921.917826617},
    {"wan_dit/rollout_continuation_monarch.safetensors", "", 11, 5, 140288, 5835176.728368127},
    {"wan_dit/rollout_dense.safetensors", "", 9, 6, 186372, 7846224.395664884},
    {"wan_dit/rollout_dense_window.safetensors", "", 9, 6, 186372, 7859024.536469644},
    {"wan_dit/rollout_first_frame_dense.safetensors", "", 11, 5, 124928, 5180955.931181181},
    {"wan_dit/rollout_first_frame_monarch.safetensors", "", 11, 5, 124928, 5208791.963584786},
    {"wan_dit/rollout_independent_first_dense.safetensors", "", 11, 4, 136448, 5665629.923077369},
    {"wan_dit/rollout_independent_first_monarch.safetensors", "", 11, 4, 136448,
     5658452.2221677415},
    {"wan_dit/rollout_monarch.safetensors", "", 9, 6, 186372, 7841724.233648083},
    {"wan_dit/rollout_monarch_iters2.safetensors", "", 9, 6, 186372, 7840357.540266454},
    {"wan_dit/rollout_monarch_tiles.safetensors", "", 9, 6, 186372, 7841071.383414838},
    {"wan_dit/rollout_monarch_two_steps.safetensors", "", 9, 6, 117250, 5197628.3489418775},
    {"wan_dit/rollout_monarch_window.safetensors", "", 9, 6, 186372, 7853346.202594145},
    {"wan_dit/rollout_prompt_switch_dense.safetensors", "", 11, 5, 176896, 7272152.2347104475},
    {"wan_dit/rollout_prompt_switch_monarch.safetensors", "", 11, 5, 176896, 7262829.221182099},
    {"wan_vae/Wan2.1_VAE.pth", "", 0, 194, 924491, 1751674.6226117979},
    {"wan_vae/vae_case.safetensors", "", 1, 4, 491520, 11880135.799000787},
};

double Checksum(const ConstTensorView& tensor) {
  double sum = 0;
  for (int64_t i = 0; i < tensor.shape.elements(); ++i) {
    const double x =
        tensor.dtype == DType::kI32 ? tensor.as<int32_t>()[i] : ElementAsFloat(tensor, i);
    sum += std::abs(x) * static_cast<double>(1 + i % 97);
  }
  return sum;
}

Checkpoint OpenGolden(const std::string& path, const std::string& key = "") {
  auto opened = Checkpoint::Open(std::string(MRT_GOLDEN_DIR "/") + path, key);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return opened.ok() ? *std::move(opened) : Checkpoint();
}

TEST(GoldenFiles, HoldWhatPyTorchReads) {
  for (const GoldenFile& golden : kGoldenFiles) {
    SCOPED_TRACE(std::string(golden.path) + ":" + golden.key);
    const Checkpoint checkpoint = OpenGolden(golden.path, golden.key);
    EXPECT_EQ(checkpoint.tensors().size(), golden.tensors);
    EXPECT_EQ(checkpoint.metadata().size(), golden.metadata);
    int64_t elements = 0;
    double checksum = 0;
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      elements += tensor.shape.elements();
      checksum += Checksum(tensor);
    }
    EXPECT_EQ(elements, golden.elements);
    EXPECT_NEAR(checksum, golden.checksum, 1e-10 * golden.checksum);  // order of the double sums
  }
}

TEST(GoldenFiles, AreAllInTheTable) {
  std::set<std::string> listed, found;
  for (const GoldenFile& golden : kGoldenFiles) listed.insert(golden.path);
  const std::filesystem::path root = MRT_GOLDEN_DIR;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::string extension = entry.path().extension();
    if (extension == ".safetensors" || extension == ".pt" || extension == ".pth")
      found.insert(entry.path().lexically_relative(root));
  }
  EXPECT_EQ(listed, found);
}

TEST(GoldenFiles, HaveNamesShapesAndValues) {
  const Checkpoint vae = OpenGolden("wan_vae/Wan2.1_VAE.pth");
  const ConstTensorView conv = vae.Find("encoder.middle.2.residual.6.weight");
  EXPECT_EQ(conv.dtype, DType::kBF16);
  EXPECT_EQ(conv.shape, (Shape{32, 32, 3, 3, 3}));
  EXPECT_EQ(ElementAsFloat(conv, conv.shape.elements() - 1), -0.03173828125f);
  EXPECT_EQ(ElementAsFloat(vae.Find("conv1.bias"), 0), -0.05419921875f);
  EXPECT_TRUE(vae.Find("conv1").empty());

  const Checkpoint tiny = OpenGolden("taehv/taew2_1.pth");
  EXPECT_EQ(tiny.Find("decoder.1.bias").dtype, DType::kF16);
  EXPECT_EQ(ElementAsFloat(tiny.Find("decoder.1.bias"), 0), 0.004638671875f);

  const Checkpoint case_ = OpenGolden("attention/wan_frame.safetensors");
  EXPECT_EQ(case_.Find("k").shape, (Shape{1, 3120, 1, 128}));
  EXPECT_EQ(case_.Find("out").dtype, DType::kF32);
  EXPECT_EQ(case_.metadata().at("width"), "52");
}

TEST(GoldenFiles, NestedKeysPickDifferentWeights) {
  const char* const file = "toy_wan/checkpoints/self_forcing_dmd.pt";
  const char* const name = "model.blocks.0.cross_attn.k.bias";
  EXPECT_EQ(ElementAsFloat(OpenGolden(file, "generator").Find(name), 0), 0.0001964569091796875f);
  EXPECT_EQ(ElementAsFloat(OpenGolden(file, "generator_ema").Find(name), 0), 0.1953125f);
}

TEST(GoldenFiles, AFolderOfAModelOpens) {
  const Checkpoint model = OpenGolden("wan_dit");
  EXPECT_EQ(model.tensors().size(), 69u);
  model.DropPages();
  EXPECT_TRUE(std::isfinite(Checksum(model.Find("patch_embedding.weight"))));
}

}  // namespace
}  // namespace mrt
