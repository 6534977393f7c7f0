// Named, read-only tensors from a file: safetensors (one file, or shards with an index) or
// PyTorch's .pt/.pth.
//
// Files are hostile input: every length, offset, shape product and nesting depth is checked before
// use, and nothing in a file is ever executed. Tensors are mapped, not copied, where their layout
// allows it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace mrt {

class Checkpoint {
 public:
  /// Opens `path`:
  ///   FILE.safetensors                  one file
  ///   FILE.safetensors.index.json       shards, named by the index's weight_map, in the same
  ///   directory DIR                               diffusion_pytorch_model.safetensors or its
  ///   .index.json in it FILE.pt, FILE.pth                 zip + pickle
  /// `key` picks a sub-dictionary of a .pt file ("generator_ema"; "a.b" for nested ones); without a
  /// key the top level must hold the tensors. A wrong key is NotFound and lists the keys there are.
  /// The format is recognised by the file's first bytes, not by its name.
  static Result<Checkpoint> Open(const std::string& path, const std::string& key = "");

  /// An empty checkpoint to Add() to: synthetic weights, tests.
  Checkpoint() = default;

  /// Adds a tensor; `owner` keeps its bytes alive.
  void Add(const std::string& name, ConstTensorView tensor, std::shared_ptr<const void> owner);

  /// The tensor of that name, or an empty view.
  ConstTensorView Find(const std::string& name) const;

  /// All tensors by name, sorted.
  const std::map<std::string, ConstTensorView>& tensors() const { return tensors_; }

  /// `__metadata__` of a safetensors file.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// Where it came from, for messages.
  const std::string& path() const { return path_; }

  /// Renames every tensor that starts with `prefix` by cutting it; the others are dropped. Nothing
  /// happens if none starts with it.
  void StripPrefix(const std::string& prefix);

  /// Tells the system that mapped pages may leave memory: after the weights were packed.
  void DropPages() const;

 private:
  friend class SafetensorsReader;
  friend class PtReader;
  std::string path_;
  std::map<std::string, ConstTensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::vector<std::shared_ptr<const class MappedFile>> files_;
};

}  // namespace mrt
