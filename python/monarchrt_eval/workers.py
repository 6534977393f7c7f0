"""One function over many clips, on several processes."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cv2
import torch

Clip, Result = TypeVar("Clip"), TypeVar("Result")


def _alone() -> None:
    """A worker is one of many: no threads of its own."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def spread(work: Callable[[Clip], Result], clips: Iterable[Clip], workers: int) -> Iterator[Result]:
    """The results in order; with one worker or none, in this process."""
    if workers <= 1:
        yield from map(work, clips)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _alone) as pool:
        yield from pool.imap(work, clips)
