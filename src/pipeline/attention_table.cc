#include "pipeline/attention_table.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "pipeline/chunks.h"

namespace mrt {
namespace {

using monarchrt::AttentionMode;
using monarchrt::AttentionOptions;
using monarchrt::AttentionRule;

constexpr int kCutsMax = 8192;  // of the rows or columns: more than there can be
constexpr int kIterationsMax = 100;

static_assert(static_cast<int>(ops::AttentionMode::kDense) ==
              static_cast<int>(AttentionMode::kDense));
static_assert(static_cast<int>(ops::AttentionMode::kMonarch) ==
              static_cast<int>(AttentionMode::kMonarch));
static_assert(static_cast<int>(ops::AttentionMode::kTopK) ==
              static_cast<int>(AttentionMode::kTopK));
static_assert(static_cast<int>(ops::AttentionMode::kWindow) ==
              static_cast<int>(AttentionMode::kWindow));
static_assert(static_cast<int>(ops::AttentionMode::kRadial) ==
              static_cast<int>(AttentionMode::kRadial));

Result<ops::AttentionConfig> Resolve(const AttentionOptions& options) {
  ops::AttentionConfig config;
  const std::vector<AttentionMode> modes = monarchrt::ListAttentionModes();
  if (std::ranges::find(modes, options.mode) == modes.end())
    return InvalidArgument("[attention] got an unknown mode, need one of AttentionMode");
  config.mode = static_cast<ops::AttentionMode>(options.mode);
  for (const auto& [name, value, most] :
       {std::tuple{"f_tied", options.f_tied, int{kChunkLatentFrames}},
        {"h_reduce", options.h_reduce, kCutsMax},
        {"w_reduce", options.w_reduce, kCutsMax},
        {"iterations", options.iterations, kIterationsMax}}) {
    if (value < 1 || value > most)
      return InvalidArgument("[attention] " + std::string(name) + " is " + std::to_string(value) +
                             ", need 1.." + std::to_string(most));
  }
  if (!(options.density > 0 && options.density <= 1))
    return InvalidArgument("[attention] density is " + std::to_string(options.density) +
                           ", need more than 0 and at most 1");
  config.density = options.density;
  config.f_tied = options.f_tied;
  config.h_reduce = options.h_reduce;
  config.w_reduce = options.w_reduce;
  config.iterations = options.iterations;
  config.implementation = options.implementation;
  return config;
}

// Tells of a list of numbers which of 0 ... count - 1 it names; an empty list names all.
Result<std::vector<bool>> Select(const std::vector<int>& numbers, int64_t count,
                                 const std::string& what) {
  std::vector<bool> selected(static_cast<size_t>(count), numbers.empty());
  for (const int n : numbers) {
    if (n < 0 || n >= count)
      return InvalidArgument("[attention] got " + what + " " + std::to_string(n) + ", need 0.." +
                             std::to_string(count - 1));
    selected[static_cast<size_t>(n)] = true;
  }
  return selected;
}

// The same for the passes of a chunk, of which the clean one is the last.
Result<std::vector<bool>> SelectPasses(std::vector<int> numbers, int64_t steps) {
  const auto clean = std::remove(numbers.begin(), numbers.end(), AttentionRule::kCleanPass);
  const bool only_clean = clean == numbers.begin() && clean != numbers.end();
  const bool all = numbers.empty();
  const bool with_clean = all || clean != numbers.end();
  numbers.erase(clean, numbers.end());
  MRT_ASSIGN_OR_RETURN(std::vector<bool> selected, Select(numbers, steps, "denoising step"));
  if (only_clean) selected.assign(selected.size(), false);
  selected.push_back(with_clean);
  return selected;
}

}  // namespace

const char* ModeName(const ops::AttentionConfig& config) {
  return AttentionModeName(static_cast<AttentionMode>(config.mode));
}

Result<AttentionTable> AttentionTable::Make(const AttentionOptions& all,
                                            const std::vector<AttentionRule>& rules, int64_t layers,
                                            int64_t steps) {
  MRT_ASSIGN_OR_RETURN(const ops::AttentionConfig base, Resolve(all));
  AttentionTable table(base);
  if (rules.empty()) return table;
  // First which rule holds where, then each rule's setting once.
  const size_t width = static_cast<size_t>(layers), height = static_cast<size_t>(steps) + 1;
  table.passes_.assign(height, std::vector<ops::AttentionConfig>(width, base));
  std::vector<size_t> rule_of(width * height, 0);  // 0: none, the base
  std::vector<ops::AttentionConfig> settings = {base};
  for (const AttentionRule& rule : rules) {
    MRT_ASSIGN_OR_RETURN(const ops::AttentionConfig config, Resolve(rule.attention));
    MRT_ASSIGN_OR_RETURN(const std::vector<bool> in_layer, Select(rule.layers, layers, "layer"));
    MRT_ASSIGN_OR_RETURN(const std::vector<bool> in_pass, SelectPasses(rule.steps, steps));
    for (size_t p = 0; p < height; ++p)
      for (size_t l = 0; l < width; ++l)
        if (in_pass[p] && in_layer[l]) {
          table.passes_[p][l] = config;
          rule_of[p * width + l] = settings.size();
        }
    settings.push_back(config);
  }
  table.different_.clear();
  for (size_t s = 0; s < settings.size(); ++s)
    if (std::ranges::find(rule_of, s) != rule_of.end()) table.different_.push_back(settings[s]);
  return table;
}

LayerAttention AttentionTable::Step(int64_t step) const {
  if (passes_.empty()) return different_[0];
  MRT_CHECK(step >= 0 && step + 1 < static_cast<int64_t>(passes_.size()));
  return LayerAttention(passes_[static_cast<size_t>(step)]);
}

LayerAttention AttentionTable::CleanPass() const {
  if (passes_.empty()) return different_[0];
  return LayerAttention(passes_.back());
}

}  // namespace mrt
