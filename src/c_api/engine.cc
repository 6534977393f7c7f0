#include "c_api/engine.h"

#include "c_api/options.h"

extern "C" {

using namespace mrt;
using namespace mrt::c_api;

mrt_status mrt_validate(const mrt_engine_options* engine, const mrt_stream_options* stream) {
  return Boundary([&]() -> Status {
    MRT_ASSIGN_OR_RETURN(const auto model, ToEngineOptions(engine));
    MRT_ASSIGN_OR_RETURN(const auto video, ToStreamOptions(stream));
    return monarchrt::Engine::Validate(model, video);
  });
}

mrt_status mrt_estimate_memory(const mrt_engine_options* engine, const mrt_stream_options* stream,
                               mrt_memory_estimate* estimate) {
  return FillStruct(estimate, "memory estimate", [&]() -> Result<mrt_memory_estimate> {
    MRT_ASSIGN_OR_RETURN(const auto model, ToEngineOptions(engine));
    MRT_ASSIGN_OR_RETURN(const auto video, ToStreamOptions(stream));
    MRT_ASSIGN_OR_RETURN(const auto memory, monarchrt::Engine::EstimateMemory(model, video));
    return mrt_memory_estimate{.weights_bytes = memory.weights_bytes,
                               .text_bytes = memory.text_bytes,
                               .stream_bytes = memory.stream_bytes,
                               .peak_bytes = memory.peak_bytes,
                               .available_bytes = memory.available_bytes,
                               .device_peak_bytes = memory.device_peak_bytes,
                               .device_available_bytes = memory.device_available_bytes};
  });
}

mrt_status mrt_check_prompt(const char* prompt) {
  return Boundary([&]() -> Status { return monarchrt::Engine::CheckPrompt(Text(prompt)); });
}

mrt_status mrt_engine_load(const mrt_engine_options* options, mrt_phase_callback on_phase,
                           void* user, mrt_engine** engine) {
  return Boundary([&]() -> Status {
    MRT_RETURN_IF_ERROR(Need(engine, "engine", "place for a handle"));
    *engine = nullptr;
    MRT_ASSIGN_OR_RETURN(const auto model, ToEngineOptions(options));
    MRT_ASSIGN_OR_RETURN(auto loaded,
                         monarchrt::Engine::Load(model, ToPhaseCallback(on_phase, user)));
    *engine = new mrt_engine{std::move(loaded)};
    return {};
  });
}

void mrt_engine_destroy(mrt_engine* engine) { delete engine; }

mrt_status mrt_engine_info(const mrt_engine* engine, mrt_model_info* info) {
  return FillStruct(info, "model info", [&]() -> Result<mrt_model_info> {
    MRT_RETURN_IF_ERROR(Need(engine, "engine", "handle"));
    const monarchrt::ModelInfo model = engine->engine.info();
    mrt_model_info known = {};
    known.layers = model.layers;
    known.weights_bytes = model.weights_bytes;
    known.width_multiple = model.width_multiple;
    known.height_multiple = model.height_multiple;
    known.independent_first_frame = model.independent_first_frame ? 1 : 0;
    CopyText(model.name, known.name);
    CopyText(model.device, known.device);
    CopyText(model.dtype, known.dtype);
    return known;
  });
}

}  // extern "C"
