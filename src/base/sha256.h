// SHA-256 (FIPS 180-4): names for things by their content.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mrt {

/// Takes bytes in pieces of any size.
class Sha256 {
 public:
  Sha256& Add(const void* data, size_t bytes);
  /// With its length before it, so that two texts one after the other cannot be taken for another
  /// two.
  Sha256& AddText(std::string_view text);
  Sha256& AddInteger(int64_t value);

  /// 64 hexadecimal digits. Ends it: nothing may be added any more.
  std::string Finish();

 private:
  static constexpr size_t kBlockBytes = 64;
  void AddBlock(const uint8_t* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, kBlockBytes> rest_ = {};  // of an unfinished block
  size_t rest_bytes_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace mrt
