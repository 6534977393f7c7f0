#include "pipeline/noise.h"

#include <cmath>

#include "base/threads.h"

namespace mrt {
namespace {

// log(x) for x > 0 with IEEE basic operations only: x = m 2^e with m in [sqrt(1/2), sqrt(2)), then
// log m = 2 atanh((m - 1) / (m + 1)), whose series needs 12 terms for a double since |z| < 0.172.
double PlainLog(double x) {
  constexpr double kLn2 = 0.693147180559945309417;
  constexpr double kSqrtHalf = 0.707106781186547524401;
  constexpr int kTerms = 12;
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < kSqrtHalf) m *= 2, --exponent;
  const double z = (m - 1) / (m + 1);
  double sum = 0;
  for (int n = kTerms; n >= 0; --n) sum = sum * (z * z) + 1.0 / (2 * n + 1);
  return 2 * z * sum + exponent * kLn2;
}

double Horner(const double (&c)[8], double x) {
  double sum = c[7];
  for (int i = 6; i >= 0; --i) sum = sum * x + c[i];
  return sum;
}

// Coefficients of AS 241, PPND16: numerator and denominator for the centre, the tails, the far
// tails.
constexpr double kCentreTop[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                  1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                  4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                  3.3430575583588128105e+4, 2.5090809287301226727e+3};
constexpr double kCentreBottom[8] = {1.0,
                                     4.2313330701600911252e+1,
                                     6.8718700749205790830e+2,
                                     5.3941960214247511077e+3,
                                     2.1213794301586595867e+4,
                                     3.9307895800092710610e+4,
                                     2.8729085735721942674e+4,
                                     5.2264952788528545610e+3};
constexpr double kTailTop[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                5.76949722146069140550e0,  3.64784832476320460504e0,
                                1.27045825245236838258e0,  2.41780725177450611770e-1,
                                2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr double kTailBottom[8] = {1.0,
                                   2.05319162663775882187e0,
                                   1.67638483018380384940e0,
                                   6.89767334985100004550e-1,
                                   1.48103976427480074590e-1,
                                   1.51986665636164571966e-2,
                                   5.47593808499534494600e-4,
                                   1.05075007164441684324e-9};
constexpr double kFarTop[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                               1.78482653991729133580e0,  2.96560571828504891230e-1,
                               2.65321895265761230930e-2, 1.24266094738807843860e-3,
                               2.71155556874348757815e-5, 2.01033439929228813265e-7};
constexpr double kFarBottom[8] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr int kRounds = 10;
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

double InverseNormal(double p) {
  constexpr double kCentre = 0.425, kTailEnd = 5.0, kTailShift = 1.6;
  const double q = p - 0.5;
  if (std::abs(q) <= kCentre) {
    const double r = kCentre * kCentre - q * q;
    return q * Horner(kCentreTop, r) / Horner(kCentreBottom, r);
  }
  const double r = std::sqrt(-PlainLog(q < 0 ? p : 1 - p));
  const double x = r <= kTailEnd
                       ? Horner(kTailTop, r - kTailShift) / Horner(kTailBottom, r - kTailShift)
                       : Horner(kFarTop, r - kTailEnd) / Horner(kFarBottom, r - kTailEnd);
  return q < 0 ? -x : x;
}

void FillNoise(uint64_t seed, int64_t first_frame, int step, const TensorView& out) {
  const int64_t frames = out.shape[0];
  const int64_t frame_size = out.shape.elements() / frames;
  const int64_t blocks = (frame_size + 3) / 4;  // Philox gives four words a block
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed),
                                       static_cast<uint32_t>(seed >> 32)};
  float* data = out.as<float>();
  ParallelFor(frames * blocks, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t frame = i / blocks, block = i % blocks;
      const uint64_t frame_id = static_cast<uint64_t>(first_frame + frame);
      const auto words =
          Philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(step),
                      static_cast<uint32_t>(frame_id), static_cast<uint32_t>(frame_id >> 32)},
                     key);
      for (int64_t w = 0; w < 4 && block * 4 + w < frame_size; ++w) {
        const double uniform = (words[static_cast<size_t>(w)] + 0.5) * 0x1p-32;  // in (0, 1)
        data[frame * frame_size + block * 4 + w] = static_cast<float>(InverseNormal(uniform));
      }
    }
  });
}

}  // namespace mrt
