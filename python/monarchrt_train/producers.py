"""Encoded clips made by several processes at once.

Painting a clip is many small kernels, which one process cannot ask for as fast as a GPU runs them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from torch import Tensor

from monarchrt_train.clips import LatentSource

_SOURCE: list[LatentSource] = []  # of this process, if it is a producer


def _begin(latents: LatentSource, device: torch.device) -> None:
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _SOURCE.append(latents.to(device))


def _produce(seeds: range, latent_frames: int, labels: bool) -> dict[str, np.ndarray]:
    """numpy knows no bfloat16: its bits as int16."""
    (source,) = _SOURCE
    kind = source.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        rows = source.rows(seeds, latent_frames, labels)
    return {
        name: (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).cpu().numpy()
        for name, x in rows.items()
    }


def produce(
    latents: LatentSource, tasks: Sequence[range], latent_frames: int, labels: bool, processes: int
) -> Iterator[dict[str, Tensor]]:
    """Rows of the seeds of each task, in their order, on the CPU."""
    context = multiprocessing.get_context("spawn")
    begin = (latents.to(torch.device("cpu")), latents.device)
    count = len(tasks)
    with ProcessPoolExecutor(processes, context, _begin, begin) as pool:
        made = pool.map(_produce, tasks, [latent_frames] * count, [labels] * count)
        for rows in made:
            out = {name: torch.from_numpy(x) for name, x in rows.items()}
            yield out | {"latents": out["latents"].view(torch.bfloat16)}
