#include <stdio.h>

#include "monarchrt/c_api.h"

/* Each chunk goes to the file as soon as it is made. */
static int32_t write_chunk(mrt_stream* stream, const uint8_t* rgb, const mrt_chunk* chunk,
                           void* file) {
  (void)stream;
  fprintf(stderr, "%d frames at %.2f s\n", (int)chunk->frames, chunk->start_s);
  return fwrite(rgb, 1, chunk->rgb_bytes, file) != chunk->rgb_bytes; /* not 0: stop */
}

int main(int argc, char** argv) {
  if (argc != 4) return fprintf(stderr, "usage: generate MODEL CHECKPOINT PROMPT >rgb\n"), 2;
  mrt_engine_options model;
  mrt_engine_options_init(&model, sizeof(model));
  model.model = argv[1];
  model.checkpoint = argv[2];
  mrt_stream_options video;
  mrt_stream_options_init(&video, sizeof(video));
  video.prompt = argv[3];
  video.width = 80;
  video.height = 48;
  video.frames = 21;

  mrt_engine* engine = NULL;
  mrt_status status = mrt_engine_load(&model, NULL, NULL, &engine);
  if (status == MRT_OK) status = mrt_generate(engine, &video, NULL, write_chunk, stdout);
  if (status != MRT_OK) fprintf(stderr, "%s\n", mrt_last_error());
  mrt_engine_destroy(engine);
  return status == MRT_OK ? 0 : 1;
}
