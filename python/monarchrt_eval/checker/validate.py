"""The checker on clips whose labels are known: as rendered, and blurred with noise on top."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import torch

from monarchrt_eval.checker.adherence import ATTRIBUTES, compare, tally
from monarchrt_eval.checker.background import statistics
from monarchrt_eval.checker.observe import observe
from monarchrt_eval.checker.segment import blobs
from monarchrt_train.world import labels, render, sample_scene

BLUR_SIGMA_PX = 1.0
NOISE_SIGMA = 3.0  # of 255


def degrade(frames: np.ndarray, seed: int) -> np.ndarray:
    """A mild blur and noise, as an autoencoder leaves them; frames uint8 [T, H, W, 3]."""
    soft = np.stack([cv2.GaussianBlur(f, (0, 0), BLUR_SIGMA_PX) for f in frames])
    noise = np.random.default_rng(seed).standard_normal(soft.shape, np.float32)
    return np.clip(np.round(soft + NOISE_SIGMA * noise), 0, 255).astype(np.uint8)


def clip(seed: int, split: str, frames: int = 81) -> np.ndarray:
    """uint8 [frames, 240, 416, 3] of the scene with this seed."""
    video = render([sample_scene(seed, split)], frames=frames)[0]
    return video.permute(0, 2, 3, 1).contiguous().numpy()


def check_clip(job: tuple[int, str]) -> tuple[dict, list[dict]]:
    """The labels of a scene, and what the checker sees without and with degradation."""
    seed, split = job
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frames = clip(seed, split)
    seen = [observe(frames), observe(degrade(frames, seed))]
    return labels(sample_scene(seed, split)), seen


def _results(jobs: list[tuple[int, str]], workers: int) -> Iterator[tuple[dict, list[dict]]]:
    if workers <= 1:
        yield from map(check_clip, jobs)
        return
    # OpenCV's and PyTorch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(check_clip, jobs)


def validate(
    clips: int, seed: int, split: str, workers: int, mistakes: Callable[[str], None] | None
) -> bool:
    """Prints accuracies, tells `mistakes` each of them; whether everything is at least 97 %."""
    jobs = [(seed + i, split) for i in range(clips)]
    results: tuple[list[dict], list[dict]] = ([], [])  # rendered, degraded
    for (number, _), (truth, seen) in zip(jobs, _results(jobs, workers), strict=True):
        for kind, observed in zip(results, seen, strict=True):
            kind.append(compare(truth, observed))
            wrong = [name for name, hits in kind[-1].items() if not all(hits)]
            if wrong and mistakes:
                mistakes(f"clip {number}, {', '.join(wrong)}: {truth}\n  seen as {observed}")
    tables = [tally(kind) for kind in results]
    print("| attribute | asked | rendered | blurred, with noise |\n|---|---|---|---|")
    shares = []
    for name in ATTRIBUTES:
        row = [t[name][0] / max(t[name][1], 1) for t in tables]
        shares += row
        print(
            f"| {name} | {tables[0][name][1]} | "
            + " | ".join(f"{100 * s:.1f} %" for s in row)
            + " |"
        )
    return min(shares) >= 0.97


def measure(clips: int, seed: int) -> None:
    """Prints the typical background statistics that background.py holds."""
    seen: dict[str, list[np.ndarray]] = {}
    for i in range(clips):
        frames = clip(seed + i, "val", frames=1)
        things = np.zeros(frames.shape[:3], bool)
        for b in blobs(frames[0]):
            rows, columns = b.mask.shape
            things[0, b.top : b.top + rows, b.left : b.left + columns] |= b.mask
        background = sample_scene(seed + i, "val").background
        seen.setdefault(background, []).append(statistics(frames[0], things[0]))
    for name, rows in seen.items():
        numbers = ", ".join(f"{v:.1f}" for v in np.median(rows, axis=0))
        spread = ", ".join(f"{v:.1f}" for v in np.std(rows, axis=0))
        print(f'    "{name}": ({numbers}),  # spread {spread}, of {len(rows)}')
