// The sizes of a Wan 2.1 transformer, from config.json and the tensors themselves.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "tensor/checkpoint.h"

namespace mrt {

struct WanConfig {
  int64_t dim = 0;         // width of the residual stream
  int64_t ffn_dim = 0;     // width inside the feed-forward layers
  int64_t freq_dim = 0;    // features of a timestep: half cosines, half sines
  int64_t num_heads = 0;   // attention heads; they divide dim
  int64_t num_layers = 0;  // blocks
  int64_t in_dim = 0;      // latent channels in
  int64_t out_dim = 0;     // latent channels out
  int64_t text_dim = 0;    // width of the text encoder's rows
  int64_t text_len = 0;    // text rows, padding included
  std::array<int64_t, 3> patch_size = {1, 2, 2};  // latent frames, rows, columns of one token
  float eps = 1e-6f;                              // of every norm
  std::string model_type = "t2v";
  bool independent_first_frame = false;  // the first chunk is a single latent frame

  int64_t head_dim() const { return dim / num_heads; }
  /// Latent pixels of one token.
  int64_t patch_elements() const { return patch_size[0] * patch_size[1] * patch_size[2]; }

  /// Ok if a transformer of these sizes can be built. InvalidArgument with got and need otherwise;
  /// Unavailable for what this build does not do (image-to-video, patches over several frames).
  Status Validate() const;

  /// Reads `config_json_path` and compares it with the tensors of `checkpoint`. A field that is not
  /// in the file comes from the tensors' shapes; num_heads and text_len show in no shape and must
  /// be there. NotFound: no such file or field. BadData: not JSON, a wrong type, or a size that
  /// contradicts a tensor. Tensors that are missing altogether are WanTransformer::Load's to
  /// report.
  static Result<WanConfig> Read(const std::string& config_json_path, const Checkpoint& checkpoint);
};

}  // namespace mrt
