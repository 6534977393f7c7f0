#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <iterator>

#include "base/json.h"
#include "monarchrt/inspect.h"
#include "tensor/printable.h"

namespace monarchrt {
namespace {

/// "1.5 MiB"
std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

/// "1,418,996,800"
std::string FormatCount(int64_t count) {
  std::string text = std::to_string(count);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string FormatShape(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) text += (text.empty() ? "" : ", ") + std::to_string(dim);
  return "[" + text + "]";
}

std::string Padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

std::string FormatModel(const InspectModel& model, InspectDetail detail) {
  std::string text = model.path;
  if (!model.key.empty()) text += ":" + mrt::Escaped(model.key);
  text += "\n  " + std::string(ModelKindName(model.kind)) + ", " +
          FormatCount(static_cast<int64_t>(model.tensors.size())) + " tensors, " +
          FormatCount(model.parameters) + " parameters\n  in the file:";
  for (const auto& [dtype, bytes] : model.dtype_bytes)
    text += " " + FormatBytes(bytes) + " " + dtype;
  text += "\n  memory for the weights: " + FormatBytes(model.memory_bf16_bytes) + " as BF16, " +
          FormatBytes(model.memory_f32_bytes) + " as F32";
  if (model.memory_int8_bytes > 0)
    text += ", " + FormatBytes(model.memory_int8_bytes) + " with --dtype int8";
  text += "\n";
  if (model.int8_matrices > 0)
    text +=
        "  " + FormatCount(model.int8_matrices) + " matrices as int8 with a scale for each row\n";
  if (detail == InspectDetail::kSummary) return text;
  for (const auto& [key, value] : model.metadata)
    text += "    " + mrt::Escaped(key) + " = " + mrt::Escaped(value) + "\n";
  size_t width = 0;
  for (const InspectTensor& tensor : model.tensors)
    width = std::max(width, FormatShape(tensor.shape).size());
  for (const InspectTensor& tensor : model.tensors)
    text += "    " + Padded(tensor.dtype, 5) + Padded(FormatShape(tensor.shape), width + 2) +
            mrt::Escaped(tensor.name) + "\n";
  return text;
}

}  // namespace

std::string FormatInspect(const InspectReport& report, InspectDetail detail) {
  std::string text;
  for (const InspectModel& model : report.models) text += FormatModel(model, detail);
  for (const InspectProblem& problem : report.problems)
    text += problem.path + "\n  cannot be read: " + problem.message + "\n";
  int64_t bf16 = 0, f32 = 0;
  for (const InspectModel& model : report.models) {
    bf16 += model.memory_bf16_bytes;
    f32 += model.memory_f32_bytes;
  }
  if (report.models.size() > 1)
    text += "all together: " + FormatBytes(bf16) + " as BF16, " + FormatBytes(f32) + " as F32\n";
  return text;
}

std::string InspectToJson(const InspectReport& report) {
  using json = mrt::Json;
  json models = json::array();
  for (const InspectModel& model : report.models) {
    json tensors = json::array();
    for (const InspectTensor& tensor : model.tensors)
      tensors.push_back({{"name", tensor.name},
                         {"dtype", tensor.dtype},
                         {"shape", tensor.shape},
                         {"bytes", tensor.bytes}});
    models.push_back({{"path", model.path},
                      {"key", model.key},
                      {"kind", ModelKindName(model.kind)},
                      {"tensors", std::move(tensors)},
                      {"metadata", model.metadata},
                      {"dtype_bytes", model.dtype_bytes},
                      {"parameters", model.parameters},
                      {"int8_matrices", model.int8_matrices},
                      {"memory_int8_bytes", model.memory_int8_bytes},
                      {"memory_bf16_bytes", model.memory_bf16_bytes},
                      {"memory_f32_bytes", model.memory_f32_bytes}});
  }
  json problems = json::array();
  for (const InspectProblem& problem : report.problems)
    problems.push_back({{"path", problem.path}, {"message", problem.message}});
  const json object = {{"path", report.path}, {"models", models}, {"problems", problems}};
  // Names may be any bytes: what is no UTF-8 is replaced instead of thrown at.
  return mrt::DumpJson(object, 2) + "\n";
}

}  // namespace monarchrt
