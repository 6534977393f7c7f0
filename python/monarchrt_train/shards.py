"""Tensors in safetensors files that stay below 15 MiB."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SHARD_BYTES = 14 << 20


def shards(tensors: dict[str, Tensor], limit: int = SHARD_BYTES) -> list[dict[str, Tensor]]:
    """The tensors in groups of at most `limit` bytes; a larger tensor is alone."""
    groups: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in tensors.items():
        if not groups or tensor.nbytes > room:
            groups.append({})
            room = limit
        groups[-1][name] = tensor
        room -= tensor.nbytes
    return groups


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors makes files that only their owner can read


def save_file_of(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """One file, whatever its size."""
    _save({key: x.detach().to("cpu", dtype).contiguous() for key, x in tensors.items()}, path)


def save_tensors(folder: Path, name: str, tensors: dict[str, Tensor], dtype: torch.dtype) -> str:
    """Writes one safetensors file or shards with an index. -> the file to open."""
    tensors = {key: x.detach().to("cpu", dtype).contiguous() for key, x in tensors.items()}
    groups = shards(tensors)
    if len(groups) == 1:
        _save(groups[0], folder / f"{name}.safetensors")
        return f"{name}.safetensors"
    places = {}
    for number, group in enumerate(groups, 1):
        file = f"{name}-{number:05}-of-{len(groups):05}.safetensors"
        _save(group, folder / file)
        places |= dict.fromkeys(group, file)
    size = sum(x.nbytes for x in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return f"{name}.safetensors.index.json"


def load_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".json":
        return load_file(path)
    files = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    return {name: x for file in files for name, x in load_file(path.parent / file).items()}
