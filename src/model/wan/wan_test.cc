// The transformer against golden flows of the reference implementation, and its properties.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>

#include "base/int8.h"
#include "base/json.h"
#include "base/threads.h"
#include "model/wan/synthetic.h"
#include "model/wan/transformer.h"
#include "tensor/int8_weights.h"
#include "testing/compare.h"
#include "testing/fake_device.h"

namespace {

// Heap allocations through C++ since counting was switched on, of this code and of oneDNN.
std::atomic<bool> counting{false};
std::atomic<int64_t> own_allocations{0}, vendor_allocations{0};

void* CountedAllocation(size_t bytes, const void* caller) {
  if (counting) {
    Dl_info info = {};
    const bool vendor = dladdr(caller, &info) != 0 && info.dli_fname != nullptr &&
                        std::strstr(info.dli_fname, "libdnnl") != nullptr;
    ++(vendor ? vendor_allocations : own_allocations);
  }
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}

// Not inlined: g++ would see free() on the result of new and warn, not knowing that new is ours.
[[gnu::noinline]] void Release(void* p) { std::free(p); }

}  // namespace

// These replace the operators for the whole process, shared libraries included.
void* operator new(size_t bytes) { return CountedAllocation(bytes, __builtin_return_address(0)); }
void* operator new[](size_t bytes) { return CountedAllocation(bytes, __builtin_return_address(0)); }
void operator delete(void* p) noexcept { Release(p); }
void operator delete[](void* p) noexcept { Release(p); }
void operator delete(void* p, size_t) noexcept { Release(p); }
void operator delete[](void* p, size_t) noexcept { Release(p); }

namespace mrt {
namespace {

using ops::Precision;
using ops::WeightType;
using testing::Compare;

const std::string kFolder = std::string(MRT_GOLDEN_DIR) + "/wan_dit";

template <typename T>
T Get(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return std::move(result).value();
}

/// The golden model in one precision.
struct GoldenModel {
  explicit GoldenModel(Precision precision, WeightType weights = WeightType::kActivation,
                       ops::Backend* backend = nullptr)
      : context(precision, backend) {
    const Checkpoint checkpoint =
        Get(Checkpoint::Open(kFolder + "/diffusion_pytorch_model.safetensors"));
    const WanConfig config = Get(WanConfig::Read(kFolder + "/config.json", checkpoint));
    wan.emplace(Get(WanTransformer::Load(context, checkpoint, config, weights)));
  }
  ops::Context context;
  std::optional<WanTransformer> wan;
};

/// One golden file.
struct GoldenCase {
  explicit GoldenCase(const std::string& name)
      : file(Get(Checkpoint::Open(kFolder + "/" + name + ".safetensors"))) {
    const Json monarch = Value("monarch");
    attention.mode = monarch.is_null() ? ops::AttentionMode::kDense : ops::AttentionMode::kMonarch;
    if (monarch.is_null()) return;
    attention.f_tied = monarch.at("f_tied");
    attention.h_reduce = monarch.at("h_reduce");
    attention.w_reduce = monarch.at("w_reduce");
    attention.iterations = monarch.at("num_iters");
  }
  Json Value(const std::string& key) const { return ParseJson(file.metadata().at(key)); }
  Tensor Float(const std::string& name) const { return ToFloat32(file.Find(name)); }

  Checkpoint file;
  ops::AttentionConfig attention;
};

int64_t TokensOf(int64_t latent_pixels) { return latent_pixels / 2; }

/// `first_flow` of a rollout: the first chunk's first step.
Tensor FirstFlow(GoldenModel& model, const GoldenCase& golden) {
  const Tensor noise = golden.Float("noise");
  const int64_t frames = golden.Value("num_frame_per_block");
  const std::vector<float> timesteps(static_cast<size_t>(frames),
                                     golden.Float("timesteps").as<float>()[0]);
  const CrossKv text = model.wan->EncodeText(model.context, golden.Float("context"));
  KvCache cache(model.wan->config(), TokensOf(noise.shape()[2]), TokensOf(noise.shape()[3]), frames,
                0, model.context.activation(), model.context.memory());
  EXPECT_TRUE(cache.BeginChunk(frames).ok());
  const TensorView chunk = noise.view().Slice(0, frames);
  Tensor flow(DType::kF32, chunk.shape);
  model.wan->Forward(model.context, chunk, timesteps, text, cache, golden.attention, flow);
  return flow;
}

Tensor BidirectionalFlow(GoldenModel& model, const GoldenCase& golden) {
  const Tensor latents = golden.Float("latents");
  const CrossKv text = model.wan->EncodeText(model.context, golden.Float("context"));
  Tensor flow(DType::kF32, latents.shape());
  model.wan->ForwardBidirectional(model.context, latents, golden.Value("timestep").get<float>(),
                                  text, golden.attention, flow);
  return flow;
}

/// The few-step loop over all chunks: DESIGN, the generation loop.
Tensor Rollout(GoldenModel& model, const GoldenCase& golden, DType kv_dtype) {
  const Tensor noise = golden.Float("noise"), renoise = golden.Float("renoise");
  const Tensor steps = golden.Float("timesteps");
  const int64_t frames = golden.Value("num_frame_per_block");
  const int64_t all_frames = noise.shape()[0];
  const int64_t window = golden.Value("local_attn_size"), sink = golden.Value("sink_size");
  const int64_t steps_count = steps.shape()[0];
  KvCache cache(model.wan->config(), TokensOf(noise.shape()[2]), TokensOf(noise.shape()[3]),
                window > 0 ? window : all_frames, sink, kv_dtype, model.context.memory());
  const CrossKv text = model.wan->EncodeText(model.context, golden.Float("context"));
  Tensor latents = golden.Float("noise");
  for (int64_t chunk = 0; chunk < all_frames / frames; ++chunk) {
    const TensorView x = latents.view().Slice(chunk * frames, (chunk + 1) * frames);
    Tensor flow(DType::kF32, x.shape);
    const auto forward = [&](float t) {
      model.wan->Forward(model.context, x, std::vector<float>(static_cast<size_t>(frames), t), text,
                         cache, golden.attention, flow);
    };
    EXPECT_TRUE(cache.BeginChunk(frames).ok());
    for (int64_t step = 0; step < steps_count; ++step) {
      const float t = steps.as<float>()[step];
      forward(t);
      const bool last = step + 1 == steps_count;
      const float next = last ? 0 : steps.as<float>()[step + 1] / 1000;
      const float* fresh = renoise.as<float>();
      if (!last) fresh += (chunk * (steps_count - 1) + step) * x.shape.elements();
      for (int64_t i = 0; i < x.shape.elements(); ++i) {
        const float x0 = x.as<float>()[i] - t / 1000 * flow.as<float>()[i];
        x.as<float>()[i] = (1 - next) * x0 + (last ? 0 : next * fresh[i]);
      }
    }
    forward(0);  // writes the clean chunk's keys and values
    cache.EndChunk();
  }
  return latents;
}

std::vector<std::string> GoldenNames(const std::string& prefix, const std::string& tensor) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    const std::string name = entry.path().stem().string();
    if (name.starts_with(prefix) && !GoldenCase(name).file.Find(tensor).empty())
      names.push_back(name);
  }
  return names;
}

TEST(WanGolden, FirstFlowOfEveryRollout) {
  GoldenModel model(Precision::kF32);
  const auto names = GoldenNames("rollout_", "first_flow");
  ASSERT_GE(names.size(), 6u);
  for (const std::string& name : names) {
    const GoldenCase golden(name);
    const double error =
        Compare(FirstFlow(model, golden), golden.file.Find("first_flow")).relative_l2;
    EXPECT_LE(error, 1e-4) << name;
    RecordProperty(name, std::to_string(error));
  }
}

TEST(WanGolden, BidirectionalFlow) {
  GoldenModel model(Precision::kF32);
  for (const std::string name : {"bidirectional_dense", "bidirectional_monarch"}) {
    const GoldenCase golden(name);
    const double error =
        Compare(BidirectionalFlow(model, golden), golden.file.Find("flow")).relative_l2;
    EXPECT_LE(error, 1e-4) << name;
  }
}

TEST(WanGolden, LatentsOfWholeRollouts) {
  GoldenModel model(Precision::kF32);
  for (const std::string name : {"rollout_dense_window", "rollout_monarch_tiles"}) {
    const GoldenCase golden(name);
    const ConstTensorView want = golden.file.Find("latents");
    EXPECT_LE(Compare(Rollout(model, golden, DType::kF32), want).relative_l2, 1e-4) << name;
    const double rounded = Compare(Rollout(model, golden, DType::kBF16), want).relative_l2;
    EXPECT_LE(rounded, 5e-3) << name;
    EXPECT_GT(rounded, 1e-4) << "the cache is not bf16";
  }
}

TEST(WanGolden, BFloat16CostsNoMoreThanItsRounding) {
  if (!ops::HasNativeBF16()) GTEST_SKIP() << "this CPU has no native bfloat16";
  GoldenModel emulated(Precision::kBF16Emulated), native(Precision::kBF16);
  for (const std::string& name : GoldenNames("rollout_", "first_flow")) {
    const GoldenCase golden(name);
    const ConstTensorView want = golden.file.Find("first_flow");
    const double allowed = 2 * Compare(FirstFlow(emulated, golden), want).relative_l2;
    EXPECT_LE(Compare(FirstFlow(native, golden), want).relative_l2, allowed) << name;
    EXPECT_LE(allowed, 0.05) << name;
  }
  const GoldenCase golden("bidirectional_monarch");
  const ConstTensorView want = golden.file.Find("flow");
  const double allowed = 2 * Compare(BidirectionalFlow(emulated, golden), want).relative_l2;
  EXPECT_LE(Compare(BidirectionalFlow(native, golden), want).relative_l2, allowed);
}

void ExpectSameBits(const Tensor& got, const Tensor& want, const std::string& name) {
  EXPECT_EQ(Compare(got, want).relative_l2, 0) << name;
}

// The device runs the operations of the CPU, so that nothing but the place differs.
TEST(WanOnADevice, GivesWhatTheCpuGives) {
  for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
    if (precision == Precision::kBF16 && !ops::HasNativeBF16()) continue;
    testing::FakeDevice device(precision);
    {
      GoldenModel here(precision), there(precision, WeightType::kActivation, &device);
      for (const std::string& name : GoldenNames("rollout_", "first_flow")) {
        const GoldenCase golden(name);
        ExpectSameBits(FirstFlow(there, golden), FirstFlow(here, golden), name);
      }
      for (const std::string name : {"bidirectional_dense", "bidirectional_monarch"}) {
        const GoldenCase golden(name);
        ExpectSameBits(BidirectionalFlow(there, golden), BidirectionalFlow(here, golden), name);
      }
      for (const std::string name : {"rollout_dense_window", "rollout_monarch_tiles"}) {
        const GoldenCase golden(name);
        ExpectSameBits(Rollout(there, golden, DType::kBF16), Rollout(here, golden, DType::kBF16),
                       name);
      }
      EXPECT_EQ(there.wan->weight_bytes(), here.wan->weight_bytes());
      EXPECT_GT(device.operations(), 1000);
    }
    EXPECT_EQ(device.allocated_bytes(), 0);
  }
}

// ---- Properties, on synthetic weights ----

WanConfig SmallConfig() {
  return {.dim = 96,
          .ffn_dim = 160,
          .freq_dim = 32,
          .num_heads = 3,
          .num_layers = 2,
          .in_dim = 4,
          .out_dim = 5,
          .text_dim = 24,
          .text_len = 7};
}

Tensor RandomTensor(const Shape& shape, unsigned seed) {
  Tensor x(DType::kF32, shape);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < shape.elements(); ++i) x.as<float>()[i] = normal(random);
  return x;
}

/// A small transformer with everything one forward over 3 frames of 4 x 6 tokens needs.
struct SmallModel {
  static constexpr int64_t kFrames = 3, kRows = 4, kCols = 6;

  explicit SmallModel(const Checkpoint& checkpoint = SyntheticWan(SmallConfig()),
                      Precision precision = Precision::kF32,
                      WeightType weights = WeightType::kActivation, ops::Backend* backend = nullptr)
      : context(precision, backend),
        wan(Get(WanTransformer::Load(context, checkpoint, SmallConfig(), weights))),
        text(wan.EncodeText(context, RandomTensor({5, SmallConfig().text_dim}, 1))),
        cache(SmallConfig(), kRows, kCols, 6, 0, context.activation(), context.memory()),
        latents(RandomTensor({kFrames, SmallConfig().in_dim, 2 * kRows, 2 * kCols}, 2)),
        flow(DType::kF32, {kFrames, SmallConfig().out_dim, 2 * kRows, 2 * kCols}) {
    EXPECT_TRUE(cache.BeginChunk(kFrames).ok());
  }
  void Forward(std::span<const float> timesteps) {
    wan.Forward(context, latents, timesteps, text, cache, ops::AttentionConfig{}, flow);
  }

  ops::Context context;
  WanTransformer wan;
  CrossKv text;
  KvCache cache;
  Tensor latents, flow;
};

// Rows of 1e-30 are no padding, but become the same keys and values as rows of zeros.
TEST(WanTransformer, OneRowStandsForThePaddingOfTheText) {
  const int64_t text_len = SmallConfig().text_len;
  const std::array<float, 3> timesteps = {900, 900, 900};
  SmallModel model, expanded;
  for (const int64_t given : {int64_t{0}, int64_t{1}, text_len - 1, text_len}) {
    Tensor text = RandomTensor({text_len, SmallConfig().text_dim}, 3);
    const TensorView padding = text.view().Slice(given, text_len);
    std::fill_n(padding.as<float>(), padding.shape.elements(), 1e-30f);
    expanded.text = expanded.wan.EncodeText(expanded.context, text);
    expanded.Forward(timesteps);
    std::fill_n(padding.as<float>(), padding.shape.elements(), 0.0f);
    model.text = model.wan.EncodeText(model.context, text);
    model.Forward(timesteps);
    EXPECT_LE(Compare(model.flow, expanded.flow).relative_l2, 1e-6) << given;
    EXPECT_EQ(model.text.Layer(0).keys.shape[0], std::min(given + 1, text_len));
    // The rows that are given alone, without any padding.
    const Tensor before = std::exchange(model.flow, Tensor(DType::kF32, model.flow.shape()));
    model.text = model.wan.EncodeText(model.context, text.view().Slice(0, given));
    model.Forward(timesteps);
    EXPECT_EQ(Compare(model.flow, before).relative_l2, 0) << given;
  }
}

TEST(WanTransformer, DoesNotDependOnTheThreadCount) {
  const std::array<float, 3> timesteps = {900, 900, 900};
  const int before = ThreadCount();
  SmallModel one, three;
  SetThreadCount(1);
  one.Forward(timesteps);
  SetThreadCount(3);
  three.Forward(timesteps);
  SetThreadCount(before);
  EXPECT_LE(Compare(three.flow, one.flow).relative_l2, 1e-6);
}

TEST(ConditioningMemo, GivesWhatIsMadeAnew) {
  ops::Context context(Precision::kF32);
  const TimeEmbedding embedding(SmallConfig(), SyntheticWan(SmallConfig()));
  const int64_t dim = SmallConfig().dim;
  ConditioningMemo memo;
  std::vector<const void*> places;
  for (int round = 0; round < 2; ++round)
    for (const float t : {1000.0f, 500.0f, 0.0f}) {
      const ArenaScope scope(context.arena());
      const TimeVectors got = memo.Time(context, embedding, dim, t);
      const TimeVectors want = MakeTimeVectors(context, embedding, dim, {&t, 1});
      EXPECT_EQ(Compare(got.embedding, want.embedding).relative_l2, 0) << t;
      EXPECT_EQ(Compare(got.projection, want.projection).relative_l2, 0) << t;
      places.push_back(got.embedding.data);
    }
  EXPECT_TRUE(std::equal(places.begin(), places.begin() + 3, places.begin() + 3));
  for (int t = 1; t < 100; ++t) {  // more than are kept
    const ArenaScope scope(context.arena());
    const auto timestep = static_cast<float>(t % 40);
    const TimeVectors want = MakeTimeVectors(context, embedding, dim, {&timestep, 1});
    EXPECT_EQ(
        Compare(memo.Time(context, embedding, dim, timestep).embedding, want.embedding).relative_l2,
        0);
  }
  for (const auto& [first, frames] : {std::pair{0, 1}, {1, 3}, {1, 3}, {4, 3}, {1, 3}}) {
    const ArenaScope scope(context.arena());
    const RopeTable got = memo.Rope(context, 32, first, frames, 4, 6);
    const RopeTable want = MakeRopeTable(context, 32, first, frames, 4, 6);
    EXPECT_EQ(Compare(got.cos, want.cos).relative_l2, 0) << first;
    EXPECT_EQ(Compare(got.sin, want.sin).relative_l2, 0) << first;
  }
}

// Without self-attention no frame sees another, so every frame follows its own timestep only.
TEST(WanTransformer, EveryFrameHasItsOwnTimestep) {
  Checkpoint checkpoint = SyntheticWan(SmallConfig());
  for (const std::string block : {"blocks.0", "blocks.1"}) {
    for (const std::string part : {".weight", ".bias"}) {
      const std::string name = block + ".self_attn.o" + part;
      auto zeros = std::make_shared<Tensor>(DType::kF32, checkpoint.Find(name).shape);
      checkpoint.Add(name, *zeros, zeros);
    }
  }
  SmallModel mixed(checkpoint), uniform(checkpoint);
  const std::array<float, 3> timesteps = {1000, 500, 20};
  mixed.Forward(timesteps);
  for (int64_t f = 0; f < 3; ++f) {
    const float t = timesteps[static_cast<size_t>(f)];
    uniform.Forward(std::array<float, 3>{t, t, t});
    const TensorView got = mixed.flow.view().Slice(f, f + 1);
    EXPECT_LE(Compare(got, uniform.flow.view().Slice(f, f + 1)).relative_l2, 1e-6) << f;
    const int64_t other = (f + 1) % 3;
    EXPECT_GT(Compare(mixed.flow.view().Slice(other, other + 1),
                      uniform.flow.view().Slice(other, other + 1))
                  .relative_l2,
              1e-2);
  }
}

TEST(WanOnADevice, EveryFrameHasItsOwnTimestep) {
  testing::FakeDevice device(Precision::kF32);
  const std::array<float, 3> timesteps = {1000, 500, 20};
  SmallModel here,
      there(SyntheticWan(SmallConfig()), Precision::kF32, WeightType::kActivation, &device);
  here.Forward(timesteps);
  there.Forward(timesteps);
  ExpectSameBits(there.flow, here.flow, "");
}

/// The next chunk's flow after a chunk whose own flow was asked for or not.
Tensor FlowAfterAChunk(SmallModel& model, bool with_flow) {
  const std::array<float, 3> clean = {0, 0, 0}, noisy = {900, 900, 900};
  model.wan.Forward(model.context, model.latents, clean, model.text, model.cache,
                    ops::AttentionConfig{}, with_flow ? model.flow.view() : TensorView());
  model.cache.EndChunk();
  EXPECT_TRUE(model.cache.BeginChunk(SmallModel::kFrames).ok());
  model.Forward(noisy);
  return std::exchange(model.flow, Tensor(DType::kF32, model.flow.shape()));
}

TEST(WanTransformer, LeavesTheSameBitsInTheCacheWithoutAFlow) {
  for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
    if (precision == Precision::kBF16 && !ops::HasNativeBF16()) continue;
    for (const WeightType weights : {WeightType::kActivation, WeightType::kInt8}) {
      const Checkpoint checkpoint = SyntheticWan(SmallConfig());
      SmallModel with(checkpoint, precision, weights), without(checkpoint, precision, weights);
      const Tensor want = FlowAfterAChunk(with, true);
      ExpectSameBits(FlowAfterAChunk(without, false), want, "");
    }
  }
}

TEST(WanOnADevice, DoesLessWithoutAFlow) {
  testing::FakeDevice device(Precision::kF32);
  SmallModel here,
      there(SyntheticWan(SmallConfig()), Precision::kF32, WeightType::kActivation, &device);
  const auto operations = [&](bool with_flow) {
    const int64_t before = device.operations();
    ExpectSameBits(FlowAfterAChunk(there, with_flow), FlowAfterAChunk(here, true), "");
    return device.operations() - before;
  };
  const int64_t with_flow = operations(true);
  EXPECT_LT(operations(false), with_flow);
}

// oneDNN allocates a map of its arguments for every primitive it runs; that is not ours to change.
TEST(WanTransformer, SecondForwardOfAShapeAllocatesNothing) {
  for (const auto& [precision, weights] : {std::pair{Precision::kF32, WeightType::kActivation},
                                           {Precision::kBF16, WeightType::kActivation},
                                           {Precision::kF32, WeightType::kInt8}}) {
    if (precision == Precision::kBF16 && !ops::HasNativeBF16()) continue;
    SmallModel model(SyntheticWan(SmallConfig()), precision, weights);
    const std::array<float, 3> timesteps = {900, 900, 900};
    model.Forward(timesteps);
    const int64_t capacity = model.context.arena().capacity_bytes();
    own_allocations = vendor_allocations = 0;
    counting = true;
    model.Forward(timesteps);
    counting = false;
    EXPECT_EQ(own_allocations, 0);
    EXPECT_EQ(model.context.arena().capacity_bytes(), capacity);
    EXPECT_LE(capacity,
              WanTransformer::ScratchBytes(SmallConfig(), SmallModel::kFrames, SmallModel::kRows,
                                           SmallModel::kCols, precision, weights));
    RecordProperty("vendor_allocations", std::to_string(vendor_allocations));
    counting = true;
    delete new std::string(100, 'x');
    counting = false;
    EXPECT_GT(own_allocations, 0) << "the counter counts";
  }
}

TEST(WanTransformer, PlansItsWeights) {
  for (const auto& [precision, weights] : {std::pair{Precision::kF32, WeightType::kActivation},
                                           {Precision::kBF16, WeightType::kActivation},
                                           {Precision::kF32, WeightType::kInt8}}) {
    if (precision == Precision::kBF16 && !ops::HasNativeBF16()) continue;
    const GoldenModel model(precision, weights);
    const int64_t planned = WanTransformer::WeightBytes(model.wan->config(), precision, weights);
    // Packing may pad a narrow matrix, such as the head's.
    EXPECT_NEAR(static_cast<double>(planned) / static_cast<double>(model.wan->weight_bytes()), 1,
                0.02);
  }
  const auto large = [](WeightType weights) {
    return static_cast<double>(
        WanTransformer::WeightBytes(Wan21_1_3B(), Precision::kBF16, weights));
  };
  EXPECT_NEAR(large(WeightType::kActivation), 2 * 1.42e9 + 2 * 17e6, 0.02e9);
  EXPECT_NEAR(large(WeightType::kInt8), 0.51 * large(WeightType::kActivation), 0.03e9);
}

/// The checkpoint with its matrices as int8.
Checkpoint Quantized(const Checkpoint& from) {
  Checkpoint to;
  const auto owner = std::make_shared<Checkpoint>(from);
  for (const auto& [name, tensor] : from.tensors()) {
    if (!IsBlockMatrix(name)) {
      to.Add(name, tensor, owner);
      continue;
    }
    const int64_t rows = tensor.shape[0], width = tensor.shape[1];
    const auto values = std::make_shared<Tensor>(DType::kI8, tensor.shape);
    const auto scales = std::make_shared<Tensor>(DType::kF32, Shape{rows});
    const Tensor wide = ToFloat32(tensor);
    for (int64_t r = 0; r < rows; ++r)
      scales->as<float>()[r] = QuantizeRow(wide.as<float>() + r * width, width,
                                           static_cast<int8_t*>(values->view().data) + r * width);
    to.Add(name, *values, values);
    to.Add(ScaleName(name), *scales, scales);
  }
  return to;
}

TEST(WanTransformer, Int8OfAFileAndOfLoadingAreTheSame) {
  const Checkpoint checkpoint = SyntheticWan(SmallConfig()), stored = Quantized(checkpoint);
  EXPECT_TRUE(HasInt8Weights(stored));
  EXPECT_FALSE(HasInt8Weights(checkpoint));
  SmallModel loaded(checkpoint, Precision::kF32, WeightType::kInt8);
  SmallModel read(stored, Precision::kF32, WeightType::kInt8), wide(checkpoint);
  const std::array<float, 3> timesteps = {900, 900, 900};
  for (SmallModel* model : {&loaded, &read, &wide}) model->Forward(timesteps);
  EXPECT_EQ(std::memcmp(loaded.flow.view().data, read.flow.view().data, read.flow.bytes()), 0);
  const double error = Compare(loaded.flow, wide.flow).relative_l2;
  EXPECT_GT(error, 1e-4);
  EXPECT_LE(error, 2e-2);
  EXPECT_EQ(loaded.wan.weight_bytes(), read.wan.weight_bytes());
}

TEST(WanTransformer, RefusesInt8ThatIsNotWhole) {
  const Checkpoint good = Quantized(SyntheticWan(SmallConfig()));
  const std::string name = "blocks.1.ffn.0.weight";
  const int64_t rows = good.Find(name).shape[0];
  const auto scales = [&](DType dtype, const Shape& shape, float last) {
    auto tensor = std::make_shared<Tensor>(dtype, shape);
    if (dtype == DType::kF32) {
      std::fill_n(tensor->as<float>(), shape.elements(), 1.0f);
      tensor->as<float>()[shape.elements() - 1] = last;
    }
    return tensor;
  };
  const auto error = [&](const std::string& what, const std::shared_ptr<Tensor>& tensor) {
    Checkpoint bad;
    const auto owner = std::make_shared<Checkpoint>(good);
    for (const auto& [each, view] : good.tensors())
      if (each != what) bad.Add(each, view, owner);
    if (tensor != nullptr) bad.Add(what, *tensor, tensor);
    const Status status = WanTransformer::Check(bad, SmallConfig());
    EXPECT_FALSE(status.ok()) << what;
    return std::string(status.message());
  };
  const std::string scale = ScaleName(name), last = std::to_string(rows - 1);
  const auto says = [](const std::string& message, const std::string& text) {
    EXPECT_NE(message.find(text), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  };
  says(error(scale, nullptr), "1 tensors are missing: " + scale);
  says(error(scale, scales(DType::kF16, {rows}, 1)), scale + " (got F16 [");
  says(error(scale, scales(DType::kF32, {rows - 1}, 1)), ", need F32 [" + std::to_string(rows));
  says(error(scale, scales(DType::kF32, {rows, 1}, 1)), scale + " (got F32 [");
  says(error(scale, scales(DType::kF32, {rows}, NAN)), "(got nan for row " + last);
  says(error(scale, scales(DType::kF32, {rows}, INFINITY)), "(got inf for row " + last);
  says(error(scale, scales(DType::kF32, {rows}, 0)), "(got 0");
  says(error(scale, scales(DType::kF32, {rows}, -1)), "(got -1");
  const auto bytes = std::make_shared<Tensor>(DType::kI8, good.Find("head.head.weight").shape);
  says(error("head.head.weight", bytes), "head.head.weight (got I8 [");
  says(error("head.head.weight", bytes), ", need floating point [");
  says(error(name, std::make_shared<Tensor>(DType::kI8, Shape{rows, 3})), name + " (got I8 [");
}

TEST(WanTransformer, ListsEveryMissingAndWrongTensor) {
  const Checkpoint whole = SyntheticWan(SmallConfig());
  Checkpoint broken;
  auto owner = std::make_shared<Checkpoint>(whole);
  for (const auto& [name, tensor] : whole.tensors()) {
    if (name == "blocks.1.ffn.2.bias" || name == "head.modulation") continue;
    ConstTensorView view = tensor;
    if (name == "blocks.0.norm3.weight") view.shape = {1};
    broken.Add(name, view, owner);
  }
  ops::Context context(Precision::kF32);
  const Result<WanTransformer> result = WanTransformer::Load(context, broken, SmallConfig());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kNotFound);
  for (const char* name : {"blocks.1.ffn.2.bias", "head.modulation", "blocks.0.norm3.weight"})
    EXPECT_NE(result.status().message().find(name), std::string::npos) << result.status().message();
  EXPECT_EQ(result.status().message().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace mrt
