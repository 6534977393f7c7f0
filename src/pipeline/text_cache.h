// Embeddings of prompts on disk, so that the text encoder runs once for each: docs/formats.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "ops/context.h"
#include "tensor/checkpoint.h"
#include "tensor/tensor.h"

namespace mrt {

/// A folder with a safetensors file for each embedding, shared by any number of processes. Whatever
/// else is in it, or damaged in it, counts as not there. Const calls may run at the same time.
class TextCache {
 public:
  static constexpr int64_t kFilesMax = 256;
  static constexpr int64_t kBytesMax = int64_t{512} << 20;

  TextCache() = default;  // off: finds nothing

  /// For the embeddings of one encoder, made on `gpu`, or on the CPU if that is empty. Off if
  /// `folder` is empty or the encoder is not from a file. Reads a few pages of every tensor
  /// (Checkpoint::Fingerprint).
  TextCache(const std::string& folder, const Checkpoint& encoder, ops::Precision precision,
            const std::string& gpu = {});

  bool on() const { return !folder_.empty(); }

  /// F32 [text_len, dim] as it was stored for these tokens by this version of the program on a
  /// machine like this one with as many threads, every bit the same; else an empty tensor.
  Tensor Find(std::span<const int32_t> ids, int64_t text_len, int64_t dim) const;

  /// Keeps an embedding, F32 [text_len, dim], all rows past the tokens 0. Makes the folder. Then
  /// drops the files that were not used for the longest time until there are at most kFilesMax of
  /// at most kBytesMax. Any failure leaves what was there.
  Status Store(std::span<const int32_t> ids, const ConstTensorView& embedding) const;

 private:
  std::string folder_;
  std::string encoder_;  // fingerprint
  std::string dtype_;
  std::string gpu_;
};

}  // namespace mrt
