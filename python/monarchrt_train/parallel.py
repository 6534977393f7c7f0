"""Several processes, one for each GPU, that train one model on different clips.

torchrun --nproc-per-node 2 -m monarchrt_train.flow --config FILE --work DIR

Each takes its share of every batch; gradients are averaged, so all hold the same weights. The first
process writes logs and files.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed

from monarchrt_train.clips import ClipSource, Told
from monarchrt_train.labels import Mentions


def join(device: str) -> torch.device:
    """Joins the processes that torchrun started, if it did. -> the device of this one."""
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return torch.device(device)
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo")
    atexit.register(distributed.destroy_process_group)
    return own


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def ranks() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share(count: int) -> int:
    """This process's part of a batch. ValueError if the processes cannot share it evenly."""
    if count % ranks():
        raise ValueError(f"{ranks()} processes cannot share {count} clips evenly")
    return count // ranks()


def largest(value: float) -> float:
    """Of the processes' values; all get the same answer. Does not wait for a GPU."""
    if ranks() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return float(tensor)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces every gradient by its mean over the processes."""
    if ranks() == 1:
        return
    gradients = [x.grad for x in parameters if x.grad is not None]
    flat = torch.cat([x.flatten() for x in gradients])
    distributed.all_reduce(flat)
    flat /= ranks()
    parts = flat.split([x.numel() for x in gradients])
    torch._foreach_copy_(
        gradients, [part.view_as(x) for part, x in zip(parts, gradients, strict=True)]
    )


class Share:
    """Every n-th clip of a source: no two processes see the same one."""

    def __init__(self, source: ClipSource):
        self._source = source

    def _own(self, seeds: Sequence[int]) -> list[int]:
        return [seed * ranks() + rank() for seed in seeds]

    def captions(self, seeds: Sequence[int]) -> list[str]:
        return self._source.captions(self._own(seeds))

    def mentions(self, seeds: Sequence[int]) -> list[Mentions]:
        return self._source.mentions(self._own(seeds))

    def shown(self, seeds: Sequence[int]) -> list[Mentions]:
        return self._source.shown(self._own(seeds))

    def partly(self, seeds: Sequence[int]) -> list[Told]:
        return self._source.partly(self._own(seeds))

    def clips(
        self,
        seeds: Sequence[int],
        frames: int,
        size: tuple[int, int],
        device: torch.device,
        first_frame: int = 0,
    ) -> Tensor:
        return self._source.clips(self._own(seeds), frames, size, device, first_frame)

    def labels(
        self,
        seeds: Sequence[int],
        frames: Sequence[float],
        size: tuple[int, int],
        device: torch.device,
    ) -> Tensor:
        return self._source.labels(self._own(seeds), frames, size, device)
