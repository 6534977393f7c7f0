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
#include "tensor/loaded_tensors.h"
#include "tensor/tensor.h"

namespace mrt {

/// "FILE:key" taken apart, as users write it.
struct CheckpointName {
  std::string path;
  std::string key;  // empty: none

  /// The key is what follows the last colon, unless there is a file of the whole name.
  static CheckpointName Split(const std::string& text);
};

class Checkpoint {
 public:
  /// Opens `path`, which is one of:
  ///   - a safetensors file;
  ///   - the index of a sharded one (FILE.safetensors.index.json), the shards lying beside it;
  ///   - a folder with diffusion_pytorch_model.safetensors or its .index.json in it;
  ///   - a .pt or .pth file (zip and pickle).
  /// The format is recognised by the file's first bytes, not by its name.
  /// `key` picks a sub-dictionary of a .pt file ("generator_ema"; "a.b" for nested ones); without a
  /// key the top level must hold the tensors. A wrong key is NotFound and lists the keys there are;
  /// a key for another format is InvalidArgument.
  static Result<Checkpoint> Open(const std::string& path, const std::string& key = "");

  /// The keys of a .pt file under which there are tensors, in the order of the file; "" means the
  /// top level. For another format, and for a .pt file whose top level holds tensors, just "".
  static Result<std::vector<std::string>> Keys(const std::string& path);

  /// An empty checkpoint to Add() to: synthetic weights, tests.
  Checkpoint() = default;

  /// Adds a tensor; `owner` keeps its bytes alive.
  void Add(const std::string& name, ConstTensorView tensor, std::shared_ptr<const void> owner);

  /// The tensor of that name, or an empty view.
  ConstTensorView Find(const std::string& name) const;

  /// All tensors by name, sorted.
  const std::map<std::string, ConstTensorView>& tensors() const { return loaded_.tensors; }

  /// `__metadata__` of a safetensors file.
  const std::map<std::string, std::string>& metadata() const { return loaded_.metadata; }

  /// Where it came from, for messages.
  const std::string& path() const { return path_; }

  /// The files that are mapped: one, or the shards.
  std::vector<std::string> file_paths() const;

  /// Renames every tensor that starts with `prefix` by cutting it; the others are dropped. Nothing
  /// happens if none starts with it.
  void StripPrefix(const std::string& prefix);

  /// Tells the files of models apart without reading them whole: 64 hexadecimal digits over the
  /// size and the time of writing of every file, the name, dtype and shape of every tensor, and of
  /// its bytes 4 KiB each at the start, in the middle and at the end. So it notices another model,
  /// a file written anew and weights changed as training changes them; it does not notice bytes
  /// between the samples that were changed by somebody who then set the time of writing back.
  /// Empty if no file is mapped.
  std::string Fingerprint() const;

  /// Ok if no mapped file has changed since it was opened, else BadData that names it: to be asked
  /// after the last look at the tensors.
  Status CheckUnchanged() const;

  /// Tells the system that mapped pages may leave memory: after the weights were packed.
  void DropPages() const;

 private:
  std::string path_;
  LoadedTensors loaded_;
};

}  // namespace mrt
