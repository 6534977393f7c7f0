#include "ops/cpu/vendor.h"

#include <cstring>
#include <memory>
#include <optional>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/signals.h"
#include "base/threads.h"
#include "ops/backend.h"
#include "ops/storage.h"

namespace mrt::ops {
namespace {

/// Elements a thread converts at least: below that, waking it costs more.
constexpr int64_t kConvertGrain = int64_t{1} << 16;

}  // namespace

dnnl::engine& CpuEngine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::data_type VendorType(DType dtype) {
  switch (dtype) {
    case DType::kF32: return dnnl::memory::data_type::f32;
    case DType::kBF16: return dnnl::memory::data_type::bf16;
    case DType::kI8: return dnnl::memory::data_type::s8;
    case DType::kU8: return dnnl::memory::data_type::u8;
    case DType::kI32: return dnnl::memory::data_type::s32;
    default: MRT_CHECK(!"a dtype of oneDNN's");
  }
  return dnnl::memory::data_type::undef;
}

void ConvertTo(const ConstTensorView& from, DType dtype, void* to) {
  const int64_t count = from.shape.elements();
  MRT_CHECK(from.dtype == DType::kF32 || from.dtype == DType::kBF16 || from.dtype == DType::kF16 ||
            from.dtype == DType::kF64);
  if (from.dtype == DType::kF32 || from.dtype == DType::kBF16) {
    const CastArgs args{{from.data, Storage(from.dtype)}, {to, Storage(dtype)}, 1};
    return ParallelFor(count, kConvertGrain,
                       [&](int64_t begin, int64_t end) { Rowwise().cast(args, begin, end); });
  }
  ParallelFor(count, kConvertGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = from.dtype == DType::kF16
                              ? ToFloat(static_cast<const Float16*>(from.data)[i])
                              : static_cast<float>(static_cast<const double*>(from.data)[i]);
      if (dtype == DType::kBF16) {
        static_cast<BFloat16*>(to)[i] = ToBFloat16(value);
      } else {
        static_cast<float*>(to)[i] = value;
      }
    }
  });
}

dnnl::primitive_attr Attributes(Activation activation, bool add) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (activation == Activation::kNone && !add) return attributes;
  dnnl::post_ops post_ops;
  switch (activation) {
    case Activation::kNone: break;
    case Activation::kGeluTanh:
      post_ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_gelu_tanh, 0.0f, 0.0f);
      break;
    case Activation::kSilu:
      post_ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_swish, 1.0f, 0.0f);
      break;
    case Activation::kRelu:
      post_ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
      break;
  }
  if (add) post_ops.append_sum(1.0f);
  attributes.set_post_ops(post_ops);
  return attributes;
}

bool IsReference(const char* implementation) { return std::strncmp(implementation, "ref", 3) == 0; }

Prepared::Prepared(const dnnl::primitive& primitive, const dnnl::memory::desc& src,
                   const dnnl::memory::desc& weights, const dnnl::memory::desc& dst,
                   const dnnl::memory::desc& scratchpad, bool bias, const char* implementation)
    : primitive_(primitive),
      src_(src, CpuEngine(), DNNL_MEMORY_NONE),
      weights_(weights, CpuEngine(), DNNL_MEMORY_NONE),
      dst_(dst, CpuEngine(), DNNL_MEMORY_NONE),
      weights_desc_(weights),
      scratchpad_bytes_(static_cast<int64_t>(scratchpad.get_size())),
      has_bias_(bias),
      needs_shield_(std::strstr(implementation, "gemm") != nullptr),
      implementation_(implementation) {
  if (scratchpad_bytes_ > 0) scratchpad_ = dnnl::memory(scratchpad, CpuEngine(), DNNL_MEMORY_NONE);
}

void Prepared::Run(Context& context, const void* src, const dnnl::memory& weights,
                   const dnnl::memory& bias, void* dst) {
  ArenaScope scope(context.arena());
  src_.set_data_handle(const_cast<void*>(src));
  dst_.set_data_handle(dst);
  std::array<dnnl_exec_arg_t, 5> args = {{
      {DNNL_ARG_SRC, src_.get()},
      {DNNL_ARG_WEIGHTS, weights.get()},
      {DNNL_ARG_DST, dst_.get()},
  }};
  int count = 3;
  if (has_bias_) args[count++] = {DNNL_ARG_BIAS, bias.get()};
  if (scratchpad_bytes_ > 0) {
    scratchpad_.set_data_handle(
        context.arena().Allocate(DType::kU8, Shape{scratchpad_bytes_}).data);
    args[count++] = {DNNL_ARG_SCRATCHPAD, scratchpad_.get()};
  }
  // The C interface: the C++ one builds a hash map for every call.
  dnnl::stream& stream = context.vendor().stream;
  std::optional<SignalShield> shield;
  if (needs_shield_) shield.emplace();
  dnnl::error::wrap_c_api(
      dnnl_primitive_execute(primitive_.get(), stream.get(), count, args.data()),
      "[ops] oneDNN could not run a primitive");
  stream.wait();
}

void Prepared::Run(Context& context, const void* src, const void* weights, void* dst) {
  MRT_CHECK(!has_bias_);
  weights_.set_data_handle(const_cast<void*>(weights));
  Run(context, src, weights_, weights_, dst);
}

PackedWeight::PackedWeight(const ConstTensorView& weight, const dnnl::memory::desc& plain,
                           const dnnl::memory::desc& packed, bool round)
    : desc_(packed), memory_(packed, CpuEngine()) {
  const auto dtype_of = [&] {
    switch (packed.data_type()) {
      case dnnl::memory::data_type::bf16: return DType::kBF16;
      case dnnl::memory::data_type::s8: return DType::kI8;
      default: return DType::kF32;
    }
  };
  const DType dtype = dtype_of();
  std::unique_ptr<char[]> converted;  // only if the bytes of the file cannot be packed as they are
  const void* data = weight.data;
  if (weight.dtype != dtype || round) {
    const int64_t count = weight.shape.elements();
    converted = std::make_unique_for_overwrite<char[]>(count * DTypeSize(dtype));
    ConvertTo(weight, dtype, converted.get());
    if (round) {
      const RoundArgs args{reinterpret_cast<float*>(converted.get()), 1};
      ParallelFor(count, kConvertGrain,
                  [&](int64_t begin, int64_t end) { Rowwise().round(args, begin, end); });
    }
    data = converted.get();
  }
  dnnl::memory from(plain, CpuEngine(), const_cast<void*>(data));
  dnnl::stream stream(CpuEngine());
  dnnl::reorder(from, memory_).execute(stream, from, memory_);
  stream.wait();
}

const dnnl::memory& PackedWeight::In(const dnnl::memory::desc& layout) const {
  if (layout == desc_) return memory_;
  const std::lock_guard lock(mutex_);
  for (const dnnl::memory& other : others_)
    if (other.get_desc() == layout) return other;
  dnnl::memory& repacked = others_.emplace_back(layout, CpuEngine());
  dnnl::memory from = memory_;
  dnnl::stream stream(CpuEngine());
  dnnl::reorder(from, repacked).execute(stream, from, repacked);
  stream.wait();
  return repacked;
}

int64_t PackedWeight::bytes() const {
  const std::lock_guard lock(mutex_);
  size_t sum = desc_.get_size();
  for (const dnnl::memory& other : others_) sum += other.get_desc().get_size();
  return static_cast<int64_t>(sum);
}

dnnl::memory PackBias(const ConstTensorView& bias, const dnnl::memory::desc& desc) {
  if (bias.empty()) return {};
  dnnl::memory packed(desc, CpuEngine());
  ConvertTo(bias, DType::kF32, packed.get_data_handle());
  return packed;
}

Context::Context(Precision precision, Backend* backend)
    : precision_(precision),
      backend_(backend),
      arena_(backend),
      vendor_(std::make_unique<Vendor>()) {
  MRT_CHECK(backend == nullptr || precision != Precision::kBF16Emulated);
}

Context::~Context() = default;

Memory* Context::memory() const { return backend_; }

bool HasNativeBF16() {
  const CpuFeatures& cpu = GetCpuFeatures();
  // oneDNN may be held back by its own environment variable, so both are asked.
  const int wanted = dnnl_cpu_isa_avx512_core_bf16;
  const bool vendor = (dnnl_get_effective_cpu_isa() & wanted) == wanted;
  return vendor && (cpu.avx512_bf16 || cpu.amx_bf16);
}

std::string VendorDescription() {
  const dnnl_version_t* version = dnnl_version();
  const auto isa = [] {
    switch (dnnl_get_effective_cpu_isa()) {
      case dnnl_cpu_isa_avx512_core_amx: return "AMX";
      case dnnl_cpu_isa_avx512_core_bf16: return "AVX-512 BF16";
      case dnnl_cpu_isa_avx512_core_vnni: return "AVX-512 VNNI";
      case dnnl_cpu_isa_avx512_core: return "AVX-512";
      case dnnl_cpu_isa_avx2: return "AVX2";
      default: return "another instruction set";
    }
  };
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch) + ", " + isa();
}

}  // namespace mrt::ops
