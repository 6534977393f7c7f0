// Token ids as the golden data holds them.
#pragma once

#include <cstdint>
#include <vector>

namespace mrt::verify {

/// `ids` with pad tokens (0) up to text_len.
std::vector<int32_t> PadTokens(std::vector<int32_t> ids, int64_t text_len);

}  // namespace mrt::verify
