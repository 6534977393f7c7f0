#!/usr/bin/env python3
"""Monarch attention against other attention on one GPU, in one run.

    bench/gpu_attention.py --bench build/cuda/src/kernels/monarch/monarch_cuda_bench [--shape 480p]
                           [--published MonarchRT/wan/modules/monarch_attn.py]

Prints the rows of monarch_cuda_bench, rows of the same form for each dense backend that PyTorch has
here (FlashAttention, cuDNN), and the ratio of the fastest dense time to ours. Needs PyTorch.

With --published also the Triton kernels of github.com/Infini-AI-Lab/MonarchRT (that file of a
checkout; needs Triton and einops): how long they take to tune themselves, a call from Python, and
the same work as a CUDA graph, without Python's share. Both include the copy of the chunk's new keys
and values into the cache, which is part of their function and not of ours: 0.016 ms at 480p.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SHAPES = {"480p": (3, 21, 30, 52), "720p": (3, 21, 45, 80)}  # query frames, key frames, grid
HEADS, HEAD_DIM = 12, 128
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
PUBLISHED = "published Triton"
TUNE_MS = 12  # of each configuration, instead of Triton's 125


def measure_ms(function, cold, repeats=50, warm_up=5):
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    times = []
    for n in range(warm_up + repeats):
        if cold:
            flush.fill_(n % 100)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        if n >= warm_up:
            times.append(begin.elapsed_time(end))
    times.sort()
    return statistics.median(times), times[len(times) * 95 // 100]


def random_inputs(shape):
    """q, k, v, each [1, tokens, heads, head_dim]."""
    frames_q, frames_kv, rows, cols = SHAPES[shape]
    generator = torch.Generator(device="cuda").manual_seed(1)
    return [torch.randn(1, frames * rows * cols, HEADS, HEAD_DIM, generator=generator,
                        device="cuda", dtype=torch.bfloat16)
            for frames in (frames_q, frames_kv, frames_kv)]


def row(op, impl, shape, cold, function, gflop=None):
    median, p95 = measure_ms(function, cold)
    out = {"op": op, "impl": impl, "shape": shape, "dtype": "bf16",
           "l2": "cold" if cold else "warm", "ms_median": round(median, 4),
           "ms_p95": round(p95, 4), "gpu": torch.cuda.get_device_name()}
    return out if gflop is None else out | {"gflop": round(gflop, 1),
                                            "tflops": round(gflop / median, 1)}


def dense_rows(shape):
    frames_q, frames_kv, rows, cols = SHAPES[shape]
    q, k, v = (x.transpose(1, 2) for x in random_inputs(shape))
    gflop = 4 * HEADS * HEAD_DIM * frames_q * frames_kv * (rows * cols)**2 / 1e9
    for name, backend in BACKENDS.items():
        for cold in (True, False):
            with sdpa_kernel(backend):
                try:
                    yield row("dense", f"torch {torch.__version__} {name}", shape, cold,
                              lambda: scaled_dot_product_attention(q, k, v), gflop)
                except RuntimeError as error:
                    print(f"# {name} refuses: {error}")
                    break


def load_published(path):
    import triton

    spec = importlib.util.spec_from_file_location("published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def tune(function, quantiles):
        return triton.testing.do_bench(function, warmup=TUNE_MS // 6, rep=TUNE_MS - TUNE_MS // 6,
                                       quantiles=quantiles)

    for kernel in vars(module).values():
        if isinstance(kernel, triton.runtime.Autotuner):
            kernel._do_bench = tune
    return module


def graph_of(function):
    """`function`, called once for good: a CUDA graph of what it launches."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        function()
    return graph.replay


def published_rows(path, shape):
    """Of a chunk at the end of a full cache, as inference calls it."""
    module = load_published(path)
    frames_q, frames_kv, rows, cols = SHAPES[shape]
    q, k, v = random_inputs(shape)
    chunk = slice((frames_kv - frames_q) * rows * cols, frames_kv * rows * cols)
    new_k, new_v = k[:, chunk].clone(), v[:, chunk].clone()

    @torch.no_grad()
    def call():
        return module.monarch_attn_with_kv_cache(q, k, v, new_k, new_v, chunk.start, chunk.stop,
                                                 1, 1, 1, rows, cols)

    begin = time.monotonic()
    call()
    torch.cuda.synchronize()
    print(f"# {PUBLISHED}: compiled and tuned in {time.monotonic() - begin:.1f} s")
    for kind, function in (("as a graph", graph_of(call)), ("called", call)):
        for cold in (True, False):
            yield row("monarch", f"{PUBLISHED}, {kind}", shape, cold, function)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="path of monarch_cuda_bench")
    parser.add_argument("--shape", choices=SHAPES, default="480p")
    parser.add_argument("--plan", default="", help="passed on to it")
    parser.add_argument("--published", metavar="FILE", help="the published Triton kernels")
    arguments = parser.parse_args()
    command = [arguments.bench, "--shape", arguments.shape, "--plan", arguments.plan]
    ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in ours.splitlines()] + list(dense_rows(arguments.shape))
    if arguments.published:
        rows += published_rows(arguments.published, arguments.shape)
    for line in rows:
        print(json.dumps(line))
    for l2 in ("cold", "warm"):
        times = {x["impl"]: x["ms_median"] for x in rows if x["l2"] == l2}
        monarch = times.pop("cuda")
        dense = {impl: ms for impl, ms in times.items() if not impl.startswith(PUBLISHED)}
        fastest = min(dense, key=dense.get)
        print(f"# {l2}: Monarch {monarch:.3f} ms, fastest dense {dense[fastest]:.3f} ms "
              f"({fastest}), {dense[fastest] / monarch:.2f} times")
        for impl in (x for x in times if x not in dense):
            print(f"# {l2}: {impl} {times[impl]:.3f} ms, {times[impl] / monarch:.2f} times")


if __name__ == "__main__":
    main()
