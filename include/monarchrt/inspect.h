// What is in a model file, and what it will cost to hold it, without loading it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "monarchrt/export.h"
#include "monarchrt/status.h"

namespace monarchrt {

/// The parts of a text-to-video checkpoint, as far as this library knows them.
enum class ModelKind {
  kUnknown,         // readable, but the names of its tensors are of no model known here
  kWanTransformer,  // Wan 2.1 diffusion transformer
  kUmt5Encoder,     // UMT5 text encoder
  kWanVae,          // Wan 2.1 video autoencoder
  kTaehv,           // tiny video autoencoder
};

/// "Wan transformer", "UMT5 text encoder" ...
MRT_API const char* ModelKindName(ModelKind kind);

struct InspectTensor {
  std::string name;   // as in the file: any bytes
  std::string dtype;  // "F32", "BF16" ...
  std::vector<int64_t> shape;
  int64_t bytes = 0;  // of its elements, not counting what several tensors share
};

/// The tensors of one file, or of one dictionary in a .pt file.
struct InspectModel {
  std::string path;  // the file; the index, if there are shards
  std::string key;   // the dictionary in a .pt file; empty: the top level, or another format
  ModelKind kind = ModelKind::kUnknown;
  std::vector<InspectTensor> tensors;           // sorted by name
  std::map<std::string, std::string> metadata;  // of a safetensors file
  std::map<std::string, int64_t> dtype_bytes;   // bytes of all tensors of a dtype
  int64_t parameters = 0;         // elements of all floating point tensors and int8 matrices
  int64_t int8_matrices = 0;      // those with a scale for each row
  int64_t memory_bf16_bytes = 0;  // the parameters held as bfloat16
  int64_t memory_f32_bytes = 0;   // the parameters held as float32
  int64_t memory_int8_bytes = 0;  // as --dtype int8 has them, the rest as bfloat16; else 0
};

struct InspectProblem {
  std::string path;
  std::string message;  // one line
};

struct InspectReport {
  std::string path;                      // what was asked for
  std::vector<InspectModel> models;      // sorted by path
  std::vector<InspectProblem> problems;  // of a folder: the model files that cannot be read
};

/// Looks into `path`:
///   FILE      safetensors, an index of shards, .pt or .pth. A .pt file of several dictionaries
///             (weights and their moving average) gives one model for each that holds tensors;
///             `key` picks one, as does FILE:key if there is no file of that whole name.
///   FOLDER    every such file in it and below, e.g. a whole checkpoint tree; then without a key.
///             Shards that an index names are not listed on their own.
/// NotFound if there is nothing to read; BadData if a FILE is damaged. Reads headers only, so the
/// cost does not depend on the size of the weights, but for tensors that are not contiguous or
/// aligned in their file, as some of a .pt file: these are copied (docs/formats.md).
MRT_API Result<InspectReport> Inspect(const std::string& path, const std::string& key = "");

/// How much FormatInspect prints.
enum class InspectDetail {
  kSummary,  // some lines per model
  kTensors,  // and one line per tensor
};

/// The report as text for a terminal: lines that end in '\n', printable characters only in what
/// comes out of files.
MRT_API std::string FormatInspect(const InspectReport& report, InspectDetail detail);

/// The report as one JSON object with the names of the fields above; sizes in bytes.
MRT_API std::string InspectToJson(const InspectReport& report);

}  // namespace monarchrt
