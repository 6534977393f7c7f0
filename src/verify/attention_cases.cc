#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/threads.h"
#include "kernels/dense/dense.h"
#include "kernels/dense/reference.h"
#include "kernels/monarch/monarch.h"
#include "kernels/monarch/reference.h"
#include "ops/attention.h"
#include "ops/rowwise.h"
#include "ops/transfer.h"
#include "verify/case_file.h"
#include "verify/cases.h"
#include "verify/metadata.h"

namespace mrt::verify {
namespace {

struct AttentionCase {
  MonarchShape shape;
  int64_t batch = 1;

  int64_t query_elements() const { return tokens(shape.frames_q); }  // of one batch entry
  int64_t key_elements() const { return tokens(shape.frames_kv); }
  int64_t frame_elements() const { return tokens(1); }

 private:
  int64_t tokens(int64_t frames) const {
    return frames * shape.rows * shape.cols * shape.heads * shape.head_dim;
  }
};

Result<AttentionCase> ReadCase(const Checkpoint& file) {
  const Metadata metadata(file);
  AttentionCase c;
  for (auto& [key, field, otherwise] : {std::tuple{"frames_q", &c.shape.frames_q, -1},
                                        {"frames_k", &c.shape.frames_kv, -1},
                                        {"height", &c.shape.rows, -1},
                                        {"width", &c.shape.cols, -1},
                                        {"heads", &c.shape.heads, -1},
                                        {"head_dim", &c.shape.head_dim, -1},
                                        {"f_tied", &c.shape.f_tied, 1},
                                        {"h_reduce", &c.shape.h_reduce, 1},
                                        {"w_reduce", &c.shape.w_reduce, 1},
                                        {"num_iters", &c.shape.iterations, 1},
                                        {"causal_block_frames", &c.shape.causal_block_frames, 0}}) {
    MRT_ASSIGN_OR_RETURN(const int64_t value,
                         otherwise < 0 ? metadata.Integer(key) : metadata.Integer(key, otherwise));
    constexpr int64_t kExtentMax = 1 << 20;
    if (value < 0 || value > kExtentMax)
      return BadData("[verify] " + file.path() + ": metadata " + key + " is " +
                     std::to_string(value));
    *field = static_cast<int>(value);
  }
  MRT_RETURN_IF_ERROR(ValidateMonarch(c.shape));
  const ConstTensorView q = file.Find("q");
  c.batch = q.shape.rank() == 4 ? q.shape[0] : 0;
  const int64_t grid = int64_t{c.shape.rows} * c.shape.cols;
  const Shape queries{c.batch, c.shape.frames_q * grid, c.shape.heads, c.shape.head_dim};
  const Shape keys{c.batch, c.shape.frames_kv * grid, c.shape.heads, c.shape.head_dim};
  for (const auto& [name, shape, required] : {std::tuple{"q", queries, true},
                                              {"k", keys, true},
                                              {"v", keys, true},
                                              {"out", queries, true},
                                              {"dense_out", queries, false},
                                              {"grad_out", queries, false},
                                              {"grad_q", queries, false},
                                              {"grad_k", keys, false},
                                              {"grad_v", keys, false}}) {
    const ConstTensorView tensor = file.Find(name);
    if (tensor.empty() && !required) continue;
    if (!(tensor.shape == shape) || tensor.empty())
      return BadData("[verify] " + file.path() + ": " + name + " is " + tensor.shape.ToString() +
                     ", need " + shape.ToString());
  }
  return c;
}

// A copy in the dtype a kernel of this precision reads.
Tensor Stored(const ConstTensorView& x, DType dtype) {
  Tensor f32 = ToFloat32(x);
  if (dtype == DType::kF32) return f32;
  Tensor out(dtype, x.shape);
  for (int64_t i = 0; i < x.shape.elements(); ++i)
    out.as<BFloat16>()[i] = ToBFloat16(f32.as<float>()[i]);
  return out;
}

std::vector<double> Doubles(const ConstTensorView& x) {
  std::vector<double> out(static_cast<size_t>(x.shape.elements()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = ElementAsFloat(x, static_cast<int64_t>(i));
  return out;
}

Tensor FromDoubles(const std::vector<double>& x) {
  Tensor out(DType::kF32, {static_cast<int64_t>(x.size())});
  for (size_t i = 0; i < x.size(); ++i) out.as<float>()[i] = static_cast<float>(x[i]);
  return out;
}

struct Inputs {
  std::vector<double> q, k, v;
};

// Runs `body(inputs of one batch entry, rounded to bfloat16)` for every entry and joins what it
// returns.
template <typename F>
Tensor JoinRoundedBatch(const AttentionCase& c, const Checkpoint& file, F&& body) {
  std::vector<double> all;
  for (int64_t b = 0; b < c.batch; ++b) {
    const auto part = [&](const char* name) {
      return Doubles(Stored(file.Find(name).Slice(b, b + 1), DType::kBF16));
    };
    const std::vector<double> out = body(Inputs{part("q"), part("k"), part("v")});
    all.insert(all.end(), out.begin(), out.end());
  }
  return FromDoubles(all);
}

DenseShape AsDense(const MonarchShape& shape) {
  return {.heads = shape.heads,
          .tokens_q = int64_t{shape.frames_q} * shape.rows * shape.cols,
          .tokens_per_frame = int64_t{shape.rows} * shape.cols,
          .frames_kv = shape.frames_kv,
          .head_dim = shape.head_dim,
          .causal_block_frames = shape.causal_block_frames,
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim))),
          .storage = shape.storage};
}

// Runs a kernel over the batch: `Impl` is MonarchImpl or DenseImpl with its Args.
template <typename Args, typename Impl, typename KernelShape>
Tensor RunKernel(const Impl& impl, const KernelShape& shape, const AttentionCase& c,
                 const Checkpoint& file, DType dtype) {
  const Tensor q = Stored(file.Find("q"), dtype), k = Stored(file.Find("k"), dtype),
               v = Stored(file.Find("v"), dtype);
  Tensor out(dtype, q.shape());
  Tensor scratch(DType::kU8, {impl.scratch_bytes(shape, ThreadCount())});
  for (int64_t b = 0; b < c.batch; ++b) {
    const auto at = [&](const Tensor& x, int64_t elements) {
      return static_cast<char*>(x.view().data) + elements * DTypeSize(dtype);
    };
    std::vector<const void*> k_frames, v_frames;
    for (int64_t f = 0; f < c.shape.frames_kv; ++f) {
      const int64_t offset = b * c.key_elements() + f * c.frame_elements();
      k_frames.push_back(at(k, offset));
      v_frames.push_back(at(v, offset));
    }
    Args args;
    args.shape = shape;
    args.q = at(q, b * c.query_elements());
    args.k_frames = k_frames.data();
    args.v_frames = v_frames.data();
    args.out = at(out, b * c.query_elements());
    args.scratch = scratch.view().data;
    impl.run(args);
  }
  return out;
}

ops::AttentionConfig ConfigOf(const AttentionCase& c, ops::AttentionMode mode) {
  return {.mode = mode,
          .f_tied = c.shape.f_tied,
          .h_reduce = c.shape.h_reduce,
          .w_reduce = c.shape.w_reduce,
          .iterations = c.shape.iterations};
}

ops::AttentionGrid GridOfCase(const AttentionCase& c) {
  return {.rows = c.shape.rows,
          .cols = c.shape.cols,
          .heads = c.shape.heads,
          .head_dim = c.shape.head_dim};
}

// Stores tokens as they are as the frames of keys or of values: only the backend knows how they
// lie.
std::vector<void*> StoreFramesThere(ops::Context& context, const AttentionCase& c,
                                    const ConstTensorView& tokens) {
  const DType dtype = context.activation();
  const int64_t frames = c.shape.frames_kv;
  const TensorView there = context.arena().Allocate(dtype, {frames, c.frame_elements()});
  std::vector<void*> pointers;
  for (int64_t f = 0; f < frames; ++f) pointers.push_back(there.Slice(f, f + 1).data);
  const Shape heads{tokens.shape.elements() / (c.shape.heads * c.shape.head_dim), c.shape.heads,
                    c.shape.head_dim};
  ops::StoreValues(context, ops::Upload(context, tokens.Reshape(heads)),
                   {pointers, pointers, dtype});
  return pointers;
}

// Runs an operation of the context's backend over the batch.
Tensor RunThere(ops::Context& context, const AttentionCase& c, ops::AttentionMode mode,
                const Checkpoint& file) {
  const DType dtype = context.activation();
  const Tensor q = Stored(file.Find("q"), dtype), k = Stored(file.Find("k"), dtype),
               v = Stored(file.Find("v"), dtype);
  const Shape queries{c.shape.frames_q, c.shape.rows, c.shape.cols, c.shape.heads,
                      c.shape.head_dim};
  Tensor out(dtype, q.shape());
  for (int64_t b = 0; b < c.batch; ++b) {
    const ArenaScope scope(context.arena());
    const std::vector<void*> keys = StoreFramesThere(context, c, k.view().Slice(b, b + 1));
    const std::vector<void*> values = StoreFramesThere(context, c, v.view().Slice(b, b + 1));
    const TensorView made = context.Activation(queries);
    ops::SelfAttention(context, ConfigOf(c, mode), GridOfCase(c),
                       ops::Upload(context, q.view().Slice(b, b + 1).Reshape(queries)),
                       {keys, values, dtype}, made);
    ops::DownloadTo(context, made, out.view().Slice(b, b + 1));
  }
  return out;
}

Status VerifyThere(const AttentionCase& c, const Checkpoint& file, ops::Context& context,
                   const RunOptions& options, Judge& judge) {
  for (const auto& [tensor, mode] : {std::pair{"out", ops::AttentionMode::kMonarch},
                                     {"dense_out", ops::AttentionMode::kDense}}) {
    if (file.Find(tensor).empty()) continue;
    const Status runs =
        c.shape.causal_block_frames > 0
            ? Unavailable("[attention] there is no causal mask on " + options.device)
            : ops::ValidateAttention(ConfigOf(c, mode), GridOfCase(c), c.shape.frames_q,
                                     c.shape.frames_kv, context.precision(), context.backend());
    if (!runs.ok())
      judge.Skip(file.path(), tensor, runs.message());
    else
      judge.Compare(file.path(), tensor, RunThere(context, c, mode, file), file.Find(tensor),
                    kTensorLimit);
  }
  for (const char* tensor : {"grad_q", "grad_k", "grad_v"})
    if (!file.Find(tensor).empty())
      judge.Skip(file.path(), tensor, "there is no backward pass on " + options.device);
  return {};
}

// What rounding costs the definition, where the kernel that bfloat16 would run rounds.
template <typename Impl>
Rounding RoundingOf(const Impl& impl, const RunOptions& options) {
  const bool products = impl.bf16_products || options.device != "cpu";
  return products ? Rounding::kBf16Operands : Rounding::kBf16Output;
}

Status CompareRounded(const AttentionCase& c, const DenseShape& dense, bool has_dense,
                      const Checkpoint& file, const RunOptions& options, const std::string& label,
                      Judge& judge) {
  MonarchShape monarch_bf16 = c.shape;
  monarch_bf16.storage = StorageType::kBF16;
  MRT_ASSIGN_OR_RETURN(const MonarchImpl* const monarch_impl,
                       PickMonarch(monarch_bf16, options.implementation.c_str()));
  judge.Compare(label, "out",
                JoinRoundedBatch(c, file,
                                 [&](const Inputs& in) {
                                   return MonarchReference(c.shape, in.q, in.k, in.v,
                                                           RoundingOf(*monarch_impl, options));
                                 }),
                file.Find("out"), kTensorLimit);
  if (!has_dense) return {};
  DenseShape dense_bf16 = dense;
  dense_bf16.storage = StorageType::kBF16;
  MRT_ASSIGN_OR_RETURN(const DenseImpl* const dense_impl,
                       PickDense(dense_bf16, options.implementation.c_str()));
  judge.Compare(label, "dense_out",
                JoinRoundedBatch(c, file,
                                 [&](const Inputs& in) {
                                   return DenseReference(dense, in.q, in.k, in.v, {},
                                                         RoundingOf(*dense_impl, options));
                                 }),
                file.Find("dense_out"), kTensorLimit);
  return {};
}

Status CompareGradients(const AttentionCase& c, const Checkpoint& file, const std::string& label,
                        Judge& judge) {
  std::vector<double> grads[3];
  for (int64_t b = 0; b < c.batch; ++b) {
    const auto part = [&](const char* name) { return Doubles(file.Find(name).Slice(b, b + 1)); };
    const MonarchGradients g =
        MonarchReferenceBackward(c.shape, part("q"), part("k"), part("v"), part("grad_out"));
    for (const auto& [all, one] :
         {std::pair{&grads[0], &g.q}, {&grads[1], &g.k}, {&grads[2], &g.v}})
      all->insert(all->end(), one->begin(), one->end());
  }
  const char* names[3] = {"grad_q", "grad_k", "grad_v"};
  for (int i = 0; i < 3; ++i)
    if (!file.Find(names[i]).empty())
      judge.Compare(label, names[i], FromDoubles(grads[i]), file.Find(names[i]), kTensorLimit);
  return {};
}

}  // namespace

Status VerifyAttention(const std::string& path, ops::Context& context, const RunOptions& options,
                       Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Checkpoint file, OpenCase(path));
  MRT_ASSIGN_OR_RETURN(AttentionCase c, ReadCase(file));
  if (context.backend() != nullptr) return VerifyThere(c, file, context, options, judge);
  const DType dtype = context.activation();
  c.shape.storage = dtype == DType::kBF16 ? StorageType::kBF16 : StorageType::kF32;
  const DenseShape dense = AsDense(c.shape);
  const bool has_dense = !file.Find("dense_out").empty();
  if (context.precision() == ops::Precision::kBF16Emulated)
    return CompareRounded(c, dense, has_dense, file, options, path, judge);
  MRT_ASSIGN_OR_RETURN(const MonarchImpl* const monarch_impl,
                       PickMonarch(c.shape, options.implementation.c_str()));
  judge.Compare(path, "out", RunKernel<MonarchArgs>(*monarch_impl, c.shape, c, file, dtype),
                file.Find("out"), kTensorLimit);
  if (has_dense) {
    MRT_ASSIGN_OR_RETURN(const DenseImpl* const dense_impl,
                         PickDense(dense, options.implementation.c_str()));
    judge.Compare(path, "dense_out", RunKernel<DenseArgs>(*dense_impl, dense, c, file, dtype),
                  file.Find("dense_out"), kTensorLimit);
  }
  if (file.Find("grad_out").empty()) return {};
  return CompareGradients(c, file, path, judge);
}

}  // namespace mrt::verify
