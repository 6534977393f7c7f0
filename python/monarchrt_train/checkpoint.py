"""Checkpoints: a folder with checkpoint.json and its tensors in files below 15 MiB.

A checkpoint has named parts (weights, ema, optimizer, critic ...). Every stage also starts from a
checkpoint that lacks some of them: weights come from ema, and an optimizer starts anew.

python -m monarchrt_train.checkpoint FROM TO --parts ema critic
writes a small copy: only these parts, in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from monarchrt_train.shards import shards

Parts = dict[str, dict[str, Tensor]]
INDEX_FILE = "checkpoint.json"


@dataclass
class Checkpoint:
    step: int
    parts: Parts
    notes: dict[str, str] = field(default_factory=dict)

    def weights(self, name: str = "weights", instead: str = "ema") -> dict[str, Tensor]:
        """The part `name`, or `instead`."""
        for part in (name, instead):
            if part in self.parts:
                return self.parts[part]
        raise KeyError(f"the checkpoint has {', '.join(self.parts)}; need {name} or {instead}")


def save(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> None:
    """Replaces `folder`'s checkpoint as a whole. `dtype`: of all tensors; None: as they are."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    files: dict[str, list[str]] = {}
    for part, tensors in checkpoint.parts.items():
        plain = {name: x.detach().to("cpu", dtype).contiguous() for name, x in tensors.items()}
        files[part] = []
        for number, group in enumerate(shards(plain), 1):
            files[part].append(f"{part}-{number:03}.safetensors")
            save_file(group, fresh / files[part][-1])
    index = {"step": checkpoint.step, "parts": files, "notes": checkpoint.notes}
    (fresh / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n")
    # At every moment one of the two is whole: `load` takes the old one if it must.
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    """Where the checkpoint before is while a new one takes its place."""
    return folder.with_name(folder.name + ".old")


def _whole(folder: Path) -> Path:
    """`folder`, or what was there before a `save` that did not come to its end."""
    there = (folder / INDEX_FILE).is_file() or not (_old(folder) / INDEX_FILE).is_file()
    return folder if there else _old(folder)


def load(folder: Path, parts: Collection[str] | None = None) -> Checkpoint:
    """The checkpoint with those of `parts` that it has; None: all."""
    folder = _whole(folder)
    index = json.loads((folder / INDEX_FILE).read_text())
    return Checkpoint(
        index["step"],
        {
            part: {name: x for file in files for name, x in load_file(folder / file).items()}
            for part, files in index["parts"].items()
            if parts is None or part in parts
        },
        index.get("notes", {}),
    )


def exists(folder: Path) -> bool:
    return (_whole(folder) / INDEX_FILE).is_file()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="FROM", type=Path)
    parser.add_argument("target", metavar="TO", type=Path)
    parser.add_argument("--parts", nargs="+", default=["ema"])
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    args = parser.parse_args()
    checkpoint = load(args.source, args.parts)
    missing = set(args.parts) - checkpoint.parts.keys()
    if missing:
        parser.error(f"{args.source} has no {', '.join(sorted(missing))}")
    save(args.target, checkpoint, getattr(torch, args.dtype))


if __name__ == "__main__":
    main()
