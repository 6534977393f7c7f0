// Dense attention by ggml's CPU backend, measured like the rows of `monarchrt bench attention`.
// bench/ggml_attention.sh builds and runs it; the normal build does not know it.

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpp.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr const char* kUsage =
    R"(usage: ggml_attention [--heads 12] [--head-dim 128] [--q 4680] [--kv 32760]
                      [--dtype f16,f32] [--path flash,mul_mat] [--threads N] [--seconds 10]
--dtype: f16, f32, bf16, how K and V are stored; Q is f32, as ggml's flash attention wants it
--path: flash is ggml_flash_attn_ext; mul_mat is mul_mat, soft_max, mul_mat, head by head
--seconds: no further run of a row that took so long in all, after three runs
)";

constexpr size_t kRunsMin = 3, kRunsMax = 20;
constexpr int64_t kSampleRows = 16;      // queries that are compared with the definition
constexpr double kRelativeL2Max = 0.02;  // beyond it is another function, not a rounded one

struct Problem {
  int64_t heads = 12;
  int64_t head_dim = 128;
  int64_t queries = 3 * 30 * 52;  // tokens
  int64_t keys = 21 * 30 * 52;    // tokens
  double Gflop() const { return 4e-9 * static_cast<double>(heads * head_dim * queries * keys); }
  float Scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }
};

struct Flags {
  Problem problem;
  std::vector<std::string> dtypes = {"f16", "f32"};
  std::vector<std::string> paths = {"flash", "mul_mat"};
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  double seconds = 10;
};

const std::map<std::string, ggml_type> kTypes = {
    {"f16", GGML_TYPE_F16}, {"f32", GGML_TYPE_F32}, {"bf16", GGML_TYPE_BF16}};

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "ggml_attention: %s\n", why.c_str());
  std::exit(1);
}

struct Inputs {
  explicit Inputs(const Problem& p)
      : q(RandomValues(p.heads * p.queries * p.head_dim, 1)),
        k(RandomValues(p.heads * p.keys * p.head_dim, 2)),
        v(RandomValues(p.heads * p.keys * p.head_dim, 3)) {}

  /// Uniform of variance 1, and all of them bfloat16 numbers, so that every dtype holds them.
  static std::vector<float> RandomValues(int64_t count, uint32_t seed) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) {
      seed = seed * 1664525u + 1013904223u;
      const float uniform = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
      value = ggml_bf16_to_fp32(ggml_fp32_to_bf16(uniform * std::sqrt(3.0f)));
    }
    return values;
  }

  std::vector<float> q, k, v;  // [heads, tokens, head_dim]
};

/// [heads, rows, cols] -> [heads, cols, rows]
std::vector<float> Transposed(const std::vector<float>& x, int64_t heads, int64_t rows,
                              int64_t cols) {
  std::vector<float> y(x.size());
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        y[static_cast<size_t>((h * cols + c) * rows + r)] =
            x[static_cast<size_t>((h * rows + r) * cols + c)];
  return y;
}

void Fill(ggml_tensor* tensor, const std::vector<float>& values) {
  const auto count = static_cast<int64_t>(values.size());
  std::vector<char> stored(ggml_nbytes(tensor));
  switch (tensor->type) {
    case GGML_TYPE_F16:
      ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(stored.data()), count);
      break;
    case GGML_TYPE_BF16:
      ggml_fp32_to_bf16_row(values.data(), reinterpret_cast<ggml_bf16_t*>(stored.data()), count);
      break;
    default: std::memcpy(stored.data(), values.data(), stored.size());
  }
  ggml_backend_tensor_set(tensor, stored.data(), 0, stored.size());
}

/// The tensors and the graph of one row. Each head's keys and values lie together, and those of
/// the path mul_mat are transposed: none of that is timed. A ggml shape begins with the innermost.
class Attention {
 public:
  Attention(const Problem& problem, const Inputs& inputs, const std::string& path, ggml_type type,
            int threads)
      : problem_(problem), backend_(ggml_backend_cpu_init()) {
    ggml_backend_cpu_set_n_threads(backend_.get(), threads);
    const size_t tensors = 16 + 8 * static_cast<size_t>(problem.heads);
    ctx_.reset(ggml_init(
        {.mem_size = tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(tensors, false),
         .mem_buffer = nullptr,
         .no_alloc = true}));
    const Problem& p = problem;
    const bool flash = path == "flash";
    q_ = ggml_new_tensor_3d(ctx_.get(), GGML_TYPE_F32, p.head_dim, p.queries, p.heads);
    k_ = ggml_new_tensor_3d(ctx_.get(), type, p.head_dim, p.keys, p.heads);
    v_ = flash ? ggml_new_tensor_3d(ctx_.get(), type, p.head_dim, p.keys, p.heads)
               : ggml_new_tensor_3d(ctx_.get(), type, p.keys, p.head_dim, p.heads);
    inputs_.reset(ggml_backend_alloc_ctx_tensors(ctx_.get(), backend_.get()));
    if (inputs_ == nullptr) Die("no memory for the inputs");
    Fill(q_, inputs.q);
    Fill(k_, inputs.k);
    Fill(v_, flash ? inputs.v : Transposed(inputs.v, p.heads, p.keys, p.head_dim));
    graph_ = ggml_new_graph_custom(ctx_.get(), tensors, false);
    if (flash) {
      AddFlash();
    } else {
      AddMulMat();
    }
    results_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_.get())));
    if (!ggml_gallocr_alloc_graph(results_.get(), graph_)) Die("no memory for the results");
  }

  void Run() {
    if (ggml_backend_graph_compute(backend_.get(), graph_) != GGML_STATUS_SUCCESS)
      Die("ggml could not compute the graph");
  }

  std::vector<float> ResultRow(int64_t head, int64_t query) const {
    std::vector<float> row(static_cast<size_t>(problem_.head_dim));
    const size_t bytes = row.size() * sizeof(float);
    const bool one = outs_.size() == 1;  // [head_dim, heads, queries], else [head_dim, queries]
    const int64_t index = one ? query * problem_.heads + head : query;
    ggml_backend_tensor_get(outs_[one ? 0 : static_cast<size_t>(head)], row.data(),
                            static_cast<size_t>(index) * bytes, bytes);
    return row;
  }

 private:
  void AddOutput(ggml_tensor* out) {
    ggml_set_output(out);
    ggml_build_forward_expand(graph_, out);
    outs_.push_back(out);
  }

  void AddFlash() {
    AddOutput(ggml_flash_attn_ext(ctx_.get(), q_, k_, v_, nullptr, problem_.Scale(), 0, 0));
  }

  /// Head by head: the scores of 12 heads would take 7.4 GB.
  void AddMulMat() {
    for (int64_t h = 0; h < problem_.heads; ++h) {
      const auto head = [&](ggml_tensor* x) {
        const size_t offset = static_cast<size_t>(h) * x->nb[2];
        return ggml_view_2d(ctx_.get(), x, x->ne[0], x->ne[1], x->nb[1], offset);
      };
      ggml_tensor* scores = ggml_mul_mat(ctx_.get(), head(k_), head(q_));  // [keys, queries]
      ggml_tensor* weights = ggml_soft_max_ext(ctx_.get(), scores, nullptr, problem_.Scale(), 0);
      AddOutput(ggml_mul_mat(ctx_.get(), head(v_), weights));  // [head_dim, queries]
    }
  }

  Problem problem_;
  ggml_backend_ptr backend_;
  ggml_context_ptr ctx_;
  ggml_backend_buffer_ptr inputs_;
  ggml_gallocr_ptr results_;
  ggml_tensor *q_ = nullptr, *k_ = nullptr, *v_ = nullptr;
  ggml_cgraph* graph_ = nullptr;
  std::vector<ggml_tensor*> outs_;
};

/// The definition, in double.
std::vector<double> WantedRow(const Problem& p, const Inputs& inputs, int64_t head, int64_t query) {
  const auto row = [&](const std::vector<float>& x, int64_t tokens, int64_t token) {
    return x.data() + (head * tokens + token) * p.head_dim;
  };
  const float* q = row(inputs.q, p.queries, query);
  std::vector<double> weights(static_cast<size_t>(p.keys));
  for (int64_t n = 0; n < p.keys; ++n)
    weights[static_cast<size_t>(n)] =
        std::inner_product(q, q + p.head_dim, row(inputs.k, p.keys, n), 0.0) /
        std::sqrt(static_cast<double>(p.head_dim));
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  std::vector<double> out(static_cast<size_t>(p.head_dim));
  for (int64_t n = 0; n < p.keys; ++n)
    for (int64_t d = 0; d < p.head_dim; ++d)
      out[static_cast<size_t>(d)] +=
          weights[static_cast<size_t>(n)] / sum * row(inputs.v, p.keys, n)[d];
  return out;
}

struct SampleRow {
  int64_t head, query;
  std::vector<double> want;
};

/// Rows spread over heads and queries, the very first and the very last among them.
std::vector<SampleRow> MakeSample(const Problem& p, const Inputs& inputs) {
  const int64_t rows = p.heads * p.queries, count = std::min(rows, kSampleRows);
  std::vector<SampleRow> sample;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t index = count == 1 ? 0 : n * (rows - 1) / (count - 1);
    const int64_t head = index / p.queries, query = index % p.queries;
    sample.push_back({head, query, WantedRow(p, inputs, head, query)});
  }
  return sample;
}

double RelativeL2(const Attention& attention, const std::vector<SampleRow>& sample) {
  double difference = 0, size = 0;
  for (const auto& [head, query, want] : sample) {
    const std::vector<float> got = attention.ResultRow(head, query);
    for (size_t d = 0; d < want.size(); ++d) {
      difference += (got[d] - want[d]) * (got[d] - want[d]);
      size += want[d] * want[d];
    }
  }
  return std::sqrt(difference / size);
}

double Median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  const size_t half = x.size() / 2;
  return x.size() % 2 == 1 ? x[half] : (x[half - 1] + x[half]) / 2;
}

/// Milliseconds of each run, after one that is not counted.
std::vector<double> TimeRuns(Attention& attention, double seconds) {
  attention.Run();
  std::vector<double> ms;
  double spent_ms = 0;
  while (ms.size() < kRunsMin || (spent_ms < 1000 * seconds && ms.size() < kRunsMax)) {
    const auto begin = std::chrono::steady_clock::now();
    attention.Run();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    ms.push_back(took.count());
    spent_ms += took.count();
  }
  return ms;
}

std::vector<std::string> SplitNames(const std::string& text) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

double ParsePositive(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (*end != '\0' || !(value > 0 && value < 1e9)) Die(flag + " got " + text + "\n" + kUsage);
  return value;
}

int64_t ParseCount(const std::string& flag, const std::string& text) {
  const double value = ParsePositive(flag, text);
  if (value != std::floor(value)) Die(flag + " got " + text + ", need a whole number");
  return static_cast<int64_t>(value);
}

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  const std::map<std::string, int64_t*> sizes = {{"--heads", &flags.problem.heads},
                                                 {"--head-dim", &flags.problem.head_dim},
                                                 {"--q", &flags.problem.queries},
                                                 {"--kv", &flags.problem.keys}};
  for (int i = 1; i < argc; i += 2) {
    const std::string flag = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (const auto size = sizes.find(flag); size != sizes.end()) {
      *size->second = ParseCount(flag, value);
    } else if (flag == "--threads") {
      flags.threads = static_cast<int>(ParseCount(flag, value));
    } else if (flag == "--seconds") {
      flags.seconds = ParsePositive(flag, value);
    } else if (flag == "--dtype") {
      flags.dtypes = SplitNames(value);
    } else if (flag == "--path") {
      flags.paths = SplitNames(value);
    } else {
      Die("got " + flag + "\n" + kUsage);
    }
  }
  for (const std::string& name : flags.dtypes)
    if (!kTypes.contains(name)) Die("--dtype got " + name + "\n" + kUsage);
  for (const std::string& name : flags.paths)
    if (name != "flash" && name != "mul_mat") Die("--path got " + name + "\n" + kUsage);
  return flags;
}

}  // namespace

int main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  const Problem& p = flags.problem;
  const Inputs inputs(p);
  const std::vector<SampleRow> sample = MakeSample(p, inputs);
  std::printf("{\"ggml\": {\"version\": \"%s\", \"commit\": \"%s\"}, \"rows\": [", ggml_version(),
              ggml_commit());
  const char* separator = "\n";
  for (const std::string& path : flags.paths)
    for (const std::string& dtype : flags.dtypes) {
      Attention attention(p, inputs, path, kTypes.at(dtype), flags.threads);
      const std::vector<double> ms = TimeRuns(attention, flags.seconds);
      const double median_ms = Median(ms), relative_l2 = RelativeL2(attention, sample);
      std::printf(
          "%s  {\"op\": \"dense\", \"impl\": \"ggml %s %s\", "
          "\"shape\": \"heads=%lld,head_dim=%lld,q=%lld,kv=%lld\", \"dtype\": \"%s\", "
          "\"threads\": %d, \"runs\": %zu, \"ms_median\": %.6g, \"gflop\": %.6g, "
          "\"tflops\": %.4g, \"rel_l2\": %.3g}",
          separator, ggml_version(), path.c_str(), static_cast<long long>(p.heads),
          static_cast<long long>(p.head_dim), static_cast<long long>(p.queries),
          static_cast<long long>(p.keys), dtype.c_str(), flags.threads, ms.size(), median_ms,
          p.Gflop(), p.Gflop() / median_ms, relative_l2);
      std::fflush(stdout);
      separator = ",\n";
      if (!(relative_l2 <= kRelativeL2Max)) Die(path + " " + dtype + " is not attention");
    }
  std::printf("\n]}\n");
}
