#include "monarchrt/attention.h"

#include <memory>

#include "c_api/options.h"

namespace mrt::c_api {
namespace {

using monarchrt::AttentionKvLayout;
using monarchrt::AttentionProblem;
using monarchrt::AttentionRule;
using monarchrt::ElementType;

static_assert(MRT_ELEMENT_F32 == static_cast<int>(ElementType::kF32));
static_assert(MRT_ELEMENT_BF16 == static_cast<int>(ElementType::kBF16));
static_assert(MRT_KV_TOKEN_MAJOR == static_cast<int>(AttentionKvLayout::kTokenMajor));
static_assert(MRT_KV_HEAD_MAJOR == static_cast<int>(AttentionKvLayout::kHeadMajor));
static_assert(MRT_CLEAN_PASS == AttentionRule::kCleanPass);

constexpr size_t kRulesMax = 4096;    // more than any model has layers and any schedule steps
constexpr size_t kNumbersMax = 4096;  // of the layers or steps of one rule

mrt_attention_problem ProblemDefaults() {
  const AttentionProblem defaults;
  return {.struct_size = sizeof(mrt_attention_problem),
          .batch = defaults.batch,
          .frames_q = defaults.frames_q,
          .frames_kv = defaults.frames_kv,
          .rows = defaults.rows,
          .cols = defaults.cols,
          .heads = defaults.heads,
          .head_dim = defaults.head_dim,
          .causal_block_frames = defaults.causal_block_frames,
          .element = static_cast<int32_t>(defaults.element),
          .kv_layout = static_cast<int32_t>(defaults.kv_layout),
          .reserved = 0};
}

Result<AttentionProblem> ToProblem(const mrt_attention_problem* given) {
  mrt_attention_problem known = ProblemDefaults();
  MRT_RETURN_IF_ERROR(ReadStruct(given, "attention problem", &known));
  MRT_RETURN_IF_ERROR(CheckEnum(known.element, 2, "attention problem", "element"));
  MRT_RETURN_IF_ERROR(CheckEnum(known.kv_layout, 2, "attention problem", "kv_layout"));
  MRT_RETURN_IF_ERROR(CheckReserved(known.reserved, "attention problem"));
  return AttentionProblem{.batch = known.batch,
                          .frames_q = known.frames_q,
                          .frames_kv = known.frames_kv,
                          .rows = known.rows,
                          .cols = known.cols,
                          .heads = known.heads,
                          .head_dim = known.head_dim,
                          .causal_block_frames = known.causal_block_frames,
                          .element = static_cast<ElementType>(known.element),
                          .kv_layout = static_cast<AttentionKvLayout>(known.kv_layout)};
}

Status CopyNumbers(const int32_t* numbers, size_t count, const char* name, std::vector<int>* out) {
  if (count > kNumbersMax || (count > 0 && numbers == nullptr))
    return InvalidArgument("[attention settings] got " + std::to_string(count) + " " + name +
                           (numbers == nullptr ? " at NULL" : "") + ", need at most " +
                           std::to_string(kNumbersMax));
  if (count > 0) out->assign(numbers, numbers + count);
  return {};
}

}  // namespace
}  // namespace mrt::c_api

extern "C" {

using namespace mrt;
using namespace mrt::c_api;

mrt_status mrt_attention_problem_init(mrt_attention_problem* problem, size_t struct_size) {
  return InitStruct(ProblemDefaults(), struct_size, problem, "attention problem");
}

mrt_status mrt_attend(const mrt_attention_options* options, const mrt_attention_problem* problem,
                      const void* q, const void* k, const void* v, void* out, int32_t threads) {
  return Boundary([&]() -> Status {
    MRT_ASSIGN_OR_RETURN(const auto how, ToAttentionOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto what, ToProblem(problem));
    return monarchrt::Attend(how, what, {q, k, v, out}, threads);
  });
}

mrt_status mrt_monarch_attention_backward(const mrt_attention_options* options,
                                          const mrt_attention_problem* problem, const void* q,
                                          const void* k, const void* v, const void* d_out,
                                          float* d_q, float* d_k, float* d_v, int32_t threads) {
  return Boundary([&]() -> Status {
    MRT_ASSIGN_OR_RETURN(const auto how, ToAttentionOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto what, ToProblem(problem));
    return monarchrt::MonarchAttentionBackward(how, what, {.q = q, .k = k, .v = v},
                                               {d_out, d_q, d_k, d_v}, threads);
  });
}

mrt_status mrt_attention_implementation_at(const mrt_attention_options* options,
                                           const mrt_attention_problem* problem, size_t index,
                                           mrt_attention_implementation* implementation) {
  constexpr const char* kWhere = "attention implementation";
  return FillStruct(implementation, kWhere, [&]() -> Result<mrt_attention_implementation> {
    MRT_ASSIGN_OR_RETURN(const auto how, ToAttentionOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto what, ToProblem(problem));
    MRT_ASSIGN_OR_RETURN(const auto list, monarchrt::ListAttentionImplementations(how, what));
    MRT_RETURN_IF_ERROR(CheckIndex(index, list.size(), kWhere));
    mrt_attention_implementation found = {};
    found.chosen = list[index].chosen ? 1 : 0;
    found.bf16_products = list[index].bf16_products ? 1 : 0;
    CopyText(list[index].name, found.name);
    CopyText(list[index].refuses, found.refuses);
    return found;
  });
}

mrt_status mrt_attention_sparsity(const mrt_attention_options* options,
                                  const mrt_attention_problem* problem, double* sparsity) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(sparsity, "attention sparsity", "place for it"));
    MRT_ASSIGN_OR_RETURN(const auto how, ToAttentionOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto what, ToProblem(problem));
    MRT_ASSIGN_OR_RETURN(*sparsity, monarchrt::AttentionSparsity(how, what));
    return {};
  });
}

mrt_status mrt_attention_density(const mrt_attention_options* options,
                                 const mrt_attention_problem* problem, double* density) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(density, "attention density", "place for it"));
    MRT_ASSIGN_OR_RETURN(const auto how, ToAttentionOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto what, ToProblem(problem));
    MRT_ASSIGN_OR_RETURN(*density, monarchrt::AttentionDensity(how, what));
    return {};
  });
}

mrt_status mrt_attention_flop(const mrt_attention_options* options,
                              const mrt_attention_problem* problem, double* flop) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(flop, "attention flop", "place for it"));
    MRT_ASSIGN_OR_RETURN(const auto how, ToAttentionOptions(options));
    MRT_ASSIGN_OR_RETURN(const auto what, ToProblem(problem));
    MRT_ASSIGN_OR_RETURN(*flop, monarchrt::AttentionFlop(how, what));
    return {};
  });
}

mrt_status mrt_attention_settings_create(const char* json, mrt_attention_settings** settings) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(settings, "attention settings", "place for a handle"));
    *settings = nullptr;
    auto made = std::make_unique<mrt_attention_settings>();
    if (const std::string text = Text(json); !text.empty()) {
      MRT_ASSIGN_OR_RETURN(made->settings, monarchrt::ParseAttentionSettings(text));
    }
    *settings = made.release();
    return {};
  });
}

void mrt_attention_settings_destroy(mrt_attention_settings* settings) { delete settings; }

mrt_status mrt_attention_settings_set_default(mrt_attention_settings* settings,
                                              const mrt_attention_options* options) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(settings, "attention settings", "handle"));
    MRT_ASSIGN_OR_RETURN(settings->settings.attention, ToAttentionOptions(options));
    return {};
  });
}

mrt_status mrt_attention_settings_add_rule(mrt_attention_settings* settings, const int32_t* layers,
                                           size_t layer_count, const int32_t* steps,
                                           size_t step_count,
                                           const mrt_attention_options* options) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(settings, "attention settings", "handle"));
    if (settings->settings.rules.size() >= kRulesMax)
      return InvalidArgument("[attention settings] got one rule more than " +
                             std::to_string(kRulesMax) + ", need at most that many");
    AttentionRule rule;
    MRT_RETURN_IF_ERROR(CopyNumbers(layers, layer_count, "layers", &rule.layers));
    MRT_RETURN_IF_ERROR(CopyNumbers(steps, step_count, "steps", &rule.steps));
    MRT_ASSIGN_OR_RETURN(rule.attention, ToAttentionOptions(options));
    settings->settings.rules.push_back(std::move(rule));
    return {};
  });
}

mrt_status mrt_attention_settings_get_default(const mrt_attention_settings* settings,
                                              mrt_attention_options* options) {
  constexpr const char* kWhere = "attention settings";
  return FillStruct(options, kWhere, [&]() -> Result<mrt_attention_options> {
    MRT_RETURN_IF_ERROR(Need(settings, kWhere, "handle"));
    return FromAttentionOptions(settings->settings.attention);
  });
}

size_t mrt_attention_settings_rule_count(const mrt_attention_settings* settings) {
  return settings == nullptr ? 0 : settings->settings.rules.size();
}

mrt_status mrt_attention_settings_rule_at(const mrt_attention_settings* settings, size_t index,
                                          mrt_attention_rule* rule,
                                          mrt_attention_options* options) {
  constexpr const char* kWhere = "attention settings";
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(settings, kWhere, "handle"));
    size_t rule_bytes = 0, options_bytes = 0;
    MRT_RETURN_IF_ERROR(CheckSize<mrt_attention_rule>(rule, kWhere, &rule_bytes));
    MRT_RETURN_IF_ERROR(CheckSize<mrt_attention_options>(options, kWhere, &options_bytes));
    MRT_RETURN_IF_ERROR(CheckIndex(index, settings->settings.rules.size(), kWhere));
    const AttentionRule& found = settings->settings.rules[index];
    WriteStruct({.layers = found.layers.data(),
                 .layer_count = found.layers.size(),
                 .steps = found.steps.data(),
                 .step_count = found.steps.size()},
                rule_bytes, rule);
    WriteStruct(FromAttentionOptions(found.attention), options_bytes, options);
    return {};
  });
}

}  // extern "C"
