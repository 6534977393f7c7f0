// The files of tests/golden/attention, read whole: what the tests of both attention kernels share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "tensor/checkpoint.h"

namespace mrt::testing {

/// One element of a batch. Tokens are ordered frame, row, column; q, k, v are exact in bfloat16.
struct GoldenAttention {
  std::string name;  // "causal3" or "batch2/1"
  int heads = 0, frames_q = 0, frames_kv = 0, rows = 0, cols = 0, head_dim = 0;
  int f_tied = 0, h_reduce = 0, w_reduce = 0, iterations = 0, causal_block_frames = 0;
  std::vector<double> q, out, grad_out, grad_q;  // [frames_q, rows, cols, heads, head_dim]
  std::vector<double> k, v, grad_k, grad_v;      // [frames_kv, rows, cols, heads, head_dim]
  std::vector<double> dense_out;                 // as out
};

/// The file's tensor, or nothing if it has none of that name: not every file holds gradients.
inline std::vector<double> BatchElement(const Checkpoint& file, const std::string& name,
                                        int64_t batch) {
  std::vector<double> values;
  const ConstTensorView tensor = file.Find(name);
  if (tensor.empty()) return values;
  const int64_t count = tensor.shape.elements() / tensor.shape[0];
  for (int64_t i = 0; i < count; ++i) values.push_back(ElementAsFloat(tensor, batch * count + i));
  return values;
}

/// All files, sorted by name; one entry per batch element.
inline std::vector<GoldenAttention> ReadGoldenAttention(const std::string& golden_dir) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(golden_dir + "/attention"))
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<GoldenAttention> all;
  for (const auto& path : paths) {
    const Result<Checkpoint> file = Checkpoint::Open(path.string());
    MRT_CHECK(file.ok());
    const auto number = [&](const char* key) { return std::stoi(file->metadata().at(key)); };
    const int64_t batch = file->Find("q").shape[0];
    for (int64_t b = 0; b < batch; ++b) {
      const auto values = [&](const char* tensor) { return BatchElement(*file, tensor, b); };
      std::string name = path.stem().string();
      if (batch > 1) name.append("/").append(std::to_string(b));
      all.push_back({.name = name,
                     .heads = number("heads"),
                     .frames_q = number("frames_q"),
                     .frames_kv = number("frames_k"),
                     .rows = number("height"),
                     .cols = number("width"),
                     .head_dim = number("head_dim"),
                     .f_tied = number("f_tied"),
                     .h_reduce = number("h_reduce"),
                     .w_reduce = number("w_reduce"),
                     .iterations = number("num_iters"),
                     .causal_block_frames = number("causal_block_frames"),
                     .q = values("q"),
                     .out = values("out"),
                     .grad_out = values("grad_out"),
                     .grad_q = values("grad_q"),
                     .k = values("k"),
                     .v = values("v"),
                     .grad_k = values("grad_k"),
                     .grad_v = values("grad_v"),
                     .dense_out = values("dense_out")});
    }
  }
  return all;
}

}  // namespace mrt::testing
