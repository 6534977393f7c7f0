// Options of the C API as those of the C++ API.
#pragma once

#include <memory>

#include "c_api/boundary.h"
#include "monarchrt/engine.h"

struct mrt_attention_settings {
  monarchrt::AttentionSettings settings;
};

struct mrt_trace {
  std::shared_ptr<monarchrt::Trace> trace;
};

namespace mrt::c_api {

/// Null: the defaults.
Result<monarchrt::AttentionOptions> ToAttentionOptions(const mrt_attention_options* given);
/// `implementation` of the result points into `options`.
mrt_attention_options FromAttentionOptions(const monarchrt::AttentionOptions& options);

Result<monarchrt::EngineOptions> ToEngineOptions(const mrt_engine_options* given);
Result<monarchrt::StreamOptions> ToStreamOptions(const mrt_stream_options* given);

/// Null: no callback.
monarchrt::PhaseCallback ToPhaseCallback(mrt_phase_callback on_phase, void* user);

}  // namespace mrt::c_api
