// A device for tests without one: an ops::Backend that runs every operation on the CPU, on memory
// that the host cannot reach.
//
// The memory is mapped twice. Tensors point into the mapping without access rights, so that reading
// or writing them on the host ends the process at once; the operations use the other one. They also
// refuse pointers that are not of the device, or no longer. New memory is full of NaN.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "ops/backend.h"

namespace mrt::testing {

/// Thread-safe, as backends are. Another stream of it is a FakeDevice that refuses its memory, but
/// for what is counted.
class FakeDevice final : public ops::Backend {
 public:
  explicit FakeDevice(ops::Precision precision)
      : FakeDevice(precision, std::make_shared<Counts>()) {}
  ~FakeDevice() override {
    MRT_CHECK(live_.empty());  // it outlives everything allocated from it
    munmap(outside_, kReservedBytes);
    munmap(inside_, kReservedBytes);
    close(file_);
  }

  // Of all streams together:

  /// Operations so far, copies not among them.
  int64_t operations() const { return counts_->operations; }
  int64_t allocated_bytes() const {
    const std::lock_guard lock(counts_->mutex);
    return counts_->live_bytes;
  }
  /// Allocate throws once there would be more than that.
  void set_limit_bytes(int64_t bytes) { counts_->limit_bytes = bytes; }

  // Of this one:

  /// What it says that it has free, whenever it is asked; must outlive it.
  void set_available_bytes(const int64_t* bytes) { available_bytes_ = bytes; }

  // ---- Memory ----

  void* Allocate(int64_t bytes) override {
    Count(bytes);
    const std::lock_guard lock(mutex_);
    const int64_t begin = next_;
    next_ += (bytes / kPageBytes + 1) * kPageBytes;  // what is freed is never given out again
    MRT_CHECK(next_ <= kReservedBytes);
    live_[begin] = bytes;
    std::memset(inside_ + begin, 0xff, static_cast<size_t>(bytes));
    return outside_ + begin;
  }

  void Free(void* data) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(static_cast<char*>(data) - outside_);
    MRT_CHECK(found != live_.end());
    const int64_t pages = (found->second / kPageBytes + 1) * kPageBytes;
    MRT_CHECK(fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, found->first, pages) ==
              0);
    const int64_t bytes = found->second;
    live_.erase(found);
    const std::lock_guard counts_lock(counts_->mutex);
    counts_->live_bytes -= bytes;
  }

  void Copy(void* to, const void* from, int64_t bytes) override {
    MRT_CHECK(IsOutside(to) || IsOutside(from));
    const void* const source = IsOutside(from) ? Inside(from, bytes) : from;
    void* const target = IsOutside(to) ? Inside(to, bytes) : to;
    const std::lock_guard lock(running_);
    std::memcpy(target, source, static_cast<size_t>(bytes));
  }
  void Zero(void* data, int64_t bytes) override {
    std::memset(Inside(data, bytes), 0, static_cast<size_t>(bytes));
  }

  // ---- Backend ----

  /// But weights, which lie on the host.
  int64_t peak_bytes() const override {
    const std::lock_guard lock(counts_->mutex);
    return counts_->peak_bytes;
  }
  std::unique_ptr<ops::Backend> NewStream() override {
    return std::unique_ptr<ops::Backend>(new FakeDevice(precision_, counts_));
  }
  int64_t available_bytes() override { return *available_bytes_; }
  void Synchronize() override {}

  std::unique_ptr<ops::BackendLinear> MakeLinear(ops::Context&, const ConstTensorView& weight,
                                                 const ConstTensorView& bias) override {
    return std::make_unique<LinearThere>(*this, weight, bias);
  }
  std::unique_ptr<ops::BackendConv> MakeConv(ops::Context&, const ConstTensorView& weight,
                                             const ConstTensorView& bias,
                                             const ops::ConvParams& params) override {
    MRT_CHECK(weight.shape.rank() == 5);
    return std::make_unique<ConvThere>(*this, weight, bias, params);
  }
  void BatchedMatmul(ops::Context& context, const ConstTensorView& a, const ConstTensorView& b,
                     bool b_transposed, const TensorView& y, ops::Activation activation) override {
    const Operation operation(*this, context);
    ops::BatchedMatmul(cpu_, In(a), In(b), b_transposed, In(y), ops::Output::kFloat, activation);
  }

  void LayerNormModulate(ops::Context& context, const ConstTensorView& x,
                         const ConstTensorView& scale, const ConstTensorView& shift, float eps,
                         const TensorView& y) override {
    const Operation operation(*this, context);
    ops::LayerNormModulate(cpu_, In(x), In(scale), In(shift), eps, In(y));
  }
  void LayerNorm(ops::Context& context, const ConstTensorView& x, const ConstTensorView& weight,
                 const ConstTensorView& bias, float eps, const TensorView& y) override {
    const Operation operation(*this, context);
    ops::LayerNorm(cpu_, In(x), In(weight), In(bias), eps, In(y));
  }
  void RmsNorm(ops::Context& context, const ConstTensorView& x, const ConstTensorView& weight,
               float eps, const TensorView& y) override {
    const Operation operation(*this, context);
    ops::RmsNorm(cpu_, In(x), In(weight), eps, In(y));
  }
  void ChannelNorm(ops::Context& context, const ConstTensorView& x, const ConstTensorView& gamma,
                   bool silu, const TensorView& y) override {
    const Operation operation(*this, context);
    ops::ChannelNorm(cpu_, In(x), In(gamma), silu, In(y));
  }
  void Add(ops::Context& context, const TensorView& x, const ConstTensorView& y,
           bool relu) override {
    const Operation operation(*this, context);
    ops::Add(cpu_, In(x), In(y), relu);
  }
  void Multiply(ops::Context& context, const TensorView& x, const ConstTensorView& y) override {
    const Operation operation(*this, context);
    ops::Multiply(cpu_, In(x), In(y));
  }
  void RmsNormRope(ops::Context& context, const TensorView& x,
                   const ops::RotaryNorm& norm) override {
    const Operation operation(*this, context);
    ops::RmsNormRope(cpu_, In(x), In(norm));
  }
  void StoreKeys(ops::Context& context, const ConstTensorView& x, const ops::RotaryNorm& norm,
                 const ops::KvFrames& kv) override {
    const Operation operation(*this, context);
    const FramesInside frames(*this, kv, FrameBytes(x, kv));
    ops::StoreKeys(cpu_, In(x), In(norm), frames.kv());
  }
  void StoreValues(ops::Context& context, const ConstTensorView& x,
                   const ops::KvFrames& kv) override {
    const Operation operation(*this, context);
    const FramesInside frames(*this, kv, FrameBytes(x, kv));
    ops::StoreValues(cpu_, In(x), frames.kv());
  }
  void Cast(ops::Context& context, const ConstTensorView& x, const TensorView& y) override {
    const Operation operation(*this, context);
    ops::Cast(cpu_, In(x), In(y));
  }
  void ScaleBias(ops::Context& context, const ConstTensorView& x, const ConstTensorView& scale,
                 const ConstTensorView& bias, const TensorView& y) override {
    const Operation operation(*this, context);
    ops::ScaleBias(cpu_, In(x), In(scale), In(bias), In(y));
  }
  void Softmax(ops::Context& context, const TensorView& x, float scale) override {
    const Operation operation(*this, context);
    ops::Softmax(cpu_, In(x), scale);
  }
  void Clamp(ops::Context& context, const TensorView& x, float low, float high) override {
    const Operation operation(*this, context);
    ops::Clamp(cpu_, In(x), low, high);
  }
  void ToBytes(ops::Context& context, const ConstTensorView& x, float low, float high,
               const TensorView& y) override {
    const Operation operation(*this, context);
    ops::ToBytes(cpu_, In(x), low, high, In(y));
  }
  void UpsampleNearest2x(ops::Context& context, const ConstTensorView& x,
                         const TensorView& y) override {
    const Operation operation(*this, context);
    ops::UpsampleNearest2x(cpu_, In(x), In(y));
  }

  Status ValidateAttention(const ops::AttentionConfig& config, const ops::AttentionGrid& grid,
                           int frames_q, int frames_kv) override {
    return ops::ValidateAttention(config, grid, frames_q, frames_kv, precision_);
  }
  int64_t AttentionScratchBytes(const ops::AttentionConfig&, const ops::AttentionGrid&, int,
                                int) override {
    return 0;  // it lies on the host
  }
  void SelfAttention(ops::Context& context, const ops::AttentionConfig& config,
                     const ops::AttentionGrid& grid, const ConstTensorView& q,
                     const ops::KvFrames& kv, const TensorView& out) override {
    const Operation operation(*this, context);
    const int64_t elements = q.shape.elements() / q.shape[0];
    const FramesInside frames(*this, kv, elements * DTypeSize(kv.dtype));
    ops::SelfAttention(cpu_, config, grid, In(q), frames.kv(), In(out));
  }
  void DenseAttention(ops::Context& context, const ConstTensorView& q, const ConstTensorView& k,
                      const ConstTensorView& v, float scale, const ConstTensorView& bias,
                      const TensorView& out) override {
    const Operation operation(*this, context);
    ops::DenseAttention(cpu_, In(q), In(k), In(v), scale, bias.empty() ? bias : In(bias), In(out));
  }

 private:
  static constexpr int64_t kReservedBytes = int64_t{1} << 36;  // of addresses, not of memory
  static constexpr int64_t kPageBytes = 4096;
  static constexpr int64_t kPlenty = int64_t{1} << 40;

  struct Counts {
    std::atomic<int64_t> operations = 0, limit_bytes = INT64_MAX;
    std::mutex mutex;  // guards what follows
    int64_t live_bytes = 0, peak_bytes = 0;
  };

  FakeDevice(ops::Precision precision, std::shared_ptr<Counts> counts)
      : cpu_(precision), precision_(precision), counts_(std::move(counts)) {
    file_ = memfd_create("fake_device", 0);
    MRT_CHECK(file_ >= 0 && ftruncate(file_, kReservedBytes) == 0);
    outside_ = Map(PROT_NONE);
    inside_ = Map(PROT_READ | PROT_WRITE);
  }

  void Count(int64_t bytes) {
    const std::lock_guard lock(counts_->mutex);
    if (counts_->live_bytes + bytes > counts_->limit_bytes) throw std::bad_alloc();
    counts_->live_bytes += bytes;
    counts_->peak_bytes = std::max(counts_->peak_bytes, counts_->live_bytes);
  }

  /// One at a time: they share a context.
  class Operation {
   public:
    Operation(FakeDevice& device, const ops::Context& context) : lock_(device.running_) {
      MRT_CHECK(context.backend() == &device && context.precision() == device.precision_);
      ++device.counts_->operations;
    }

   private:
    std::lock_guard<std::mutex> lock_;
  };

  class LinearThere final : public ops::BackendLinear {
   public:
    LinearThere(FakeDevice& device, const ConstTensorView& weight, const ConstTensorView& bias)
        : device_(device), linear_(device.cpu_, weight, bias) {}
    void Run(ops::Context& context, const ConstTensorView& x, const TensorView& y,
             ops::Activation activation) const override {
      const Operation operation(device_, context);
      linear_.Run(device_.cpu_, device_.In(x), device_.In(y), activation);
    }
    void AddTo(ops::Context& context, const ConstTensorView& x, const TensorView& residual,
               const ConstTensorView& gate) const override {
      const Operation operation(device_, context);
      linear_.AddTo(device_.cpu_, device_.In(x), device_.In(residual),
                    gate.empty() ? gate : device_.In(gate));
    }
    int64_t bytes() const override { return linear_.bytes(); }

   private:
    FakeDevice& device_;
    const ops::Linear linear_;
  };

  class ConvThere final : public ops::BackendConv {
   public:
    ConvThere(FakeDevice& device, const ConstTensorView& weight, const ConstTensorView& bias,
              const ops::ConvParams& params)
        : device_(device), conv_(device.cpu_, weight, bias, params) {}
    void Run(ops::Context& context, const ConstTensorView& x, const TensorView& y,
             ops::Activation activation) const override {
      const Operation operation(device_, context);
      conv_.Run(device_.cpu_, device_.In(x), device_.In(y), activation);
    }
    int64_t bytes() const override { return conv_.bytes(); }

   private:
    FakeDevice& device_;
    const ops::Conv conv_;
  };

  /// Keys and values as the operations see them.
  class FramesInside {
   public:
    FramesInside(const FakeDevice& device, const ops::KvFrames& kv, int64_t bytes)
        : dtype_(kv.dtype) {
      for (void* keys : kv.keys) keys_.push_back(device.Inside(keys, bytes));
      for (void* values : kv.values) values_.push_back(device.Inside(values, bytes));
    }
    ops::KvFrames kv() const { return {keys_, values_, dtype_}; }

   private:
    std::vector<void*> keys_, values_;
    DType dtype_;
  };

  static int64_t FrameBytes(const ConstTensorView& x, const ops::KvFrames& kv) {
    return x.shape.elements() / static_cast<int64_t>(kv.size()) * DTypeSize(kv.dtype);
  }

  char* Map(int access) const {
    void* const p = mmap(nullptr, kReservedBytes, access, MAP_SHARED | MAP_NORESERVE, file_, 0);
    MRT_CHECK(p != MAP_FAILED);
    return static_cast<char*>(p);
  }

  bool IsOutside(const void* p) const {
    const char* const at = static_cast<const char*>(p);
    return outside_ <= at && at < outside_ + kReservedBytes;
  }

  /// The bytes must be of one allocation.
  void* Inside(const void* p, int64_t bytes) const {
    MRT_CHECK(IsOutside(p));
    const int64_t begin = static_cast<const char*>(p) - outside_;
    const std::lock_guard lock(mutex_);
    const auto after = live_.upper_bound(begin);
    MRT_CHECK(after != live_.begin());
    const auto found = std::prev(after);
    MRT_CHECK(begin + bytes <= found->first + found->second);
    return inside_ + begin;
  }

  TensorView In(const TensorView& x) const { return {Inside(x.data, x.bytes()), x.dtype, x.shape}; }
  ConstTensorView In(const ConstTensorView& x) const {
    return {Inside(x.data, x.bytes()), x.dtype, x.shape};
  }
  ops::RotaryNorm In(const ops::RotaryNorm& norm) const {
    return {In(norm.weight), In(norm.cos), In(norm.sin), norm.eps};
  }

  ops::Context cpu_;
  const ops::Precision precision_;
  int file_ = -1;
  char *outside_ = nullptr, *inside_ = nullptr;
  std::mutex running_;  // guards cpu_
  const std::shared_ptr<Counts> counts_;
  const int64_t* available_bytes_ = &kPlenty;
  mutable std::mutex mutex_;  // guards what follows
  int64_t next_ = 0;
  std::map<int64_t, int64_t> live_;  // begin of an allocation and its bytes
};

}  // namespace mrt::testing
