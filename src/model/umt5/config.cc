#include <string>

#include "model/umt5/relative_bias.h"
#include "model/umt5/umt5.h"

namespace mrt {
namespace {

constexpr int64_t kLayersMax = 1024;  // the XXL encoder has 24

// How many blocks are there, judged by any of their tensors: so that a single missing tensor is
// reported as that.
Result<int64_t> CountLayers(const Checkpoint& checkpoint) {
  const auto& tensors = checkpoint.tensors();
  const auto has_block = [&](int64_t i) {
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    const auto it = tensors.lower_bound(prefix);
    return it != tensors.end() && it->first.starts_with(prefix);
  };
  int64_t layers = 0;
  while (layers < kLayersMax && has_block(layers)) ++layers;
  for (const auto& [name, tensor] : tensors) {
    if (!name.starts_with("blocks.")) continue;
    const std::string index = name.substr(7, name.find('.', 7) - 7);
    const bool number =
        !index.empty() && index.find_first_not_of("0123456789") == index.npos && index.size() < 9;
    if (!number || std::stoll(index) >= layers)
      return BadData("[umt5] " + checkpoint.path() + ": got tensor " + name + " but " +
                     std::to_string(layers) + " consecutive blocks, need blocks without a gap");
  }
  return layers;
}

}  // namespace

Result<Umt5Config> Umt5Config::Read(const Checkpoint& checkpoint) {
  MRT_ASSIGN_OR_RETURN(const int64_t layers, CountLayers(checkpoint));
  const auto extent = [&](const std::string& name, int axis) -> int64_t {
    const ConstTensorView tensor = checkpoint.Find(name);
    return !tensor.empty() && tensor.shape.rank() == 2 ? tensor.shape[axis] : 0;
  };
  const std::string own_bias = "blocks.0.pos_embedding.embedding.weight";
  const std::string bias =
      checkpoint.Find(own_bias).empty() ? "pos_embedding.embedding.weight" : own_bias;
  const Umt5Config config{.vocabulary = extent("token_embedding.weight", 0),
                          .dim = extent("token_embedding.weight", 1),
                          .dim_attn = extent("blocks.0.attn.q.weight", 0),
                          .dim_ffn = extent("blocks.0.ffn.fc1.weight", 0),
                          .heads = extent(bias, 1),
                          .layers = layers,
                          .buckets = extent(bias, 0)};
  const auto fail = [&](const std::string& what) {
    return BadData("[umt5] " + checkpoint.path() + ": " + what);
  };
  if (config.vocabulary < 1 || config.dim < 1)
    return fail("got no token_embedding.weight, need [vocabulary, dim]");
  if (config.dim_attn < 1) return fail("got no blocks.0.attn.q.weight, need [dim_attn, dim]");
  if (config.dim_ffn < 1) return fail("got no blocks.0.ffn.fc1.weight, need [dim_ffn, dim]");
  if (config.heads < 1) return fail("got no " + own_bias + ", need [buckets, heads]");
  if (config.dim_attn % config.heads != 0)
    return fail("got attention width " + std::to_string(config.dim_attn) + ", need a multiple of " +
                std::to_string(config.heads) + " heads");
  if (!BucketsOk(config.buckets))
    return fail("got " + std::to_string(config.buckets) +
                " buckets of relative positions, need an even number from 4 to 254");
  return config;
}

}  // namespace mrt
