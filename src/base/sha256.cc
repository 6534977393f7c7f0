#include "base/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mrt {
namespace {

// FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64
// primes.
constexpr std::array<uint32_t, 64> kRoundConstants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t BigEndian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | uint32_t{p[3]};
}

}  // namespace

// FIPS 180-4, 6.2.2, with its letters.
void Sha256::AddBlock(const uint8_t* block) {
  std::array<uint32_t, 64> w;
  for (size_t t = 0; t < 16; ++t) w[t] = BigEndian(block + 4 * t);
  for (size_t t = 16; t < 64; ++t) {
    const uint32_t x = w[t - 15], y = w[t - 2];
    const uint32_t sigma0 = std::rotr(x, 7) ^ std::rotr(x, 18) ^ (x >> 3);
    const uint32_t sigma1 = std::rotr(y, 17) ^ std::rotr(y, 19) ^ (y >> 10);
    w[t] = sigma1 + w[t - 7] + sigma0 + w[t - 16];
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (size_t t = 0; t < 64; ++t) {
    const uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const uint32_t t1 = h + sum1 + ((e & f) ^ (~e & g)) + kRoundConstants[t] + w[t];
    const uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const uint32_t t2 = sum0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1;
    d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<uint32_t, 8> sum = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < state_.size(); ++i) state_[i] += sum[i];
}

Sha256& Sha256::Add(const void* data, size_t bytes) {
  const auto* in = static_cast<const uint8_t*>(data);
  bytes_ += bytes;
  while (bytes > 0) {
    if (rest_bytes_ == 0 && bytes >= kBlockBytes) {
      AddBlock(in);
      in += kBlockBytes;
      bytes -= kBlockBytes;
      continue;
    }
    const size_t taken = std::min(bytes, kBlockBytes - rest_bytes_);
    std::memcpy(rest_.data() + rest_bytes_, in, taken);
    rest_bytes_ += taken;
    in += taken;
    bytes -= taken;
    if (rest_bytes_ < kBlockBytes) continue;
    AddBlock(rest_.data());
    rest_bytes_ = 0;
  }
  return *this;
}

Sha256& Sha256::AddText(std::string_view text) {
  AddInteger(static_cast<int64_t>(text.size()));
  return Add(text.data(), text.size());
}

Sha256& Sha256::AddInteger(int64_t value) { return Add(&value, sizeof(value)); }

// FIPS 180-4, 5.1.1: a one bit, zeros, the length in bits.
std::string Sha256::Finish() {
  constexpr size_t kLengthBytes = 8;
  const uint64_t bits = 8 * bytes_;
  std::array<uint8_t, 2 * kBlockBytes> end = {0x80};
  const size_t to_length = (2 * kBlockBytes - kLengthBytes - rest_bytes_ - 1) % kBlockBytes + 1;
  for (size_t i = 0; i < kLengthBytes; ++i)
    end[to_length + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  Add(end.data(), to_length + kLengthBytes);
  std::string text;
  for (const uint32_t word : state_)
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(word >> shift) & 15u];
  return text;
}

}  // namespace mrt
