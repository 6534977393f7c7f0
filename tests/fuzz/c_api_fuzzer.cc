// The input is a list of calls of the C API: which, with which sizes, numbers, texts and NULLs. A
// struct ends where its struct_size says, so that AddressSanitizer sees what is read behind it. One
// engine and one stream of the miniature model serve all inputs; nothing is generated.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "monarchrt/c_api.h"

namespace {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }
  uint8_t Byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  template <typename T>
  T Number() {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) reinterpret_cast<uint8_t*>(&value)[i] = Byte();
    return value;
  }
  /// A number as it is in real calls, or at a limit, or any.
  int64_t Size() {
    switch (const uint8_t kind = Byte(); kind) {
      case 255: return Number<int64_t>();
      case 254: return INT64_MAX;
      case 253: return INT64_MIN;
      case 252: return INT32_MAX;
      case 251: return -1;
      default: return kind;
    }
  }
  /// Up to 255 bytes; null if `text` shall be. Lives as long as the input.
  const char* Text() {
    const uint8_t size = Byte();
    if (size == 0) return nullptr;
    std::string text;
    for (uint8_t i = 0; i < size && left_ > 0; ++i) text.push_back(static_cast<char>(Byte()));
    texts_.push_back(std::make_unique<std::string>(std::move(text)));
    return texts_.back()->c_str();
  }
  /// An array of `count`, with nothing behind it.
  const int32_t* Numbers(size_t* count) {
    *count = Byte() % 8;
    numbers_.emplace_back(std::make_unique<int32_t[]>(*count));
    for (size_t i = 0; i < *count; ++i) numbers_.back()[i] = static_cast<int32_t>(Size());
    const int32_t* const array = numbers_.back().get();
    switch (Byte()) {
      case 0: return nullptr;
      case 1: *count = SIZE_MAX; return array;  // no array has so many
      default: return array;
    }
  }

 private:
  const uint8_t* data_;
  size_t left_;
  std::vector<std::unique_ptr<std::string>> texts_;
  std::vector<std::unique_ptr<int32_t[]>> numbers_;
};

/// A struct with a size of its own in memory of its own; get() may be null.
template <typename T>
class Struct {
 public:
  explicit Struct(Input& in) {
    size_t size = sizeof(T);
    switch (in.Byte()) {
      case 0: return;  // NULL
      case 1: size = in.Number<size_t>(); break;
      case 2: size = sizeof(T) + in.Byte(); break;
      case 3: size = in.Byte(); break;
      default: break;
    }
    // Who says more than a page is wrong anyway, and nothing but the size may be read. A smaller
    // struct may be that of an older header, whose fields are 0 here.
    const bool bounded = size >= sizeof(size_t) && size <= 4096;
    bytes_.resize(bounded ? size : sizeof(size_t));
    std::memcpy(bytes_.data(), &size, sizeof(size));
    real_ = bounded && size >= sizeof(T);
    if (real_ && size > sizeof(T)) bytes_.back() = in.Byte() == 1 ? 1 : 0;
  }
  T* get() { return bytes_.empty() ? nullptr : reinterpret_cast<T*>(bytes_.data()); }
  /// The fields may be written.
  explicit operator bool() const { return real_; }
  T* operator->() { return get(); }

 private:
  std::vector<unsigned char> bytes_;
  bool real_ = false;
};

// The message of a failure is one line or empty; of a success nothing is known.
void Check(mrt_status status) {
  MRT_CHECK((status >= MRT_OK && status <= MRT_INTERNAL) || status == MRT_BUFFER_TOO_SMALL);
  MRT_CHECK(status != MRT_INTERNAL);
  MRT_CHECK(mrt_status_name(status) != nullptr);
  const char* const message = mrt_last_error();
  if (status != MRT_OK) MRT_CHECK(message[0] == '[');
}

struct Shared {
  mrt_engine* engine = nullptr;
  mrt_stream* stream = nullptr;
};

void Require(mrt_status status) {
  if (status != MRT_OK) std::fprintf(stderr, "%s\n", mrt_last_error());
  MRT_CHECK(status == MRT_OK);
}

const Shared& Toy() {
  static const Shared shared = [] {
    Shared made;
    mrt_engine_options model;
    Require(mrt_engine_options_init(&model, sizeof(model)));
    model.model = MRT_GOLDEN_DIR "/toy_wan";
    model.checkpoint = "checkpoints/self_forcing_dmd.pt:generator_ema";
    model.precision = MRT_PRECISION_F32;
    Require(mrt_engine_load(&model, nullptr, nullptr, &made.engine));
    mrt_stream_options video;
    Require(mrt_stream_options_init(&video, sizeof(video)));
    video.width = 32;
    video.height = 32;
    Require(mrt_stream_open(made.engine, &video, nullptr, nullptr, &made.stream));
    return made;
  }();
  return shared;
}

void Fill(Input& in, Struct<mrt_attention_options>& options) {
  if (!options) return;
  Check(mrt_attention_options_init(options.get(), options->struct_size));
  options->implementation = in.Text();
  options->mode = static_cast<int32_t>(in.Size());
  options->f_tied = static_cast<int32_t>(in.Size());
  options->h_reduce = static_cast<int32_t>(in.Size());
  options->w_reduce = static_cast<int32_t>(in.Size());
  options->iterations = static_cast<int32_t>(in.Size());
  options->reserved = in.Byte() == 1 ? 1 : 0;
  constexpr double kDensities[] = {0.053, 0, 1, -1, 1e-300, 0.5, NAN, INFINITY};
  options->density = kDensities[in.Byte() % std::size(kDensities)];
}

void Fill(Input& in, Struct<mrt_attention_problem>& problem) {
  if (!problem) return;
  Check(mrt_attention_problem_init(problem.get(), problem->struct_size));
  problem->batch = in.Size();
  problem->frames_q = static_cast<int32_t>(in.Size());
  problem->frames_kv = static_cast<int32_t>(in.Size());
  problem->rows = static_cast<int32_t>(in.Size());
  problem->cols = static_cast<int32_t>(in.Size());
  problem->heads = static_cast<int32_t>(in.Size());
  problem->head_dim = static_cast<int32_t>(in.Size());
  problem->causal_block_frames = static_cast<int32_t>(in.Size());
  problem->element = static_cast<int32_t>(in.Size());
  problem->kv_layout = static_cast<int32_t>(in.Byte() % 4);
  problem->reserved = in.Byte() == 1 ? 1 : 0;
}

// Never a model that is there: that would be loaded.
void Fill(Input& in, Struct<mrt_engine_options>& options) {
  if (!options) return;
  Check(mrt_engine_options_init(options.get(), options->struct_size));
  options->model = in.Byte() % 4 ? "/nowhere" : nullptr;
  options->checkpoint = in.Text();
  options->synthetic = in.Byte() % 4 ? nullptr : "no such model";
  options->device = in.Text();
  options->vae = static_cast<int32_t>(in.Size());
  options->precision = static_cast<int32_t>(in.Size());
  options->threads = static_cast<int32_t>(in.Size() % 2048);
  options->text_device = static_cast<int32_t>(in.Size());
}

// `planned`: all is checked but the schedule, which is wrong: nothing is made.
void Fill(Input& in, bool planned, Struct<mrt_attention_options>& attention,
          const mrt_attention_settings* settings, Struct<mrt_stream_options>& options) {
  if (!options) return;
  Check(mrt_stream_options_init(options.get(), options->struct_size));
  options->prompt = in.Text();
  options->seed = in.Number<uint64_t>();
  options->frames = in.Size();
  options->width = static_cast<int32_t>(in.Size());
  options->height = static_cast<int32_t>(in.Size());
  options->steps = in.Numbers(&options->step_count);
  options->timestep_shift = in.Number<double>();
  if (in.Byte() % 2) options->attention = attention.get();
  if (in.Byte() % 2) options->attention_settings = settings;
  static const uint8_t kByte = 7;
  if (in.Byte() == 1) {
    options->initial_rgb = &kByte;
    options->initial_rgb_bytes = in.Byte() % 2 ? 1 : SIZE_MAX;  // of no picture
  }
  options->initial_frames = in.Byte() % 4 ? 0 : in.Size();
  options->window_frames = static_cast<int32_t>(in.Size());
  options->sink_frames = static_cast<int32_t>(in.Size());
  options->independent_first_frame = in.Byte();
  options->show_initial = in.Byte();
  options->decode_overlap = static_cast<int32_t>(in.Size());
  options->kv_cache = static_cast<int32_t>(in.Byte() % 4);
  if (planned) options->timestep_shift = -1;
}

void CallEngine(Input& in, const mrt_attention_settings* settings) {
  Struct<mrt_engine_options> model(in);
  Fill(in, model);
  Struct<mrt_attention_options> attention(in);
  Fill(in, attention);
  Struct<mrt_stream_options> video(in);
  const uint8_t which = in.Byte() % 5;
  Fill(in, which == 3, attention, settings, video);
  Struct<mrt_memory_estimate> memory(in);
  mrt_engine* engine = nullptr;
  mrt_stream* stream = nullptr;
  const mrt_chunk_callback stop = [](mrt_stream*, const uint8_t*, const mrt_chunk*,
                                     void*) -> int32_t { return 1; };
  switch (which) {
    case 0: Check(mrt_validate(model.get(), video.get())); break;
    case 1: Check(mrt_estimate_memory(model.get(), video.get(), memory.get())); break;
    case 2: Check(mrt_engine_load(model.get(), nullptr, nullptr, &engine)); break;
    case 3: Check(mrt_stream_open(Toy().engine, video.get(), nullptr, nullptr, &stream)); break;
    default: Check(mrt_generate(nullptr, video.get(), nullptr, stop, nullptr));
  }
  mrt_stream_destroy(stream);
  mrt_engine_destroy(engine);
}

void CallStream(Input& in) {
  mrt_stream* const stream = in.Byte() == 0 ? nullptr : Toy().stream;
  const size_t capacity = in.Byte();
  std::vector<uint8_t> bytes(capacity);
  std::vector<double> numbers(capacity);
  uint8_t* const buffer = in.Byte() == 0 ? nullptr : bytes.data();
  size_t count = 0;
  size_t* const counted = in.Byte() == 0 ? nullptr : &count;
  int64_t frame = 0;
  Struct<mrt_chunk> chunk(in);
  Struct<mrt_stats> stats(in);
  Struct<mrt_model_info> info(in);
  Struct<mrt_prompt_change> change(in);
  Check(mrt_stream_next(stream, buffer, capacity, chunk.get()));  // never enough for a frame
  Check(mrt_stream_next_size(stream, counted));
  Check(mrt_stream_next_prompt_frame(stream, in.Byte() == 0 ? nullptr : &frame));
  Check(mrt_stream_stats(stream, stats.get()));
  Check(mrt_stream_chunk_times(stream, in.Byte() == 0 ? nullptr : numbers.data(), nullptr, capacity,
                               counted));
  Check(mrt_stream_prompt_change_at(stream, static_cast<size_t>(in.Size()), change.get()));
  Check(mrt_stream_stats_json(stream, reinterpret_cast<char*>(buffer), capacity, counted));
  if (change.get() != nullptr && !change)  // else the text would be encoded
    Check(mrt_stream_set_prompt(stream, in.Text(), in.Byte(), change.get()));
  Check(mrt_engine_info(stream == nullptr ? nullptr : Toy().engine, info.get()));
  MRT_CHECK(mrt_stream_done(stream) == (stream == nullptr ? 1 : 0));
}

void CallAttention(Input& in) {
  Struct<mrt_attention_options> options(in);
  Fill(in, options);
  Struct<mrt_attention_problem> problem(in);
  Fill(in, problem);
  Struct<mrt_attention_implementation> implementation(in);
  double sparsity = 0;
  Check(mrt_attention_sparsity(options.get(), problem.get(), &sparsity));
  MRT_CHECK(sparsity <= 1);
  double density = 0;
  Check(mrt_attention_density(options.get(), problem.get(), &density));
  MRT_CHECK(density >= 0 && density <= 2);  // 2: Monarch with tiles of one token
  double flop = 0;
  Check(mrt_attention_flop(options.get(), problem.get(), &flop));
  MRT_CHECK(flop >= 0);
  Check(mrt_attention_implementation_at(options.get(), problem.get(),
                                        static_cast<size_t>(in.Size()), implementation.get()));
  // Without a k nothing is computed; what is checked before that is.
  const float q = 0;
  float out = 0;
  Check(mrt_attend(options.get(), problem.get(), &q, nullptr, &q, &out,
                   static_cast<int32_t>(in.Size() % 2048)));
  Check(mrt_monarch_attention_backward(options.get(), problem.get(), &q, nullptr, &q, &q, &out,
                                       &out, &out, static_cast<int32_t>(in.Size() % 2048)));
}

void CallSettings(Input& in, mrt_attention_settings** settings) {
  if (in.Byte() % 4 == 0) {
    mrt_attention_settings_destroy(*settings);
    Check(mrt_attention_settings_create(in.Text(), settings));
  }
  Struct<mrt_attention_options> options(in);
  Fill(in, options);
  Check(mrt_attention_settings_set_default(*settings, options.get()));
  size_t layer_count = 0, step_count = 0;
  const int32_t* const layers = in.Numbers(&layer_count);
  const int32_t* const steps = in.Numbers(&step_count);
  Check(mrt_attention_settings_add_rule(*settings, layers, layer_count, steps, step_count,
                                        options.get()));
  Struct<mrt_attention_options> read(in);
  Struct<mrt_attention_rule> rule(in);
  Check(mrt_attention_settings_get_default(*settings, read.get()));
  Check(mrt_attention_settings_rule_at(*settings, in.Byte(), rule.get(), read.get()));
}

void CallMachine(Input& in) {
  Struct<mrt_device_info> device(in);
  Struct<mrt_doctor_report> doctor(in);
  Struct<mrt_kernel_report> kernel(in);
  Check(mrt_device_at(in.Byte(), device.get()));
  Check(mrt_doctor(doctor.get()));
  Check(mrt_kernel_at(in.Byte(), kernel.get()));
  Check(mrt_check_prompt(in.Text()));
  mrt_status_name(in.Number<mrt_status>());
}

}  // namespace

// Here, because an input may not allocate what a model takes.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  Toy();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  mrt_attention_settings* settings = nullptr;
  for (int calls = 0; !in.empty() && calls < 16; ++calls) switch (in.Byte() % 5) {
      case 0: CallEngine(in, settings); break;
      case 1: CallStream(in); break;
      case 2: CallAttention(in); break;
      case 3: CallSettings(in, &settings); break;
      default: CallMachine(in);
    }
  mrt_attention_settings_destroy(settings);
  return 0;
}
