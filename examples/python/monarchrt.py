"""The C API of monarchrt for the two examples, with ctypes and numpy alone: what they need of it.

The structs are those of include/monarchrt/c_api.h, field by field.
"""

import ctypes as c

import numpy as np


class EngineOptions(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("model", c.c_char_p), ("checkpoint", c.c_char_p),
                ("synthetic", c.c_char_p), ("device", c.c_char_p), ("cache_dir", c.c_char_p),
                ("trace", c.c_void_p), ("vae", c.c_int32), ("precision", c.c_int32),
                ("threads", c.c_int32), ("text_device", c.c_int32)]


class StreamOptions(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("prompt", c.c_char_p), ("seed", c.c_uint64),
                ("frames", c.c_int64), ("width", c.c_int32), ("height", c.c_int32),
                ("steps", c.POINTER(c.c_int32)), ("step_count", c.c_size_t),
                ("timestep_shift", c.c_double), ("attention", c.c_void_p),
                ("attention_settings", c.c_void_p), ("initial_rgb", c.c_void_p),
                ("initial_rgb_bytes", c.c_size_t), ("initial_frames", c.c_int64),
                ("window_frames", c.c_int32), ("sink_frames", c.c_int32),
                ("independent_first_frame", c.c_int32), ("show_initial", c.c_int32),
                ("decode_overlap", c.c_int32), ("kv_cache", c.c_int32)]


class Chunk(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("rgb_bytes", c.c_size_t), ("index", c.c_int64),
                ("first_frame", c.c_int64), ("frames", c.c_int64), ("start_s", c.c_double),
                ("transformer_ms", c.c_double), ("vae_ms", c.c_double), ("wait_ms", c.c_double),
                ("width", c.c_int32), ("height", c.c_int32), ("given", c.c_int32),
                ("prompt", c.c_int32)]


class AttentionOptions(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("implementation", c.c_char_p), ("mode", c.c_int32),
                ("f_tied", c.c_int32), ("h_reduce", c.c_int32), ("w_reduce", c.c_int32),
                ("iterations", c.c_int32), ("reserved", c.c_int32), ("density", c.c_double)]


class AttentionProblem(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("batch", c.c_int64), ("frames_q", c.c_int32),
                ("frames_kv", c.c_int32), ("rows", c.c_int32), ("cols", c.c_int32),
                ("heads", c.c_int32), ("head_dim", c.c_int32), ("causal_block_frames", c.c_int32),
                ("element", c.c_int32), ("kv_layout", c.c_int32), ("reserved", c.c_int32)]


PHASE = c.CFUNCTYPE(None, c.c_char_p, c.c_void_p)


class Library:
    """The functions; each raises RuntimeError with the library's message if it fails."""

    def __init__(self, path="libmonarchrt.so"):
        self.lib = c.CDLL(path)
        self.lib.mrt_last_error.restype = c.c_char_p
        # Handles, arrays and numbers of 64 bits: ctypes takes plain numbers for 32 bits.
        for name, arguments in {
                "mrt_engine_load": [c.c_void_p, PHASE, c.c_void_p, c.c_void_p],
                "mrt_engine_destroy": [c.c_void_p],
                "mrt_stream_open": [c.c_void_p, c.c_void_p, PHASE, c.c_void_p, c.c_void_p],
                "mrt_stream_done": [c.c_void_p],
                "mrt_stream_next_size": [c.c_void_p, c.c_void_p],
                "mrt_stream_next": [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p],
                "mrt_stream_set_prompt": [c.c_void_p, c.c_char_p, c.c_int32, c.c_void_p],
                "mrt_stream_destroy": [c.c_void_p],
                "mrt_attend": [c.c_void_p] * 6 + [c.c_int32]}.items():
            getattr(self.lib, name).argtypes = arguments

    def call(self, name, *arguments):
        if getattr(self.lib, name)(*arguments) != 0:
            raise RuntimeError(self.lib.mrt_last_error().decode())

    def options(self, kind, init, **fields):
        """A struct with the defaults of its init function, and the given fields."""
        made = kind()
        self.call(init, c.byref(made), c.c_size_t(c.sizeof(made)))
        for name, value in fields.items():
            setattr(made, name, value)
        return made


class Engine:
    def __init__(self, library, on_phase=print, **fields):
        self.library, self.handle = library, c.c_void_p()
        options = library.options(EngineOptions, "mrt_engine_options_init", **fields)
        self.phase = PHASE(lambda phase, _: on_phase(phase.decode()))
        library.call("mrt_engine_load", c.byref(options), self.phase, None, c.byref(self.handle))

    def open(self, **fields):
        return Stream(self, **fields)

    def __del__(self):
        self.library.lib.mrt_engine_destroy(self.handle)


class Stream:
    """Iterates over chunks: (Chunk, frames as an array [frames, height, width, 3])."""

    def __init__(self, engine, **fields):
        self.library, self.handle = engine.library, c.c_void_p()
        options = self.library.options(StreamOptions, "mrt_stream_options_init", **fields)
        self.library.call("mrt_stream_open", engine.handle, c.byref(options), engine.phase, None,
                          c.byref(self.handle))

    def __iter__(self):
        return self

    def __next__(self):
        if self.library.lib.mrt_stream_done(self.handle):
            raise StopIteration
        size, chunk = c.c_size_t(), Chunk(c.sizeof(Chunk))
        self.library.call("mrt_stream_next_size", self.handle, c.byref(size))
        rgb = np.empty(size.value, np.uint8)
        self.library.call("mrt_stream_next", self.handle, rgb.ctypes.data, rgb.nbytes,
                          c.byref(chunk))
        return chunk, rgb.reshape(chunk.frames, chunk.height, chunk.width, 3)

    def set_prompt(self, prompt, recache=False):
        self.library.call("mrt_stream_set_prompt", self.handle, prompt.encode(), recache, None)

    def __del__(self):
        self.library.lib.mrt_stream_destroy(self.handle)
