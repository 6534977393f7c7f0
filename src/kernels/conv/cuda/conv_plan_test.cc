#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/conv/cuda/conv_cuda.h"
#include "kernels/conv/reference.h"

namespace mrt {
namespace {

using ::testing::HasSubstr;

TEST(ConvCudaPacking, TakesTheWidestBlockWithTheLeastPadding) {
  const struct {
    int64_t out;
    int columns;
    int64_t rows;
  } cases[] = {{1, 32, 32},     {3, 32, 32},      {48, 64, 64},   {64, 64, 64},
               {96, 96, 96},    {128, 128, 128},  {192, 96, 192}, {256, 128, 256},
               {384, 128, 384}, {1152, 128, 1152}};
  for (const auto& c : cases) {
    const ConvCudaPacking p = ConvCudaPackingOf(c.out, 96, 27);
    EXPECT_EQ(p.block_columns, c.columns) << c.out;
    EXPECT_EQ(p.rows, c.rows) << c.out;
    EXPECT_EQ(p.pitch, 2624) << c.out;  // 2592, to a multiple of 64
  }
  EXPECT_EQ(ConvCudaPackingOf(8, 3, 9).channels, 8);
  EXPECT_EQ(ConvCudaPackingOf(8, 3, 9).pitch, 128);
}

TEST(ConvCudaPacking, PutsChannelsOfATapSideBySide) {
  const ConvCudaPacking p = ConvCudaPackingOf(1, 3, 4);
  std::vector<float> w;
  for (int n = 0; n < 12; ++n) w.push_back(static_cast<float>(n + 1));
  std::vector<BFloat16> row(static_cast<size_t>(p.pitch), ToBFloat16(99));
  PackConvCudaRow(p, 3, 4, w.data(), row.data());
  for (int64_t n = 0; n < p.pitch; ++n) {
    const int64_t tap = n / 8, i = n % 8;
    const float want = tap < 4 && i < 3 ? static_cast<float>(i * 4 + tap + 1) : 0;
    EXPECT_EQ(ToFloat(row[static_cast<size_t>(n)]), want) << n;
  }
}

TEST(ConvCuda, RefusesShapesWithASentence) {
  const struct {
    ConvCudaShape shape;
    const char* message;
  } cases[] = {
      {{.time = 0}, "sizes from 1"},
      {{.time = 2, .kernel_time = 3}, "the kernel fits in"},
      {{.rows = 2, .cols = 9, .kernel_rows = 3}, "the kernel fits in"},
      {{.stride_space = 65}, "at most 64"},
      {{.pad_top = -1}, "padding"},
      {{.time = 1 << 10, .rows = 1 << 10, .cols = 1 << 10, .in = 16}, "input elements"},
  };
  for (const auto& c : cases) {
    const Status status = ValidateConvCuda(c.shape);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(c.message));
    EXPECT_THAT(status.message(), HasSubstr("[conv] got time="));
  }
  EXPECT_TRUE(ValidateConvCuda({.rows = 480, .cols = 832, .in = 384, .out = 384}).ok());
}

// The definition has an oracle: one tap of weight 1 moves the picture.
TEST(ConvReference, OfOneTapMovesThePicture) {
  const ConvCudaShape shape = {.time = 1,
                               .rows = 2,
                               .cols = 3,
                               .kernel_rows = 2,
                               .kernel_cols = 2,
                               .pad_bottom = 1,
                               .pad_right = 1};
  const std::vector<double> x = {1, 2, 3, 4, 5, 6}, w = {0, 0, 0, 1}, bias = {10};
  EXPECT_EQ(ConvReference(shape, x, w, bias), (std::vector<double>{15, 16, 10, 10, 10, 10}));
}

}  // namespace
}  // namespace mrt
