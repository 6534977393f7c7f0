// A checkpoint of any readable format becomes one safetensors file, in another dtype if wanted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "monarchrt/export.h"
#include "monarchrt/status.h"

namespace monarchrt {

enum class ConvertDType {
  kKeep,
  kF32,
  kBF16,
  kF16,
};

enum class ConvertQuantize {
  kNone,
  kInt8,  // the matrices of a Wan transformer's blocks, as --dtype int8 computes with them
};

struct ConvertOptions {
  /// safetensors, an index of shards, a folder with one of these as diffusion_pytorch_model, .pt or
  /// .pth. FILE:key works if there is no file of that whole name. A package folder, with
  /// model.json, becomes another package.
  std::string input;
  /// The dictionary in a .pt file: "generator_ema", "a.b" for nested ones. Empty: the one there is.
  std::string key;
  /// One safetensors file. Replaced if it is there; it has this name only when it is complete. Of a
  /// package a folder, which may not be there; it has its model.json only when it is complete.
  std::string output;
  /// Of the floating point tensors; all others stay as they are.
  ConvertDType dtype = ConvertDType::kKeep;
  /// What it takes is not of `dtype`. Of a package only the transformer.
  ConvertQuantize quantize = ConvertQuantize::kNone;
  /// Cut off every tensor's name: "model.".
  std::string strip_prefix;
};

struct ConvertReport {
  std::string key;           // the dictionary that was taken; empty: the top level
  int64_t tensors = 0;       // in the new file
  int64_t rounded = 0;       // of these, those that have another dtype now
  int64_t quantized = 0;     // of these, those that are int8 now
  int64_t output_bytes = 0;  // of all tensors
};

/// How many bytes of the output's tensors are written, and how many there will be.
using ConvertProgress = std::function<void(int64_t bytes_done, int64_t bytes_total)>;

/// Writes tensor by tensor: memory does not grow with the file, but for tensors of a .pt file that
/// are not contiguous (docs/formats.md). Numbers are rounded to nearest, ties to even; NaN and
/// infinity stay. A finite number that would become infinite is InvalidArgument and names its
/// tensor. So are: a file of several dictionaries without a key (they are listed), a tensor without
/// the prefix, two tensors that would have one name, and an output that is one of the input's files
/// or no regular file. Reading fails as in Inspect; a full disk is IoError. After a failure the
/// output is as it was before. `__metadata__` is kept; "format" is "pt" unless it says otherwise,
/// "converted_from" the input's name without its folder. A matrix that becomes int8 must have
/// finite numbers; there must be one, or one that is int8 already.
MRT_API Result<ConvertReport> Convert(const ConvertOptions& options,
                                      const ConvertProgress& on_progress = {});

}  // namespace monarchrt
