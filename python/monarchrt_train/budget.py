"""What a configuration costs at inference: operations of a chunk, and bytes of the package.

python -m monarchrt_train.budget --config FILE

Operations are multiplications and additions, as `monarchrt bench` counts them.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from monarchrt_train.config import CHUNK_FRAMES, Config, load
from monarchrt_train.model import TextToVideo
from monarchrt_train.taehv import FRAMES_PER_LATENT, GROWTH, PIXELS_PER_LATENT, Taehv, TaehvConfig

VIDEO_FPS = 16
LINEAR_TFLOPS = 1.0  # on two AMX cores; assumed, like the next two
MONARCH_TFLOPS = (0.4, 1.0)
CONVOLUTION_TFLOPS = 1.0


def dense_flop(frames_q: int, frames_kv: int, rows: int, cols: int, dim: int) -> float:
    """Softmax attention of all heads together, dim wide."""
    return 4.0 * frames_q * frames_kv * (rows * cols) ** 2 * dim


def monarch_flop(frames_q: int, frames_kv: int, rows: int, cols: int, dim: int) -> float:
    """One step with the tiling 1,1,1 (MonarchFlop in src/kernels/monarch)."""
    pair = 3.0 * rows * cols * cols + 2.0 * cols * rows * rows
    return 2.0 * dim * frames_q * frames_kv * pair


def decoder_flop(c: TaehvConfig, rows: int, cols: int) -> float:
    """One latent frame of rows x cols, into four frames of video."""
    total, frames = 2.0 * 9 * rows * cols * c.channels * c.decoder_widths[0], 1
    for level, growth in enumerate(GROWTH):
        width, out = c.decoder_widths[level : level + 2]
        pixels = rows * cols * 4**level * frames
        total += pixels * 3 * 2 * 9 * (2 + 1 + 1) * width**2  # three memory blocks
        total += pixels * 2 * growth * width**2
        frames *= growth
        total += rows * cols * 4 ** (level + 1) * frames * 2 * 9 * width * out
    return total + rows * cols * 64 * frames * 2 * 9 * 3 * c.decoder_widths[-1]


@dataclass(frozen=True)
class Cost:
    """GFLOP of a chunk of 12 video frames with a full window, all passes; MB of the package."""

    linear: float
    monarch: float
    dense: float
    decoder: float
    package_mb: float

    def seconds(self, monarch_tflops: float) -> float:
        attention = self.monarch / monarch_tflops
        return (self.linear / LINEAR_TFLOPS + attention + self.decoder / CONVOLUTION_TFLOPS) / 1000


def cost(config: Config) -> Cost:
    c, g = config.model.transformer, config.generation
    rows, cols = g.height // PIXELS_PER_LATENT, g.width // PIXELS_PER_LATENT
    grid = (rows // c.patch_size[1], cols // c.patch_size[2])
    tokens = CHUNK_FRAMES * grid[0] * grid[1]
    passes = len(g.steps) + 1
    # q, k, v, o; q and o of the text's attention; the feed-forward layers
    layer = 2.0 * tokens * ((4 + 2) * c.dim**2 + 2 * c.dim * c.ffn_dim)
    layer += 4.0 * tokens * c.text_len * c.dim  # attention to the text
    times = passes * c.num_layers
    window = (CHUNK_FRAMES, g.window_frames, *grid, c.dim)
    with torch.device("meta"):
        parts = (TextToVideo(config.model), Taehv(config.model.autoencoder))
    parameters = sum(x.numel() for part in parts for x in part.parameters())
    return Cost(
        linear=times * layer / 1e9,
        monarch=times * monarch_flop(*window) / 1e9,
        dense=times * dense_flop(*window) / 1e9,
        decoder=CHUNK_FRAMES * decoder_flop(config.model.autoencoder, rows, cols) / 1e9,
        package_mb=2 * parameters / 1e6,
    )


def variants(config: Config) -> list[tuple[str, Config]]:
    """The configuration and some neighbours."""

    def change(name: str, layers: int, ffn: int, window: int) -> tuple[str, Config]:
        transformer = dataclasses.replace(config.model.transformer, num_layers=layers, ffn_dim=ffn)
        model = dataclasses.replace(config.model, transformer=transformer)
        generation = dataclasses.replace(config.generation, window_frames=window)
        return name, dataclasses.replace(config, model=model, generation=generation)

    c, window = config.model.transformer, config.generation.window_frames
    return [
        ("as configured", config),
        change("window + 3", c.num_layers, c.ffn_dim, window + CHUNK_FRAMES),
        change("ffn x 3/4", c.num_layers, c.ffn_dim * 3 // 4, window),
        change("a third more layers", c.num_layers * 4 // 3, c.ffn_dim, window),
    ]


def table(config: Config) -> str:
    """A Markdown table of the variants."""
    c = config.model.transformer
    budget = FRAMES_PER_LATENT * CHUNK_FRAMES / VIDEO_FPS
    lines = [
        f"Width {c.dim}, {c.num_heads} heads; real time is {budget:.2f} s for a chunk.",
        "",
        "| | layers, ffn, window | Linears | Monarch | decoder | seconds | (dense) | package |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, variant in variants(config):
        sizes, x = variant.model.transformer, cost(variant)
        slow, fast = (x.seconds(speed) for speed in MONARCH_TFLOPS)
        lines.append(
            f"| {name} | {sizes.num_layers}, {sizes.ffn_dim}, {variant.generation.window_frames} "
            f"| {x.linear:.0f} | {x.monarch:.0f} | {x.decoder:.0f} | {fast:.2f} to {slow:.2f} "
            f"| {x.dense:.0f} | {x.package_mb:.1f} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, type=Path)
    print(table(load(parser.parse_args().config)))


if __name__ == "__main__":
    main()
