"""Clips that PyTorch makes, many at once: for a machine with a GPU.

The same model, prompts and files as those of the engine (clips.py); its noise is another.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from monarchrt_eval.clips import DENSITY, FREE
from monarchrt_eval.patterns import Grid, choose_radial, choose_window, keep_largest
from monarchrt_train.attention import Attention, dense, monarch
from monarchrt_train.config import CHUNK_FRAMES
from monarchrt_train.package import Model
from monarchrt_train.rollout import KvCache, draw_noise, generate, integrate
from monarchrt_train.taehv import FRAMES_PER_LATENT, PIXELS_PER_LATENT
from monarchrt_train.wan import WanTransformer


@cache
def _mask(method: str, grid: Grid, density: float, device: torch.device) -> Tensor:
    """bool [queries, keys] of tokens."""
    pattern = {"window": choose_window, "radial": choose_radial}[method](grid, density)
    return pattern.keeps(grid, torch.arange(grid.frames_q * grid.tokens)).to(device)


@dataclass(frozen=True)
class Sparse:
    """A baseline as the self-attention of a KvCache."""

    method: str  # topk, window, radial
    density: float

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, F, H, W, heads, d], k and v with more frames -> like q."""
        grid = Grid(q.shape[1], k.shape[1], *q.shape[2:4])
        queries, keys, values = (x.flatten(1, 3).transpose(1, 2) for x in (q, k, v))
        clips = zip(queries, keys, values, strict=True)  # one by one: the scores are large
        out = torch.stack([self._attend(*clip, grid) for clip in clips])
        return out.transpose(1, 2).reshape(q.shape)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
        """[heads, tokens, d]."""
        if self.method != "topk":
            keep = _mask(self.method, grid, self.density, q.device)
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        heads = []
        for query, key, value in zip(q, k, v, strict=True):
            scores = (query @ key.T).float() / q.shape[-1] ** 0.5
            keep = keep_largest(scores, self.density)
            heads.append(scores.masked_fill(~keep, -torch.inf).softmax(-1).to(v.dtype) @ value)
        return torch.stack(heads)


def attention(method: str, density: float = DENSITY):
    """The self-attention of that name."""
    known = {"dense": dense, "monarch": monarch}
    if method in FREE:
        tiles, iterations = FREE[method]
        return Attention("monarch", tuple(map(int, tiles.split(","))), iterations)
    return known[method] if method in known else Sparse(method, density)


@dataclass
class Sampler:
    """How latents are made."""

    model: Model
    device: torch.device
    seed: int
    batch: int = 8  # clips at once
    density: float = DENSITY
    # Of a model that is not distilled: the levels of an Euler integration, and guidance.
    euler_steps: int = 0
    guidance: float = 3.0
    grid_scale: int = 1  # 2: pictures of half the width and height
    dense_weights: Path | None = None  # for all methods but "monarch"; None: those of the package

    def __post_init__(self) -> None:
        self.model.video.to(self.device).eval()
        self.model.autoencoder.to(self.device).eval()
        self._transformer = self._free = self.model.video.transformer
        if self.dense_weights:
            self._free = copy.deepcopy(self._transformer)
            weights = load_file(self.dense_weights)
            self._free.load_state_dict({name: x.float() for name, x in weights.items()})

    def _noise(self, first: int, count: int, chunks: int):
        """Every clip has noise of its own seed, whatever the batch."""
        settings, channels = self.model.generation, self.model.config.transformer.in_dim
        rows, cols = (x // PIXELS_PER_LATENT for x in settings.size(self.grid_scale))
        shape = (1, CHUNK_FRAMES, channels, rows, cols)
        draws = []
        for clip in range(first, first + count):
            generator = torch.Generator(self.device).manual_seed(self.seed + clip)
            draws.append(draw_noise(shape, chunks, len(settings.steps), generator))
        noise = [torch.cat([d[0][c] for d in draws]) for c in range(chunks)]
        fresh = [
            [torch.cat([d[1][c][s] for d in draws]) for s in range(len(settings.steps) - 1)]
            for c in range(chunks)
        ]
        return noise, fresh

    def _encode(self, transformer: WanTransformer, texts: Sequence[str]) -> Tensor:
        ids, lengths = self.model.tokenizer.batch(texts, transformer.config.text_len)
        rows = self.model.video.text_encoder(ids.to(self.device), lengths.to(self.device))
        return transformer.encode_text(rows)

    @torch.no_grad()
    def _latents(self, method: str, texts: Sequence[str], first: int, chunks: int) -> Tensor:
        settings = self.model.generation
        transformer = self._transformer if method == "monarch" else self._free
        layers = self.model.config.transformer.num_layers
        attend = attention(method, self.density)
        past = KvCache(attend, layers, settings.window_frames)
        text = self._encode(transformer, texts)
        noise, fresh = self._noise(first, len(texts), chunks)
        if not self.euler_steps:
            made = generate(
                transformer,
                text,
                noise,
                fresh,
                past,
                steps=settings.steps,
                shift=settings.shift,
                grid_scale=self.grid_scale,
            )
            return torch.cat(made.latents, 1)
        empty = self._encode(transformer, [""] * len(texts))
        levels = torch.linspace(1, 0, self.euler_steps + 1, device=self.device)
        parts = integrate(
            transformer,
            torch.cat([text, empty]),
            noise,
            past,
            levels=levels,
            shift=settings.shift,
            guidance=self.guidance,
            grid_scale=self.grid_scale,
        )
        return torch.cat(parts, 1)

    @torch.no_grad()
    def clips(
        self, method: str, texts: Sequence[str], frames: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Index and frames uint8 [T, H, W, 3] of a clip for each text."""
        chunks = -(-((frames - 1) // FRAMES_PER_LATENT + 1) // CHUNK_FRAMES)
        for first in range(0, len(texts), self.batch):
            some = texts[first : first + self.batch]
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"
            ):
                latents = self._latents(method, some, first, chunks)
                for i, row in enumerate(latents, first):
                    video = self.model.autoencoder.decode(row[None])[0, :frames].float().clamp(0, 1)
                    pixels = (255 * video).round().to(torch.uint8).permute(0, 2, 3, 1)
                    yield i, pixels.contiguous().cpu().numpy()


def write(sampler: Sampler, method: str, texts: Sequence[str], frames: int, folder: Path) -> None:
    """The files that the engine would write, each there only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in sampler.clips(method, texts, frames):
        whole = folder / f"{i + 1:04d}.rgb"
        part = whole.with_suffix(".part")
        pixels.tofile(part)
        part.replace(whole)
