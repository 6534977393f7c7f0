#!/usr/bin/env python3
"""Monarch attention on numpy arrays, beside dense attention in numpy.

    python3 examples/python/attention.py
"""

import argparse
import ctypes as c

import monarchrt
import numpy as np


def attend(library, q, k, v, **options):
    """float32 arrays [frames, rows, cols, heads, head_dim]; returns one like q."""
    q, k, v = (np.ascontiguousarray(x, np.float32) for x in (q, k, v))
    out = np.empty_like(q)
    how = library.options(monarchrt.AttentionOptions, "mrt_attention_options_init", **options)
    what = library.options(monarchrt.AttentionProblem, "mrt_attention_problem_init",
                           frames_q=q.shape[0], frames_kv=k.shape[0], rows=q.shape[1],
                           cols=q.shape[2], heads=q.shape[3], head_dim=q.shape[4])
    library.call("mrt_attend", c.byref(how), c.byref(what), q.ctypes.data, k.ctypes.data,
                 v.ctypes.data, out.ctypes.data, 0)
    return out


def dense(q, k, v):
    """The same by definition: every query sees every key."""
    scores = np.einsum("abchd,fklhd->habcfkl", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=(4, 5, 6), keepdims=True))
    weights /= weights.sum(axis=(4, 5, 6), keepdims=True)
    return np.einsum("habcfkl,fklhd->abchd", weights, v)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="libmonarchrt.so")
    library = monarchrt.Library(parser.parse_args().library)
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((frames, 6, 8, 2, 32)) for frames in (1, 2, 2))
    want = dense(q, k, v)
    for name, options in {"dense": {"mode": 0}, "monarch": {},
                          "monarch, 3 iterations": {"iterations": 3},
                          # With tiles of one row Monarch attention is exact.
                          "monarch, tiles of one row": {"h_reduce": 6}}.items():
        got = attend(library, q, k, v, **options)
        error = np.linalg.norm(got - want) / np.linalg.norm(want)
        print(f"{name}: relative difference from dense attention {error:.1e}")
        if "dense" in name or "one row" in name:
            assert error < 1e-5, error


if __name__ == "__main__":
    main()
