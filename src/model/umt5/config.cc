#include <string>

#include "model/umt5/relative_bias.h"
#include "model/umt5/umt5.h"
#include "tensor/printable.h"

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
      return BadData("[umt5] " + checkpoint.path() + ": got tensor " + Printable(name) + " but " +
                     std::to_string(layers) + " consecutive blocks, need blocks without a gap");
  }
  return layers;
}

}  // namespace

Result<Umt5Config> Umt5Config::Read(const Checkpoint& checkpoint) {
  MRT_ASSIGN_OR_RETURN(const int64_t layers, CountLayers(checkpoint));
  const auto matrix = [&](const std::string& name) {
    const Shape shape = checkpoint.Find(name).shape;
    return shape.rank() == 2 ? shape : Shape{0, 0};
  };
  // From the first block that has it: what other blocks lack is for Umt5Encoder::Open to list.
  const auto block_matrix = [&](const std::string& suffix) {
    Shape shape{0, 0};
    for (int64_t i = 0; i < layers && shape.elements() == 0; ++i)
      shape = matrix("blocks." + std::to_string(i) + "." + suffix);
    return shape;
  };
  const Shape embedding = matrix("token_embedding.weight");
  const Shape query = block_matrix("attn.q.weight"), up = block_matrix("ffn.fc1.weight");
  const std::string bias_name = "pos_embedding.embedding.weight";
  const Shape shared_bias = matrix(bias_name);
  const Shape bias = shared_bias.elements() > 0 ? shared_bias : block_matrix(bias_name);

  std::string absent;
  if (embedding.elements() == 0) absent += " token_embedding.weight [vocabulary, dim]";
  if (query.elements() == 0) absent += " blocks.N.attn.q.weight [dim_attn, dim]";
  if (up.elements() == 0) absent += " blocks.N.ffn.fc1.weight [dim_ffn, dim]";
  if (bias.elements() == 0) absent += " blocks.N." + bias_name + " [buckets, heads]";
  const std::string where = "[umt5] " + checkpoint.path() + ": ";
  if (!absent.empty()) return BadData(where + "no sizes, need the tensors" + absent);
  if (query[0] % bias[1] != 0)
    return BadData(where + "got attention width " + std::to_string(query[0]) +
                   ", need a multiple of " + std::to_string(bias[1]) + " heads");
  if (!BucketsOk(bias[0]))
    return BadData(where + "got " + std::to_string(bias[0]) +
                   " buckets of relative positions, need an even number from 4 to 254");
  return Umt5Config{.vocabulary = embedding[0],
                    .dim = embedding[1],
                    .dim_attn = query[0],
                    .dim_ffn = up[0],
                    .heads = bias[1],
                    .layers = layers,
                    .buckets = bias[0]};
}

}  // namespace mrt
