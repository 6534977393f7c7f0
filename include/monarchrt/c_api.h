/* The engine for C and for every language that can call C: what engine.h, attention.h, stats.h,
 * trace.h and doctor.h offer, name by name.
 *
 *   mrt_engine_options model;
 *   mrt_engine_options_init(&model, sizeof(model));
 *   model.model = "wan_models/Wan2.1-T2V-1.3B";
 *   model.checkpoint = "checkpoints/self_forcing_dmd.pt";
 *   mrt_stream_options video;
 *   mrt_stream_options_init(&video, sizeof(video));
 *   video.prompt = "a red ball bounces";
 *   mrt_engine* engine = NULL;
 *   mrt_stream* stream = NULL;
 *   mrt_status status = mrt_engine_load(&model, NULL, NULL, &engine);
 *   if (status == MRT_OK) status = mrt_stream_open(engine, &video, NULL, NULL, &stream);
 *   while (status == MRT_OK && !mrt_stream_done(stream)) {
 *     size_t bytes = 0;
 *     mrt_stream_next_size(stream, &bytes);
 *     uint8_t* rgb = malloc(bytes);
 *     mrt_chunk chunk = {sizeof(chunk)};
 *     status = mrt_stream_next(stream, rgb, bytes, &chunk);
 *     if (status == MRT_OK) show(rgb, chunk.frames);
 *     free(rgb);
 *   }
 *   if (status != MRT_OK) puts(mrt_last_error());
 *   mrt_stream_destroy(stream);
 *   mrt_engine_destroy(engine);
 *
 * Errors. What can fail returns an mrt_status; then mrt_last_error() of the same thread is one line
 * that says why, "[where] got ..., need ...". NULL where something is needed, a wrong struct_size,
 * a number that is none of an enum, a buffer that is too small: a status, and nothing happened. No
 * exception leaves the library, and it prints nothing.
 *
 * Structs. Each begins with struct_size. Of those you fill in, call the _init function, which sets
 * the defaults. Of those you get, set struct_size = sizeof(...) before the call. Later versions add
 * fields at the end only, enum values keep their numbers, functions stay: a program that was built
 * with this header runs with every library of the same soname. Reserved fields are 0.
 *
 * Ownership. A handle that you got is yours until its _destroy, which takes NULL as well. Pointers
 * in options are read during the call only. Buffers are yours. Text is UTF-8 and ends with 0; NULL
 * is as good as "". A text in a struct you get is cut to its array, never within a character.
 *
 * Threads. A call may come from any thread. Several streams of one engine may run at once. One
 * stream is used by one thread at a time, but for mrt_stream_cancel and mrt_stream_done; a second
 * thread gets MRT_INVALID_ARGUMENT. Nobody may use a handle that another thread destroys. */
#ifndef MONARCHRT_C_API_H_
#define MONARCHRT_C_API_H_

/* NOLINTBEGIN(readability-identifier-naming,modernize-*): this is C, too. */
#include <stddef.h>
#include <stdint.h>

#include "monarchrt/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ---- */

typedef int32_t mrt_status;
enum {
  MRT_OK = 0,
  MRT_INVALID_ARGUMENT = 1, /* the caller's mistake: a size, flag or setting that cannot work */
  MRT_NOT_FOUND = 2,        /* a file, tensor, key, index or chunk that is not there */
  MRT_BAD_DATA = 3,         /* a file that is there but damaged, hostile or of another kind */
  MRT_UNAVAILABLE = 4,      /* this build or this machine cannot do it */
  MRT_OUT_OF_MEMORY = 5,    /* it does not fit in memory; refused before it was tried if possible */
  MRT_IO_ERROR = 6,         /* the operating system refused a read or a write */
  MRT_CANCELLED = 7,        /* the caller asked to stop */
  MRT_INTERNAL = 8,         /* a defect of this library, or an exception of a callback */
  MRT_BUFFER_TOO_SMALL = 100 /* of this header only: the buffer; the call may be repeated */
};

/* Why the last call of this thread that did not return MRT_OK failed; "" if none did. Valid until
 * this thread's next call that fails. */
MRT_API const char* mrt_last_error(void);

/* "invalid argument" ...; "unknown status" for a number that is none. Never NULL. */
MRT_API const char* mrt_status_name(mrt_status status);

/* The version of the library that runs, "0.1.0". */
MRT_API const char* mrt_version(void);

/* ---- Attention (attention.h) ---- */

enum {
  MRT_ATTENTION_DENSE = 0,
  MRT_ATTENTION_MONARCH = 1,
  MRT_ATTENTION_TOPK = 2,
  MRT_ATTENTION_WINDOW = 3,
  MRT_ATTENTION_RADIAL = 4
};
enum { MRT_ELEMENT_F32 = 0, MRT_ELEMENT_BF16 = 1 };

/* How keys, values and their gradients lie (attention.h). */
enum {
  MRT_KV_TOKEN_MAJOR = 0, /* [batch, frames_kv, rows, cols, heads, head_dim] */
  MRT_KV_HEAD_MAJOR = 1   /* [batch, frames_kv, heads, rows, cols, head_dim] */
};

/* Arrays in structs that you get. */
#define MRT_NAME_BYTES 64
#define MRT_TEXT_BYTES 256

typedef struct mrt_attention_options {
  size_t struct_size;
  const char* implementation; /* a kernel's name ("avx512", "reference" ...); NULL: the best */
  int32_t mode;               /* MRT_ATTENTION_MONARCH */
  int32_t f_tied;             /* 1: latent frames per tile; divides the frames */
  int32_t h_reduce;           /* 1: cuts of the token rows; divides them */
  int32_t w_reduce;           /* 1: cuts of the token columns; divides them */
  int32_t iterations;         /* 1: refinement steps */
  int32_t reserved;
  double density; /* 0.053: how much TOPK, WINDOW and RADIAL keep; more than 0, at most 1 */
} mrt_attention_options;

MRT_API mrt_status mrt_attention_options_init(mrt_attention_options* options, size_t struct_size);

/* The sizes. A token is one cell of the grid; a grid with one row and one frame is plain text. */
typedef struct mrt_attention_problem {
  size_t struct_size;
  int64_t batch;     /* 1 */
  int32_t frames_q;  /* 1: frames of queries */
  int32_t frames_kv; /* 1: frames of keys and values */
  int32_t rows;      /* 1: of the grid of one frame */
  int32_t cols;      /* 1 */
  int32_t heads;     /* 1: of queries, keys and values alike */
  int32_t head_dim;  /* 128 */
  /* 0: every query sees every key. n > 0: a query sees the key frames of its own block of n frames
   * and before; then frames_q == frames_kv, and n divides it. */
  int32_t causal_block_frames;
  int32_t element;   /* MRT_ELEMENT_F32 */
  int32_t kv_layout; /* MRT_KV_TOKEN_MAJOR */
  int32_t reserved;
} mrt_attention_problem;

MRT_API mrt_status mrt_attention_problem_init(mrt_attention_problem* problem, size_t struct_size);

/* Writes out. q and out are [batch, frames_q, rows, cols, heads, head_dim], k and v what kv_layout
 * says: contiguous, the last axis fastest, aligned to their elements; out overlaps none of them.
 * Scores are scaled by 1 / sqrt(head_dim). threads: 0 means all CPUs this process may use. options
 * NULL: the defaults. */
MRT_API mrt_status mrt_attend(const mrt_attention_options* options,
                              const mrt_attention_problem* problem, const void* q, const void* k,
                              const void* v, void* out, int32_t threads);

/* Writes the derivatives of the loss by q, k and v, given d_out, the one by the out of mrt_attend
 * with MRT_ATTENTION_MONARCH. q, k, v and d_out are as there; d_q, d_k and d_v lie like q, k
 * and v, are always float32, and overlap nothing. options->implementation names a kernel of its
 * own; only "reference", which is slow, takes more than one iteration. The bits do not depend on
 * threads. */
MRT_API mrt_status mrt_monarch_attention_backward(const mrt_attention_options* options,
                                                  const mrt_attention_problem* problem,
                                                  const void* q, const void* k, const void* v,
                                                  const void* d_out, float* d_q, float* d_k,
                                                  float* d_v, int32_t threads);

typedef struct mrt_attention_implementation {
  size_t struct_size;
  int32_t chosen;               /* 1: mrt_attend would run this one */
  int32_t bf16_products;        /* 1: operands of its matrix products are rounded to bfloat16 */
  char name[MRT_NAME_BYTES];    /* as mrt_attention_options.implementation takes it */
  char refuses[MRT_TEXT_BYTES]; /* why it cannot run this problem here, or "" */
} mrt_attention_implementation;

/* Number `index` of the implementations of options->mode, the best first; MRT_NOT_FOUND after the
 * last one. MRT_INVALID_ARGUMENT if mrt_attend would refuse the sizes or the tiling. */
MRT_API mrt_status mrt_attention_implementation_at(const mrt_attention_options* options,
                                                   const mrt_attention_problem* problem,
                                                   size_t index,
                                                   mrt_attention_implementation* implementation);

/* 1 - mrt_attention_density: the share of the attention map that is not computed. 0 when dense. */
MRT_API mrt_status mrt_attention_sparsity(const mrt_attention_options* options,
                                          const mrt_attention_problem* problem, double* sparsity);

/* Attention of a video: one for all layers, and rules that say where it differs. */
typedef struct mrt_attention_settings mrt_attention_settings;

/* In the steps of a rule: the pass of the clean chunk, which leaves its keys and values behind. */
#define MRT_CLEAN_PASS (-1)

/* From JSON, as engine.h describes it; NULL or "" is like "{}": the defaults without a rule. */
MRT_API mrt_status mrt_attention_settings_create(const char* json,
                                                 mrt_attention_settings** settings);
MRT_API void mrt_attention_settings_destroy(mrt_attention_settings* settings);
MRT_API mrt_status mrt_attention_settings_set_default(mrt_attention_settings* settings,
                                                      const mrt_attention_options* options);
/* The last rule that fits counts. layers of the transformer, from 0, and denoising steps, from 0,
 * and MRT_CLEAN_PASS; a count of 0 means all. At most 4096 of each, and 4096 rules. */
MRT_API mrt_status mrt_attention_settings_add_rule(mrt_attention_settings* settings,
                                                   const int32_t* layers, size_t layer_count,
                                                   const int32_t* steps, size_t step_count,
                                                   const mrt_attention_options* options);

typedef struct mrt_attention_rule {
  size_t struct_size;
  const int32_t* layers;
  size_t layer_count;
  const int32_t* steps;
  size_t step_count;
} mrt_attention_rule;

/* Reads settings back; pointers are valid until the settings change or are destroyed. */
MRT_API mrt_status mrt_attention_settings_get_default(const mrt_attention_settings* settings,
                                                      mrt_attention_options* options);
MRT_API size_t mrt_attention_settings_rule_count(const mrt_attention_settings* settings);
MRT_API mrt_status mrt_attention_settings_rule_at(const mrt_attention_settings* settings,
                                                  size_t index, mrt_attention_rule* rule,
                                                  mrt_attention_options* options);

/* Monarch: (b1 + b2) / (b1 * b2) of a tile of b1 rows and b2 columns; more than 1 if the tile has
 * one row or column. TOPK, WINDOW, RADIAL: pairs of a query and a key that are kept, of those that
 * a query sees. 1 when dense. */
MRT_API mrt_status mrt_attention_density(const mrt_attention_options* options,
                                         const mrt_attention_problem* problem, double* density);

/* Floating point operations of the matrix products; softmax is not counted. */
MRT_API mrt_status mrt_attention_flop(const mrt_attention_options* options,
                                      const mrt_attention_problem* problem, double* flop);

/* ---- Trace (trace.h) ---- */

/* What engines do that were loaded with it, and when. Any thread may use it. */
typedef struct mrt_trace mrt_trace;

MRT_API mrt_status mrt_trace_create(mrt_trace** trace);
/* At any time: engines that were loaded with it go on recording for themselves. */
MRT_API void mrt_trace_destroy(mrt_trace* trace);
/* The timeline for ui.perfetto.dev, and a table of stages and operations for people, with their 0,
 * into a buffer of `capacity` bytes. *needed is the size, also when it does not fit:
 * MRT_BUFFER_TOO_SMALL. Both grow while an engine runs: leave some room. */
MRT_API mrt_status mrt_trace_chrome_json(const mrt_trace* trace, char* text, size_t capacity,
                                         size_t* needed);
MRT_API mrt_status mrt_trace_table(const mrt_trace* trace, char* text, size_t capacity,
                                   size_t* needed);

/* ---- Engine (engine.h) ---- */

enum { MRT_VAE_WAN = 0, MRT_VAE_TAEHV = 1 };
enum {
  MRT_PRECISION_AUTO = 0,
  MRT_PRECISION_F32 = 1,
  MRT_PRECISION_BF16 = 2,
  MRT_PRECISION_INT8 = 3
};
/* What the cache of text embeddings did: there is none; had it; had not, and keeps it; cannot. */
enum {
  MRT_TEXT_CACHE_OFF = 0,
  MRT_TEXT_CACHE_HIT = 1,
  MRT_TEXT_CACHE_MISS = 2,
  MRT_TEXT_CACHE_UNWRITABLE = 3
};
enum { MRT_OVERLAP_AUTO = 0, MRT_OVERLAP_OFF = 1, MRT_OVERLAP_ON = 2 };
/* Where the text encoder runs if the other models are on a GPU (TextDevice in engine.h). */
enum { MRT_TEXT_DEVICE_AUTO = 0, MRT_TEXT_DEVICE_CPU = 1 };

/* Video frames a second. */
#define MRT_FPS 16

typedef struct mrt_engine mrt_engine;
typedef struct mrt_stream mrt_stream;

/* What each field means: EngineOptions in engine.h. */
typedef struct mrt_engine_options {
  size_t struct_size;
  const char* model;      /* a model directory, or a tree with one in wan_models/ */
  const char* checkpoint; /* FILE or FILE:key; NULL: the model's own */
  const char* synthetic;  /* "wan2.1-1.3b": random weights instead of files */
  const char* device;     /* "cpu", "cuda:0": a name of mrt_device_at */
  const char* cache_dir;  /* where text embeddings are kept between runs; NULL: nowhere */
  mrt_trace* trace;       /* records loading and all streams; NULL: none */
  int32_t vae;            /* MRT_VAE_WAN */
  int32_t precision;      /* MRT_PRECISION_AUTO */
  int32_t threads;        /* 0: all CPUs this process may use */
  int32_t text_device;    /* MRT_TEXT_DEVICE_AUTO */
} mrt_engine_options;

MRT_API mrt_status mrt_engine_options_init(mrt_engine_options* options, size_t struct_size);

/* How the keys and values of the window are stored (KvCacheType in engine.h). */
enum { MRT_KV_CACHE_AUTO = 0, MRT_KV_CACHE_BF16 = 1 };

/* What each field means: StreamOptions in engine.h. */
typedef struct mrt_stream_options {
  size_t struct_size;
  const char* prompt;
  uint64_t seed;
  int64_t frames;       /* 81: video frames */
  int32_t width;        /* 832: pixels; a multiple of 16 * w_reduce */
  int32_t height;       /* 480: pixels; a multiple of 16 * h_reduce */
  const int32_t* steps; /* NULL: 1000, 750, 500, 250; strictly decreasing, 0..1000 */
  size_t step_count;
  double timestep_shift;                  /* 5 */
  const mrt_attention_options* attention; /* of all layers; f_tied 1 or 3; NULL: defaults */
  const mrt_attention_settings* attention_settings; /* instead of `attention`; NULL: none */
  /* Frames to go on from: [initial_frames, height, width, 3], RGB8; NULL: from nothing. */
  const uint8_t* initial_rgb;
  size_t initial_rgb_bytes; /* initial_frames * height * width * 3 */
  int64_t initial_frames;
  int32_t window_frames;           /* 21: latent frames a query sees; -1: all */
  int32_t sink_frames;             /* 0: of these, the first ones that always stay */
  int32_t independent_first_frame; /* 0; 1: the first chunk is a single latent frame */
  int32_t show_initial;            /* 0; 1: the used initial frames come out first */
  int32_t decode_overlap;          /* MRT_OVERLAP_AUTO */
  int32_t kv_cache;                /* MRT_KV_CACHE_AUTO */
} mrt_stream_options;

MRT_API mrt_status mrt_stream_options_init(mrt_stream_options* options, size_t struct_size);

/* Writes width, height, steps, timestep_shift and window_frames as the model wants them
 * (Engine::DefaultStreamOptions in engine.h) into initialised options, and leaves the rest: for the
 * attention there is mrt_attention_options_of_model. The steps go to `steps`, an array of
 * `capacity` numbers that is yours and that options->steps then points to. *step_count is how many
 * there are, also when they do not fit: MRT_BUFFER_TOO_SMALL, and options stay as they were. */
MRT_API mrt_status mrt_stream_options_of_model(const mrt_engine_options* engine, int32_t* steps,
                                               size_t capacity, size_t* step_count,
                                               mrt_stream_options* options);

/* Writes mode as the model wants it into initialised options, and leaves the rest: weights that
 * were trained with one attention make little with another. Point mrt_stream_options.attention to
 * them. */
MRT_API mrt_status mrt_attention_options_of_model(const mrt_engine_options* engine,
                                                  mrt_attention_options* options);

/* A phase of loading or text encoding begins: "loading the transformer". In the caller's thread;
 * `phase` is valid during the call. */
typedef void (*mrt_phase_callback)(const char* phase, void* user);

/* The memory of one generation, in bytes, of the host but for the last two. Planned before anything
 * is loaded. */
typedef struct mrt_memory_estimate {
  size_t struct_size;
  int64_t weights_bytes;          /* packed transformer and autoencoder, from load on */
  int64_t text_bytes;             /* while a prompt is encoded */
  int64_t stream_bytes;           /* KV cache, activations, autoencoder states, frames */
  int64_t peak_bytes;             /* the most of it at one time */
  int64_t available_bytes;        /* what this process can still get now */
  int64_t device_peak_bytes;      /* the most of a GPU's memory at one time; 0 on the CPU */
  int64_t device_available_bytes; /* what it has free */
} mrt_memory_estimate;

/* What load and open would refuse for these options, before anything large is loaded. */
MRT_API mrt_status mrt_validate(const mrt_engine_options* engine, const mrt_stream_options* stream);
MRT_API mrt_status mrt_estimate_memory(const mrt_engine_options* engine,
                                       const mrt_stream_options* stream,
                                       mrt_memory_estimate* estimate);
/* MRT_OK if a prompt is taken: at most 1 MiB. */
MRT_API mrt_status mrt_check_prompt(const char* prompt);

/* *engine is NULL if this fails. on_phase may be NULL; user goes to it. */
MRT_API mrt_status mrt_engine_load(const mrt_engine_options* options, mrt_phase_callback on_phase,
                                   void* user, mrt_engine** engine);
/* Streams keep what they need of their engine: it may go before them. */
MRT_API void mrt_engine_destroy(mrt_engine* engine);

typedef struct mrt_model_info {
  size_t struct_size;
  int64_t layers;                  /* of the transformer */
  int64_t weights_bytes;           /* packed, transformer and autoencoder */
  int32_t width_multiple;          /* width is a multiple of it, in pixels; with Monarch */
  int32_t height_multiple;         /* attention, of it times the cuts of the tiling */
  int32_t independent_first_frame; /* 1: config.json says so */
  int32_t reserved;
  char name[MRT_TEXT_BYTES];   /* "wan 30 layers, dim 1536, 12 heads" */
  char device[MRT_NAME_BYTES]; /* "cpu", "cuda:0" */
  char dtype[MRT_NAME_BYTES];  /* "f32", "bf16" or "int8" */
} mrt_model_info;

MRT_API mrt_status mrt_engine_info(const mrt_engine* engine, mrt_model_info* info);

/* ---- Stream ---- */

/* The frames of one chunk. */
typedef struct mrt_chunk {
  size_t struct_size;
  size_t rgb_bytes;    /* frames * height * width * 3 */
  int64_t index;       /* of the chunk, from 0 */
  int64_t first_frame; /* index of its first video frame */
  int64_t frames;
  double start_s;        /* time stamp of its first frame, in seconds of video */
  double transformer_ms; /* spent in the transformer for this chunk */
  double vae_ms;         /* spent decoding it */
  double wait_ms;        /* spent in the call: less than both together if they overlap */
  int32_t width;         /* pixels */
  int32_t height;
  int32_t given;  /* 1: these are initial frames, not generated */
  int32_t prompt; /* which prompt made it: 0, and one more for each mrt_stream_set_prompt */
} mrt_chunk;

/* Encodes the prompt and starts a stream. *stream is NULL if this fails. */
MRT_API mrt_status mrt_stream_open(mrt_engine* engine, const mrt_stream_options* options,
                                   mrt_phase_callback on_phase, void* user, mrt_stream** stream);
MRT_API void mrt_stream_destroy(mrt_stream* stream);

/* 1 when all frames have been given, and for NULL; else 0. Any thread. */
MRT_API int32_t mrt_stream_done(const mrt_stream* stream);
/* Bytes of the next chunk's frames; 0 when done. */
MRT_API mrt_status mrt_stream_next_size(const mrt_stream* stream, size_t* bytes);
/* Generates the next chunk into rgb: [frames, height, width, 3], RGB8. chunk may be NULL.
 * MRT_BUFFER_TOO_SMALL if capacity is less than mrt_stream_next_size says: nothing was generated,
 * call again with more. MRT_INVALID_ARGUMENT when done; MRT_CANCELLED after mrt_stream_cancel.
 * After any other failure of the generation the stream cannot go on: further calls return the
 * same. rgb is written only by success. */
MRT_API mrt_status mrt_stream_next(mrt_stream* stream, uint8_t* rgb, size_t capacity,
                                   mrt_chunk* chunk);
/* Makes a running or later mrt_stream_next fail with MRT_CANCELLED soon, within a layer's work; on
 * a GPU it first waits for its turn, that is for chunks of the engine's other streams. Any thread;
 * safe in a signal handler. NULL does nothing. */
MRT_API void mrt_stream_cancel(mrt_stream* stream);

/* From where on a new prompt shows. */
typedef struct mrt_prompt_change {
  size_t struct_size;
  int64_t first_frame; /* the first video frame made with it */
  double start_s;      /* the time stamp of that frame, in seconds of video */
  double text_s;       /* spent encoding it */
  int32_t prompt;      /* its number, as in mrt_chunk.prompt */
  int32_t text_cache;  /* MRT_TEXT_CACHE_OFF: what the cache did for it */
} mrt_prompt_change;

/* Goes on with another prompt, from the next chunk that has not been begun. recache 1: the window
 * is computed anew with it, so that the old prompt loses its hold at once (Stream::SetPrompt in
 * engine.h). MRT_NOT_FOUND if no chunk is left to change: at once, or after the prompt was encoded,
 * if the last chunk was begun beside that. The stream goes on. change may be NULL. */
MRT_API mrt_status mrt_stream_set_prompt(mrt_stream* stream, const char* prompt, int32_t recache,
                                         mrt_prompt_change* change);
/* The first video frame that mrt_stream_set_prompt now would change; the video's frames or more if
 * there is none. */
MRT_API mrt_status mrt_stream_next_prompt_frame(const mrt_stream* stream, int64_t* frame);

/* Frame rates are given three ways. Load time is apart from all of them. */
typedef struct mrt_stats {
  size_t struct_size;
  double load_s;          /* reading and packing weights */
  double text_s;          /* prompts to cross-attention keys and values */
  double first_frame_s;   /* from the start of the prompt's encoding to the first chunk's frames */
  double transformer_s;   /* sum over chunks */
  double vae_s;           /* sum over chunks */
  double wall_s;          /* from the start of the prompt's encoding to the last frame */
  double fps_transformer; /* frames / transformer_s */
  double fps_with_vae;    /* frames / (transformer_s + vae_s) */
  double fps_end_to_end;  /* frames / wall_s */
  double sparsity;        /* 1 - mrt_attention_density with a full window; 0 when dense or mixed */
  int64_t frames;         /* video frames */
  int64_t chunks;         /* as many as mrt_stream_chunk_times gives */
  int64_t prompt_changes; /* as many as mrt_stream_prompt_change_at gives */
  int64_t peak_rss_bytes;
  int32_t f_tied, h_reduce, w_reduce, iterations; /* 0 but for Monarch */
  int32_t threads;
  int32_t text_cache; /* MRT_TEXT_CACHE_OFF: of the first prompt */
  char model[MRT_TEXT_BYTES];
  char attention_mode[MRT_NAME_BYTES]; /* "monarch", "dense" ..., or "mixed" if rules make it differ
                                        */
  char dtype[MRT_NAME_BYTES];          /* "f32", "bf16" or "int8" */
  char cpu[MRT_TEXT_BYTES];
  char version[MRT_NAME_BYTES];
  int64_t peak_device_bytes;   /* of a GPU's memory, the most its engine held; 0 on the CPU */
  char device[MRT_NAME_BYTES]; /* where the models ran: "cpu", "cuda:0" */
} mrt_stats;

/* What has been measured so far; complete when done. */
MRT_API mrt_status mrt_stream_stats(const mrt_stream* stream, mrt_stats* stats);
/* The milliseconds of each chunk so far into arrays of `capacity` numbers, either may be NULL.
 * *count is how many there are, also when they do not fit: MRT_BUFFER_TOO_SMALL. */
MRT_API mrt_status mrt_stream_chunk_times(const mrt_stream* stream, double* transformer_ms,
                                          double* vae_ms, size_t capacity, size_t* count);
/* Number `index` of the prompt changes so far; MRT_NOT_FOUND after the last one. */
MRT_API mrt_status mrt_stream_prompt_change_at(const mrt_stream* stream, size_t index,
                                               mrt_prompt_change* change);
/* The JSON that `monarchrt generate --stats` writes (stats.h), with its 0, into a buffer of
 * `capacity` bytes. *needed is its size, also when it does not fit: MRT_BUFFER_TOO_SMALL. Numbers
 * may gain a digit between two calls: leave some room. */
MRT_API mrt_status mrt_stream_stats_json(const mrt_stream* stream, char* text, size_t capacity,
                                         size_t* needed);

/* Frames of a chunk as they are made. rgb and chunk are valid during this call only. So is stream,
 * which may be asked and given a prompt, and whose _destroy does nothing; but mrt_stream_cancel may
 * be called for it from any thread until mrt_generate returns. Not 0: stop. */
typedef int32_t (*mrt_chunk_callback)(mrt_stream* stream, const uint8_t* rgb,
                                      const mrt_chunk* chunk, void* user);

/* Opens a stream, makes all its chunks and hands each to on_chunk, in the caller's thread.
 * MRT_CANCELLED if on_chunk stopped it. on_phase may be NULL; user goes to both. */
MRT_API mrt_status mrt_generate(mrt_engine* engine, const mrt_stream_options* options,
                                mrt_phase_callback on_phase, mrt_chunk_callback on_chunk,
                                void* user);

/* ---- This machine (engine.h, doctor.h) ---- */

typedef struct mrt_device_info {
  size_t struct_size;
  int64_t memory_total_bytes;
  int64_t memory_available_bytes;   /* what this process can still get */
  char name[MRT_NAME_BYTES];        /* as mrt_engine_options.device takes it */
  char description[MRT_TEXT_BYTES]; /* "AMD EPYC, 2 threads, native bf16" */
} mrt_device_info;

/* Number `index` of what this build can use here, the best first; MRT_NOT_FOUND after the last. */
MRT_API mrt_status mrt_device_at(size_t index, mrt_device_info* device);

typedef struct mrt_doctor_report {
  size_t struct_size;
  int64_t memory_total_bytes;
  int64_t memory_available_bytes;
  int32_t avx2, avx512, avx512_bf16, amx_bf16; /* 1: the CPU has it */
  int32_t native_bf16;                         /* 1: MRT_PRECISION_AUTO takes bf16 */
  int32_t threads;                             /* CPUs this process may use */
  char version[MRT_NAME_BYTES];
  char cpu[MRT_TEXT_BYTES];
  char onednn[MRT_TEXT_BYTES]; /* version and instruction set it uses */
} mrt_doctor_report;

MRT_API mrt_status mrt_doctor(mrt_doctor_report* report);

typedef struct mrt_kernel_report {
  size_t struct_size;
  int32_t chosen; /* 1: the one that runs by default on this machine */
  int32_t reserved;
  char operation[MRT_NAME_BYTES]; /* "monarch attention", "dense attention" */
  char name[MRT_NAME_BYTES];
  char refuses[MRT_TEXT_BYTES]; /* why it cannot run here, or "" */
} mrt_kernel_report;

/* Number `index` of the kernels, for the shape of Wan 2.1 1.3B at 480x832; MRT_NOT_FOUND after the
 * last one. */
MRT_API mrt_status mrt_kernel_at(size_t index, mrt_kernel_report* kernel);

/* NOLINTEND(readability-identifier-naming,modernize-*) */

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* MONARCHRT_C_API_H_ */
