"""A model plus the change of weights between two others: A + scale x (B - C).

python -m monarchrt_train.merge A --plus B --minus C [--scale S] --out D

What few-step training changed in an older flow C (giving B), added to a newer flow A, gives a
few-step model without training. A, B and C are folders of checkpoints, whose average counts, or
safetensors files of a transformer (those of a package). D is a folder, a checkpoint like that of a
stage, with the text encoder of A; or, if its name ends so, a safetensors file with the transformer
alone, in bfloat16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from monarchrt_train import checkpoint, shards
from monarchrt_train.checkpoint import Checkpoint

TRANSFORMER = "transformer."
Tensors = dict[str, Tensor]


def read(path: Path) -> tuple[Tensors, Tensors]:
    """-> float32 weights of the transformer, and the others of its checkpoint as they are."""
    if path.is_dir():
        found = checkpoint.load(path, ["ema"]).weights("ema", "ema")
    else:
        found = {TRANSFORMER + name: x for name, x in load_file(path).items()}
    own = {
        name.removeprefix(TRANSFORMER): x.float()
        for name, x in found.items()
        if name.startswith(TRANSFORMER)
    }
    return own, {name: x for name, x in found.items() if not name.startswith(TRANSFORMER)}


def merge(start: Tensors, plus: Tensors, minus: Tensors, scale: float) -> Tensors:
    """start + scale x (plus - minus). ValueError if they are of different models."""
    shapes = [{name: x.shape for name, x in tensors.items()} for tensors in (start, plus, minus)]
    for other in shapes[1:]:
        if other != shapes[0]:
            names = sorted(n for n in other.keys() | shapes[0] if other.get(n) != shapes[0].get(n))
            raise ValueError(f"[merge] got models that differ in {names[0]}, need the same tensors")
    return {name: x + scale * (plus[name] - minus[name]) for name, x in start.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", metavar="A", type=Path)
    parser.add_argument("--plus", metavar="B", type=Path, required=True)
    parser.add_argument("--minus", metavar="C", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", metavar="D", type=Path, required=True)
    args = parser.parse_args(argv)
    start, others = read(args.start)
    merged = merge(start, read(args.plus)[0], read(args.minus)[0], args.scale)
    if args.out.suffix == ".safetensors":
        args.out.parent.mkdir(parents=True, exist_ok=True)
        shards.save_file_of(merged, args.out, torch.bfloat16)
        return
    if not others:
        parser.error(
            f"{args.start} has no text encoder, need a folder to make the folder {args.out}"
        )
    ema = {TRANSFORMER + name: x for name, x in merged.items()} | others
    checkpoint.save(args.out, Checkpoint(0, {"ema": ema}))


if __name__ == "__main__":
    main()
