#!/usr/bin/env python3
"""A video into an array, chunk by chunk, through the C API.

    python3 examples/python/generate.py --model tests/golden/toy_wan \\
        --checkpoint checkpoints/self_forcing_dmd.pt --prompt "a red ball bounces" \\
        --then "a blue cube falls" --size 80x48 --frames 33 --out video.npy
"""

import argparse
import sys

import monarchrt
import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="libmonarchrt.so")
    parser.add_argument("--model", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--then", help="another prompt after the first chunk")
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="video.npy")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))

    library = monarchrt.Library(args.library)
    engine = monarchrt.Engine(library, model=args.model.encode(),
                              checkpoint=args.checkpoint.encode() if args.checkpoint else None)
    stream = engine.open(prompt=args.prompt.encode(), seed=args.seed, frames=args.frames,
                         width=width, height=height)
    video = []
    for chunk, rgb in stream:
        print(f"chunk {chunk.index}: {chunk.frames} frames in {chunk.wait_ms:.0f} ms")
        video.append(rgb)
        if args.then and chunk.index == 0:
            stream.set_prompt(args.then)
    np.save(args.out, np.concatenate(video))
    print(f"{args.out}: {args.frames} frames of {args.size}")


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(str(error))
