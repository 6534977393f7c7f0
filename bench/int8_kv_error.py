#!/usr/bin/env python3
"""What int8 keys and values would cost: relative L2 of the output on golden tensors.

    python bench/int8_kv_error.py [FILE.safetensors ...]

Every token of every head gets a scale of its own, its largest value / 127; sums stay in float32.
Inputs are rounded to bfloat16 first, as the engine keeps them, and the output of these is what is
compared with. Needs the package of python/.
"""

import pathlib
import sys

from safetensors import safe_open

from monarchrt_train.attention import Tiling, monarch

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden" / "attention"


def through_int8(x):
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (x / scale).round() * scale


def main():
    print("file                     head_dim   both     keys     values   output as bfloat16")
    for path in map(pathlib.Path, sys.argv[1:] or sorted(GOLDEN.glob("*.safetensors"))):
        with safe_open(path, "pt") as file:
            q, k, v = (file.get_tensor(name).bfloat16().float() for name in "qkv")
            meta = file.metadata()
        number = {name: int(value) for name, value in meta.items() if value.isdigit()}
        if number["causal_block_frames"]:
            continue  # the same, block by block
        tiling = Tiling(number["f_tied"], number["h_reduce"], number["w_reduce"])
        grid = (-1, number["height"], number["width"])

        def attend(k, v, q=q, grid=grid, tiling=tiling, steps=number["num_iters"]):
            return monarch(*(x.unflatten(1, grid) for x in (q, k, v)), tiling, steps)

        want = attend(k, v)
        outputs = (
            attend(through_int8(k), through_int8(v)),
            attend(through_int8(k), v),
            attend(k, through_int8(v)),
            want.bfloat16().float(),
        )
        errors = "   ".join(f"{float((x - want).norm() / want.norm()):.4f}" for x in outputs)
        print(f"{path.stem:24} {q.shape[-1]:8}   {errors}")


if __name__ == "__main__":
    main()
