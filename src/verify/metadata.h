// The settings in a golden file's __metadata__: strings that hold numbers and JSON.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "ops/attention.h"
#include "tensor/checkpoint.h"

namespace mrt::verify {

class Metadata {
 public:
  explicit Metadata(const Checkpoint& file) : file_(file) {}

  bool Has(const std::string& key) const { return file_.metadata().contains(key); }
  /// The text, or `otherwise` if the key is missing.
  std::string Text(const std::string& key, const std::string& otherwise) const;
  /// BadData if the key is there and no number.
  Result<double> Number(const std::string& key, double otherwise) const;
  Result<int64_t> Integer(const std::string& key, int64_t otherwise) const;
  Result<int64_t> Integer(const std::string& key) const;  // NotFound without the key
  /// "true"
  bool Flag(const std::string& key) const { return Text(key, "false") == "true"; }
  /// "[1000, 750]"
  Result<std::vector<int>> IntegerList(const std::string& key,
                                       const std::vector<int>& otherwise) const;
  /// "monarch": null for dense, else {"num_iters", "f_tied", "h_reduce", "w_reduce"}.
  Result<ops::AttentionConfig> Attention(const std::string& implementation) const;

 private:
  const Checkpoint& file_;
};

}  // namespace mrt::verify
