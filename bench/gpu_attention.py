#!/usr/bin/env python3
"""Monarch attention against PyTorch's dense attention on one GPU, in one run.

    bench/gpu_attention.py --bench build/cuda/src/kernels/monarch/monarch_cuda_bench [--shape 480p]

Prints the rows of monarch_cuda_bench, rows of the same form for each dense backend that PyTorch has
here (FlashAttention, cuDNN), and the ratio of the fastest dense time to ours. Needs PyTorch.
"""

import argparse
import json
import statistics
import subprocess

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SHAPES = {"480p": (3, 21, 30 * 52), "720p": (3, 21, 45 * 80)}  # query frames, key frames, tokens
HEADS, HEAD_DIM = 12, 128
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


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


def dense_rows(shape):
    frames_q, frames_kv, tokens = SHAPES[shape]
    generator = torch.Generator(device="cuda").manual_seed(1)

    def random(frames):
        return torch.randn(1, frames * tokens, HEADS, HEAD_DIM, generator=generator, device="cuda",
                           dtype=torch.bfloat16).transpose(1, 2)

    q, k, v = random(frames_q), random(frames_kv), random(frames_kv)
    gflop = 4 * HEADS * HEAD_DIM * frames_q * frames_kv * tokens**2 / 1e9
    for name, backend in BACKENDS.items():
        for cold in (True, False):
            with sdpa_kernel(backend):
                try:
                    median, p95 = measure_ms(lambda: scaled_dot_product_attention(q, k, v), cold)
                except RuntimeError as error:
                    print(f"# {name} refuses: {error}")
                    break
            yield {"op": "dense", "impl": f"torch {torch.__version__} {name}", "shape": shape,
                   "dtype": "bf16", "l2": "cold" if cold else "warm", "ms_median": round(median, 4),
                   "ms_p95": round(p95, 4), "gflop": round(gflop, 1),
                   "tflops": round(gflop / median, 1), "gpu": torch.cuda.get_device_name()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="path of monarch_cuda_bench")
    parser.add_argument("--shape", choices=SHAPES, default="480p")
    parser.add_argument("--plan", default="", help="passed on to it")
    arguments = parser.parse_args()
    command = [arguments.bench, "--shape", arguments.shape, "--plan", arguments.plan]
    ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in ours.splitlines()] + list(dense_rows(arguments.shape))
    for row in rows:
        print(json.dumps(row))
    for l2 in ("cold", "warm"):
        times = {row["impl"]: row["ms_median"] for row in rows if row["l2"] == l2}
        monarch = times.pop("cuda")
        impl, dense = min(times.items(), key=lambda item: item[1])
        print(f"# {l2}: Monarch {monarch:.3f} ms, fastest dense {dense:.3f} ms ({impl}), "
              f"{dense / monarch:.2f} times")


if __name__ == "__main__":
    main()
