"""Clips that the engine makes, as raw RGB: exact pixels, and nothing is needed to read them."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

METHODS = ("dense", "monarch", "topk", "window", "radial")
# Monarch without training: the tiling and the number of refinement steps of "free-SPARSITY-STEPS".
TILES = {"94.7": "1,1,1", "91.4": "1,2,1", "97.0": "3,1,1"}
FREE = {f"free-{s}-{n}": (tiles, n) for s, tiles in TILES.items() for n in range(1, 5)}
DENSITY = 0.053  # of the baselines: what Monarch's parameters come to at 30 x 52 tokens


@dataclass(frozen=True)
class Engine:
    """How all clips of an evaluation are made."""

    binary: Path
    model: Path
    frames: int
    seed: int
    density: float = DENSITY
    dense_weights: Path | None = None  # for all methods but "monarch"; None: those of the package

    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as the package wants them."""
        settings = json.loads((self.model / "model.json").read_text())["generation"]
        return settings["height"], settings["width"]

    def generate(self, method: str, prompts: Path, folder: Path) -> None:
        """A clip for each line of `prompts`, folder/0001.rgb, ...; those that exist stay.

        Clip i has the noise of seed + i - 1 with every method.
        """
        command = [self.binary, "generate", "--model", self.model, "--prompts", prompts]
        command += ["--out-dir", folder, "--format", "rgb", "--frames", self.frames]
        command += ["--seed", self.seed]
        if method in FREE:
            tiles, steps = FREE[method]
            command += ["--attention", "monarch", "--tiles", tiles, "--iterations", steps]
        else:
            command += ["--attention", method, "--density", self.density]
        if method != "monarch" and self.dense_weights:
            command += ["--checkpoint", self.dense_weights]
        subprocess.run([*map(str, command), "--no-cache"], check=True)


def read(path: Path, size: tuple[int, int], frames: int) -> np.ndarray:
    """uint8 [frames, H, W, 3] of a file of raw RGB; `size` is (H, W). ValueError if it has another
    number of frames: clips of several lengths must not meet in one row."""
    pixels = np.fromfile(path, np.uint8)
    if len(pixels) == 0 or len(pixels) % (size[0] * size[1] * 3):
        raise ValueError(
            f"[clips] {path} has {len(pixels)} bytes, no frames of {size[1]}x{size[0]}"
        )
    video = pixels.reshape(-1, *size, 3)
    if len(video) != frames:
        raise ValueError(f"[clips] {path} has {len(video)} frames, need {frames}")
    return video


def made(folder: Path, clips: int) -> dict[int, Path]:
    """The files of the first `clips` clips that are there, by index from 0."""
    files = {i: folder / f"{i + 1:04d}.rgb" for i in range(clips)}
    return {i: path for i, path in files.items() if path.exists()}
