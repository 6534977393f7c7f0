#include "model/vae/wan_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "model/vae/synthetic.h"

namespace mrt {
namespace {

/// The attention block in doubles, for one pixel.
class AttentionReference {
 public:
  AttentionReference(const AttentionBlockWeights& weights, const Tensor& x)
      : weights_(weights), x_(x), c_(x.shape()[3]), tokens_(x.shape().rows()) {}

  std::vector<double> At(int64_t token) const {
    const std::vector<double> q = Project(token, 0);
    double sum = 0;
    std::vector<double> mean(static_cast<size_t>(c_));
    for (int64_t other = 0; other < tokens_; ++other) {
      const std::vector<double> k = Project(other, c_), v = Project(other, 2 * c_);
      double score = 0;
      for (size_t d = 0; d < k.size(); ++d) score += q[d] * k[d];
      const double weight = std::exp(score / std::sqrt(static_cast<double>(c_)));
      sum += weight;
      for (size_t d = 0; d < v.size(); ++d) mean[d] += weight * v[d];
    }
    for (double& m : mean) m /= sum;
    std::vector<double> y = Multiply(weights_.proj, 0, mean);
    for (int64_t d = 0; d < c_; ++d) y[static_cast<size_t>(d)] += x_.as<float>()[token * c_ + d];
    return y;
  }

 private:
  std::vector<double> Project(int64_t token, int64_t first_row) const {
    std::vector<double> normed(static_cast<size_t>(c_));
    double sum_sq = 0;
    for (int64_t d = 0; d < c_; ++d) sum_sq += std::pow(double{x_.as<float>()[token * c_ + d]}, 2);
    for (int64_t d = 0; d < c_; ++d)
      normed[static_cast<size_t>(d)] = x_.as<float>()[token * c_ + d] / std::sqrt(sum_sq) *
                                       std::sqrt(static_cast<double>(c_)) *
                                       ElementAsFloat(weights_.gamma, d);
    return Multiply(weights_.qkv, first_row, normed);
  }

  std::vector<double> Multiply(const ConvWeights& conv, int64_t first_row,
                               const std::vector<double>& x) const {
    std::vector<double> y;
    for (int64_t row = first_row; row < first_row + c_; ++row) {
      double sum = ElementAsFloat(conv.bias, row);
      for (int64_t d = 0; d < c_; ++d)
        sum += x[static_cast<size_t>(d)] * ElementAsFloat(conv.weight, row * c_ + d);
      y.push_back(sum);
    }
    return y;
  }

  const AttentionBlockWeights& weights_;
  const Tensor& x_;
  int64_t c_, tokens_;
};

TEST(AttentionBlock, MatchesItsDefinitionOverSeveralBlocksOfRows) {
  constexpr int64_t kChannels = 4, kRows = 50, kCols = 50;  // 2500^2 scores: 25 MB
  SyntheticTensors tensors;
  tensors.Add("gamma", {kChannels, 1, 1}, 1, 0.2f);
  tensors.AddConv("qkv", {3 * kChannels, kChannels, 1, 1}, /*bias=*/false);
  tensors.Add("qkv.bias", {3 * kChannels}, 0, 0.5f);
  tensors.AddConv("proj", {kChannels, kChannels, 1, 1});
  tensors.Add("x", {1, kRows, kCols, kChannels}, 0, 1);
  const Checkpoint checkpoint = tensors.Take();
  const AttentionBlockWeights weights{
      checkpoint.Find("gamma"),
      {checkpoint.Find("qkv.weight"), checkpoint.Find("qkv.bias")},
      {checkpoint.Find("proj.weight"), checkpoint.Find("proj.bias")}};
  const Tensor x = ToFloat32(checkpoint.Find("x")), y = ToFloat32(checkpoint.Find("x"));

  ops::Context context(ops::Precision::kF32);
  AttentionBlock(context, weights).Run(context, y);

  const AttentionReference reference(weights, x);
  for (const int64_t token : {0, 1200, 1700, 2499}) {
    const std::vector<double> want = reference.At(token);
    for (int64_t d = 0; d < kChannels; ++d)
      EXPECT_NEAR(y.as<float>()[token * kChannels + d], want[static_cast<size_t>(d)], 1e-5)
          << token << " " << d;
  }
}

TEST(CausalConv, SeesTheNewestFramesInOrderAndZerosBeforeThem) {
  // y = 100 oldest + 10 middle + newest, one channel of one pixel.
  Tensor weight(DType::kF32, {1, 1, 3, 1, 1});
  weight.as<float>()[0] = 100;
  weight.as<float>()[1] = 10;
  weight.as<float>()[2] = 1;
  ops::Context context(ops::Precision::kF32);
  const CausalConv conv(context, weight, {});
  FrameRing ring = conv.NewRing(DType::kF32, 1, 1);
  Tensor y(DType::kF32, {1, 1, 1, 1});
  const float want[] = {1, 12, 123, 234, 345, 456, 567};
  for (int frame = 0; frame < 7; ++frame) {
    ring.Newest().as<float>()[0] = static_cast<float>(frame + 1);
    conv.Run(context, ring, y);
    EXPECT_EQ(y.as<float>()[0], want[frame]) << frame;
    ring.Advance();
  }
}

}  // namespace
}  // namespace mrt
