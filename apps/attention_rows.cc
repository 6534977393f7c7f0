#include "apps/attention_rows.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <span>

#include "base/float16.h"
#include "base/status.h"

namespace mrt::apps {
namespace {

using monarchrt::AttentionMode;
using monarchrt::AttentionOptions;
using monarchrt::AttentionProblem;
using monarchrt::ElementType;

constexpr int kDenseSampleQueries = 64;

/// Elements stored as float32 or bfloat16.
class Elements {
 public:
  Elements(ElementType type, std::span<const float> values) : type_(type) {
    if (type == ElementType::kF32) {
      floats_.assign(values.begin(), values.end());
    } else {
      halves_.resize(values.size());
      std::transform(values.begin(), values.end(), halves_.begin(), ToBFloat16);
    }
  }
  void* data() {
    return type_ == ElementType::kF32 ? static_cast<void*>(floats_.data()) : halves_.data();
  }
  float at(int64_t i) const {
    const auto index = static_cast<size_t>(i);
    return type_ == ElementType::kF32 ? floats_[index] : ToFloat(halves_[index]);
  }

 private:
  ElementType type_;
  std::vector<float> floats_;
  std::vector<BFloat16> halves_;
};

std::vector<float> RandomValues(int64_t count, uint32_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;  // good enough for values that only must not repeat
    value = RoundToBFloat16(static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f * 1.7320508f);
  }
  return values;
}

struct Inputs {
  std::vector<float> q, k, v;  // token-major
};

/// Keys or values as the engine's KV cache holds them.
std::vector<float> HeadMajor(const std::vector<float>& x, const AttentionProblem& p) {
  const int64_t tokens = int64_t{p.rows} * p.cols, frame = tokens * p.heads * p.head_dim;
  std::vector<float> moved;
  moved.reserve(x.size());
  for (int64_t f = 0; f < p.frames_kv; ++f)
    for (int64_t head = 0; head < p.heads; ++head)
      for (int64_t t = 0; t < tokens; ++t) {
        const auto token = x.begin() + f * frame + (t * p.heads + head) * p.head_dim;
        moved.insert(moved.end(), token, token + p.head_dim);
      }
  return moved;
}

struct Sample {
  int64_t first = 0;  // of the query tokens
  int64_t count = 0;
  std::vector<float> want;  // [count, head_dim], of the last head
};

/// The last `tokens` tokens of the last head: [tokens, head_dim].
std::vector<float> LastHead(const std::vector<float>& x, const AttentionProblem& p,
                            int64_t tokens) {
  const int64_t width = int64_t{p.heads} * p.head_dim;
  const int64_t all = static_cast<int64_t>(x.size()) / width;
  std::vector<float> head;
  for (int64_t t = all - tokens; t < all; ++t) {
    const auto begin = x.begin() + (t + 1) * width - p.head_dim;
    head.insert(head.end(), begin, begin + p.head_dim);
  }
  return head;
}

monarchrt::Result<Sample> MakeSample(AttentionMode mode, const AttentionShape& shape,
                                     const Inputs& inputs) {
  const int64_t grid = int64_t{shape.problem.rows} * shape.problem.cols;
  const int64_t queries = shape.problem.frames_q * grid, keys = shape.problem.frames_kv * grid;
  AttentionOptions options = shape.options;
  options.mode = mode;
  options.implementation = "reference";
  AttentionProblem p = shape.problem;
  p.heads = 1;
  p.element = ElementType::kF32;
  Sample sample;
  // Neither asks where on the grid a token lies.
  if (mode == AttentionMode::kDense || mode == AttentionMode::kTopK) {
    p.rows = p.cols = 1;
    p.frames_q = static_cast<int>(std::min<int64_t>(queries, kDenseSampleQueries));
    p.frames_kv = static_cast<int>(keys);
    sample.count = p.frames_q;
  } else if (mode == AttentionMode::kMonarch) {
    p.frames_q = options.f_tied;
    sample.count = p.frames_q * grid;
  } else {
    sample.count = queries;  // their number decides the size of the pattern
  }
  sample.first = queries - sample.count;
  sample.want.resize(static_cast<size_t>(sample.count * p.head_dim));
  const std::vector<float> q = LastHead(inputs.q, shape.problem, sample.count),
                           k = LastHead(inputs.k, shape.problem, keys),
                           v = LastHead(inputs.v, shape.problem, keys);
  MRT_RETURN_IF_ERROR(
      monarchrt::Attend(options, p, {q.data(), k.data(), v.data(), sample.want.data()}));
  return sample;
}

double RelativeL2(const Elements& out, const AttentionProblem& p, const Sample& sample) {
  double difference = 0, size = 0;
  for (int64_t t = 0; t < sample.count; ++t)
    for (int64_t d = 0; d < p.head_dim; ++d) {
      const double want = sample.want[static_cast<size_t>(t * p.head_dim + d)];
      const int64_t token_end = (sample.first + t + 1) * p.heads * p.head_dim;
      const double got = out.at(token_end - p.head_dim + d);
      difference += (got - want) * (got - want);
      size += want * want;
    }
  return std::sqrt(difference / size);
}

/// The inputs in one element type, and where results go.
struct Tensors {
  Tensors(ElementType type, const Inputs& inputs, const AttentionProblem& problem)
      : q(type, inputs.q),
        k(type, HeadMajor(inputs.k, problem)),
        v(type, HeadMajor(inputs.v, problem)),
        out(type, std::vector<float>(inputs.q.size())) {}
  Elements q, k, v, out;
};

monarchrt::Status RunOnce(const AttentionShape& shape, const AttentionRow& row, Tensors& tensors) {
  AttentionOptions options = shape.options;
  options.mode = row.mode;
  options.implementation = row.impl;
  AttentionProblem problem = shape.problem;
  problem.element = row.element;
  problem.kv_layout = monarchrt::AttentionKvLayout::kHeadMajor;
  return monarchrt::Attend(
      options, problem, {tensors.q.data(), tensors.k.data(), tensors.v.data(), tensors.out.data()},
      row.threads);
}

bool WantsAnotherRun(const AttentionRow& row, const AttentionEffort& effort) {
  const auto runs = static_cast<int>(row.ms.size());
  const double spent_s = std::accumulate(row.ms.begin(), row.ms.end(), 0.0) / 1000;
  return runs < effort.runs && (runs < effort.runs_min || spent_s < effort.seconds);
}

/// All rows of one element type: the other type's tensors need not be in memory.
monarchrt::Status MeasureElementType(ElementType element, const AttentionShape& shape,
                                     const AttentionEffort& effort, const Inputs& inputs,
                                     const std::map<AttentionMode, Sample>& samples,
                                     std::vector<AttentionRow>& rows) {
  std::vector<AttentionRow*> pending;
  for (AttentionRow& row : rows)
    if (row.element == element) pending.push_back(&row);
  if (pending.empty()) return {};
  Tensors tensors(element, inputs, shape.problem);
  for (AttentionRow* row : pending) {
    MRT_RETURN_IF_ERROR(RunOnce(shape, *row, tensors));
    row->relative_l2 = RelativeL2(tensors.out, shape.problem, samples.at(row->mode));
  }
  for (;;) {
    std::erase_if(pending, [&](const auto* row) { return !WantsAnotherRun(*row, effort); });
    if (pending.empty()) return {};
    for (AttentionRow* row : pending) {
      const auto begin = std::chrono::steady_clock::now();
      MRT_RETURN_IF_ERROR(RunOnce(shape, *row, tensors));
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - begin;
      row->ms.push_back(took.count());
    }
  }
}

}  // namespace

double AttentionRow::MedianMs() const {
  std::vector<double> sorted = ms;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double AttentionRow::P95Ms() const {
  std::vector<double> sorted = ms;
  std::sort(sorted.begin(), sorted.end());
  return sorted[(sorted.size() * 95 + 99) / 100 - 1];  // nearest rank
}

monarchrt::Status MeasureAttention(const AttentionShape& shape, const AttentionEffort& effort,
                                   std::vector<AttentionRow>& rows) {
  const AttentionProblem& p = shape.problem;
  const int64_t frame = int64_t{p.rows} * p.cols * p.heads * p.head_dim;
  const Inputs inputs = {RandomValues(p.frames_q * frame, 1), RandomValues(p.frames_kv * frame, 2),
                         RandomValues(p.frames_kv * frame, 3)};
  std::map<AttentionMode, Sample> samples;
  for (const AttentionMode mode : monarchrt::ListAttentionModes()) {
    const bool wanted = std::ranges::any_of(rows, [&](const auto& r) { return r.mode == mode; });
    if (!wanted) continue;
    MRT_ASSIGN_OR_RETURN(samples[mode], MakeSample(mode, shape, inputs));
  }
  for (const ElementType element : {ElementType::kBF16, ElementType::kF32})
    MRT_RETURN_IF_ERROR(MeasureElementType(element, shape, effort, inputs, samples, rows));
  return {};
}

}  // namespace mrt::apps
