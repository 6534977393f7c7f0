#include "model/wan/weights.h"

namespace mrt {
namespace {

class TensorList {
 public:
  void Vector(const std::string& name, int64_t width) { list_.push_back({name, {width}}); }
  void Other(const std::string& name, const Shape& shape) { list_.push_back({name, shape}); }
  void Linear(const std::string& name, int64_t in, int64_t out) {
    list_.push_back({name + ".weight", {out, in}});
    list_.push_back({name + ".bias", {out}});
  }
  void Attention(const std::string& name, int64_t dim) {
    for (const char* part : {".q", ".k", ".v", ".o"}) Linear(name + part, dim, dim);
    Vector(name + ".norm_q.weight", dim);
    Vector(name + ".norm_k.weight", dim);
  }
  std::vector<NamedShape> Take() { return std::move(list_); }

 private:
  std::vector<NamedShape> list_;
};

}  // namespace

std::vector<NamedShape> WanTensors(const WanConfig& c) {
  TensorList list;
  list.Other("patch_embedding.weight",
             {c.dim, c.in_dim, c.patch_size[0], c.patch_size[1], c.patch_size[2]});
  list.Vector("patch_embedding.bias", c.dim);
  list.Linear("text_embedding.0", c.text_dim, c.dim);
  list.Linear("text_embedding.2", c.dim, c.dim);
  list.Linear("time_embedding.0", c.freq_dim, c.dim);
  list.Linear("time_embedding.2", c.dim, c.dim);
  list.Linear("time_projection.1", c.dim, 6 * c.dim);
  for (int64_t n = 0; n < c.num_layers; ++n) {
    const std::string block = "blocks." + std::to_string(n);
    list.Other(block + ".modulation", {1, 6, c.dim});
    list.Attention(block + ".self_attn", c.dim);
    list.Vector(block + ".norm3.weight", c.dim);
    list.Vector(block + ".norm3.bias", c.dim);
    list.Attention(block + ".cross_attn", c.dim);
    list.Linear(block + ".ffn.0", c.dim, c.ffn_dim);
    list.Linear(block + ".ffn.2", c.ffn_dim, c.dim);
  }
  list.Other("head.modulation", {1, 2, c.dim});
  list.Linear("head.head", c.dim, c.patch_elements() * c.out_dim);
  return list.Take();
}

}  // namespace mrt
