#!/usr/bin/env python3
"""Monarch attention on a CPU: against our dense rows, PyTorch's and ggml's, and its cost by size.

    bench/cpu_attention.py [--bench build/cpu/apps/monarchrt] [--ggml build/ggml/ggml_attention]
                           [--impl NAME] [--seconds S] [--out FILE.json] [--plot FILE.svg]

All in one run: shape A for every row of the binary, for scaled_dot_product_attention and, with
--ggml, for ggml (bench/ggml_attention.sh builds that binary); then the time of Monarch and dense
against the number of key frames and against the grid, with one kernel. Prints the rows as JSON
lines and a table of ratios; --plot draws the second part.
Needs PyTorch (absent: its rows are left out) and, for --plot, matplotlib.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

HEADS, HEAD_DIM, FRAMES_Q, FRAMES_KV = 12, 128, 3, 21
GRID = (30, 52)  # tokens of a latent frame at 480x832
KEY_FRAMES = (3, 6, 12, 21, 42)
GRIDS = ((15, 26), (20, 34), (30, 52), (45, 80))  # at 6 key frames


def bench(binary, shape, seconds, *more):
    command = [
        binary,
        "bench",
        "attention",
        "--json",
        "--shape",
        shape,
        "--op",
        "dense,monarch",
        "--seconds",
        str(seconds),
        *more,
    ]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def torch_rows(threads, seconds):
    try:
        import torch  # noqa: PLC0415 - may be absent
        from torch.nn.functional import scaled_dot_product_attention  # noqa: PLC0415
    except ImportError:
        print("# no PyTorch: its rows are left out", file=sys.stderr)
        return
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    tokens = GRID[0] * GRID[1]

    def random(frames, dtype):
        x = torch.randn(1, frames * tokens, HEADS, HEAD_DIM, generator=generator)
        return x.to(dtype).transpose(1, 2)

    gflop = 4 * HEADS * HEAD_DIM * FRAMES_Q * FRAMES_KV * tokens**2 / 1e9
    for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        q, k, v = (random(frames, dtype) for frames in (FRAMES_Q, FRAMES_KV, FRAMES_KV))
        times = []
        while len(times) < 3 or (sum(times) < seconds and len(times) < 20):
            begin = time.perf_counter()
            scaled_dot_product_attention(q, k, v)
            times.append(time.perf_counter() - begin)
        ms = statistics.median(times) * 1e3
        yield {
            "op": "dense",
            "impl": f"torch {torch.__version__.split('+')[0]}",
            "shape": "A",
            "dtype": name,
            "threads": threads,
            "ms_median": round(ms, 1),
            "tflops": round(gflop / ms, 3),
        }


def ggml_rows(binary, threads, seconds):
    tokens = GRID[0] * GRID[1]
    flags = {
        "heads": HEADS,
        "head-dim": HEAD_DIM,
        "q": FRAMES_Q * tokens,
        "kv": FRAMES_KV * tokens,
        "threads": threads,
        "seconds": seconds,
    }
    command = [binary, *(str(word) for name in flags for word in (f"--{name}", flags[name]))]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    for row in result["rows"]:
        yield row | {"shape": "A"}


def print_ratios(rows):
    for dtype, alike in (("bf16", ("bf16", "f16")), ("f32", ("f32",))):
        monarch = {
            r["impl"]: r["ms_median"] for r in rows if (r["op"], r["dtype"]) == ("monarch", dtype)
        }
        if not monarch:
            continue
        best = min(monarch, key=monarch.get)
        for row in (r for r in rows if r["op"] == "dense" and r["dtype"] in alike):
            other = row["impl"] if row["impl"] in monarch else best
            print(
                f"# {dtype}: monarch {other} is {row['ms_median'] / monarch[other]:.1f} times as "
                f"fast as dense {row['impl']} ({row['dtype']})"
            )


def sizes():
    for kv in KEY_FRAMES:
        yield "key frames", kv, f"kv={kv}"
    for rows, cols in GRIDS:
        yield "tokens of a frame", rows * cols, f"grid={rows}x{cols},kv=6"


def draw(points, machine, path):
    import matplotlib  # noqa: PLC0415 - only --plot needs it

    matplotlib.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, name in zip(axes, ("key frames", "tokens of a frame"), strict=True):
        for op, colour in (("dense", "tab:grey"), ("monarch", "tab:blue")):
            line = [(x, ms) for kind, x, row_op, ms in points if (kind, row_op) == (name, op)]
            axis.plot(*zip(*line, strict=True), marker="o", color=colour, label=op)
        axis.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        axis.set_xticks(sorted({x for kind, x, _, _ in points if kind == name}), minor=False)
        axis.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_title("30 x 52 tokens a frame", fontsize=10)
    axes[1].set_title("6 key frames", fontsize=10)
    axes[0].legend()
    figure.suptitle(
        f"Attention of a chunk of 3 frames, 12 heads of 128, bf16: {machine}", fontsize=10
    )
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default="build/cpu/apps/monarchrt")
    parser.add_argument("--ggml", help="build/ggml/ggml_attention; without it no rows of ggml")
    parser.add_argument("--impl", help="only this kernel; else all, and for the sizes the first")
    parser.add_argument("--seconds", type=float, default=10, help="of each row, at least 3 runs")
    parser.add_argument("--out")
    parser.add_argument("--plot")
    options = parser.parse_args()

    chosen = ["--impl", options.impl] if options.impl else []
    result = bench(options.bench, "A", options.seconds, "--dtype", "all", *chosen)
    threads = len(os.sched_getaffinity(0))
    others = [torch_rows(threads, options.seconds)]
    if options.ggml:
        others.append(ggml_rows(options.ggml, threads, options.seconds))
    rows = []
    for row in itertools.chain(result["rows"], *others):
        rows.append(row)
        print(json.dumps(row), flush=True)
    impl = options.impl or next(r["impl"] for r in rows if r["op"] == "monarch")
    points = []
    for kind, x, shape in sizes():
        for row in bench(options.bench, shape, options.seconds, "--impl", impl)["rows"]:
            points.append((kind, x, row["op"], row["ms_median"]))
            print(json.dumps(row | {kind: x}), flush=True)

    print_ratios(rows)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump({"machine": result["machine"], "rows": rows, "sizes": points}, file, indent=1)
    if options.plot:
        draw(points, f"{impl}, {result['machine']['cpu']}", options.plot)


if __name__ == "__main__":
    main()
