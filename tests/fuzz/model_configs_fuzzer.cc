// The input is each of the JSON files of a model: config.json of the transformer, with and without
// its tensors, the VAE's latent statistics, and model.json of a package.
#include "model/vae/wan_vae.h"
#include "model/wan/config.h"
#include "model/wan/synthetic.h"
#include "pipeline/package.h"
#include "tests/fuzz/input_file.h"

namespace {

mrt::WanConfig SmallConfig() {
  mrt::WanConfig config = mrt::Wan21_1_3B();
  config.dim = 24;
  config.ffn_dim = 40;
  config.freq_dim = 16;
  config.num_heads = 2;
  config.num_layers = 2;
  config.text_dim = 32;
  return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static mrt::testing::InputFile input;
  static const mrt::Checkpoint none, small = mrt::SyntheticWan(SmallConfig());
  input.Write(mrt::testing::AsText(data, size));
  static_cast<void>(mrt::WanConfig::Read(input.path(), none));
  static_cast<void>(mrt::WanConfig::Read(input.path(), small));
  static_cast<void>(mrt::LatentStatistics::Read(input.path()));
  static_cast<void>(mrt::ReadPackage(input.path()));
  return 0;
}
