"""The generation loop of the engine: chunk by chunk, few steps each, with a KV cache."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from monarchrt_train.attention import Attention
from monarchrt_train.schedule import add_noise, sampler_sigmas, to_clean, warp
from monarchrt_train.wan import WanTransformer


class KvCache:
    """Keys and values of past frames, and a pattern that attends to them.

    Keeps `window` frames, the current chunk's included, of which the first `sink` stay.
    """

    def __init__(self, attention: Attention, layers: int, window: int = -1, sink: int = 0):
        self.attention, self.window, self.sink = attention, window, sink
        self.frames_seen = 0
        self._past: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._current: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        past = self._past[layer]
        if past is not None:
            k, v = (self._visible(old, new) for old, new in zip(past, (k, v), strict=True))
        self._current[layer] = (k, v)
        return self.attention(q, k, v)

    def _visible(self, past: Tensor, new: Tensor) -> Tensor:
        evicted = past.shape[1] + new.shape[1] - self.window
        if self.window >= 0 and evicted > 0:
            past = torch.cat([past[:, : self.sink], past[:, self.sink + evicted :]], 1)
        return torch.cat([past, new], 1)

    def keep_chunk(self, frames: int) -> None:
        """What the last forward pass saw is now the past."""
        self._past = list(self._current)
        self.frames_seen += frames


@dataclass
class Rollout:
    """What a generation passed through; lists have one entry for each chunk."""

    latents: list[Tensor] = field(default_factory=list)  # [B, chunk, C, h, w], clean
    # Of each denoising step: its noisy input, and what was taken to be clean in it.
    inputs: list[list[Tensor]] = field(default_factory=list)
    answers: list[list[Tensor]] = field(default_factory=list)
    first_velocity: Tensor | None = None


@torch.no_grad()
def generate(
    model: WanTransformer,
    text: Tensor,
    noise: Sequence[Tensor],
    renoise: Sequence[Sequence[Tensor]],
    cache: KvCache,
    *,
    steps: Sequence[int],
    shift: float,
    grid_scale: int = 1,
) -> Rollout:
    """Generates len(noise) chunks.

    text is encode_text's. noise[n] [B, frames, C, h, w] starts chunk n, renoise[n][s] enters
    before step s + 1.
    """
    rollout = Rollout()
    sigmas = sampler_sigmas(steps, shift).to(noise[0].device, noise[0].dtype)
    for start, fresh in zip(noise, renoise, strict=True):
        x, clean = start, start
        count = start.shape[1]
        frames = torch.arange(count, device=x.device) + cache.frames_seen
        inputs, answers = [], []
        for step, sigma in enumerate(sigmas):
            if step > 0:
                x = add_noise(clean, fresh[step - 1], sigma)
            inputs.append(x)
            times = (1000 * sigma).expand(x.shape[:2])
            velocity = model(x, times, text, frames, cache, grid_scale=grid_scale)
            if rollout.first_velocity is None:
                rollout.first_velocity = velocity
            clean = to_clean(x, velocity.to(x.dtype), sigma)
            answers.append(clean)
        zero = torch.zeros(x.shape[:2], device=x.device, dtype=x.dtype)
        model(clean, zero, text, frames, cache, grid_scale=grid_scale)
        cache.keep_chunk(count)
        rollout.latents.append(clean)
        rollout.inputs.append(inputs)
        rollout.answers.append(answers)
    return rollout


@torch.no_grad()
def integrate(
    model: WanTransformer,
    text: Tensor,
    noise: Sequence[Tensor],
    cache: KvCache,
    *,
    levels: Tensor,
    shift: float,
    guidance: float,
    grid_scale: int = 1,
) -> list[Tensor]:
    """The chunks of a model that is not distilled, by Euler's method on its velocity.

    text: of the prompts, then of as many empty ones; levels: even shares of noise, from 1 to 0;
    noise[n] [B, frames, C, h, w]. -> clean latents of each chunk.
    """
    sigmas = warp(levels, shift)
    parts = []
    for start in noise:
        x, count = start, start.shape[1]
        frames = torch.arange(count, device=x.device) + cache.frames_seen
        for sigma, following in itertools.pairwise(sigmas):
            both = torch.cat([x, x])
            times = (1000 * sigma).expand(both.shape[:2])
            velocity = model(both, times, text, frames, cache, grid_scale=grid_scale)
            told, untold = velocity.chunk(2)
            x = x + (following - sigma) * (untold + guidance * (told - untold))
        both = torch.cat([x, x])
        zero = torch.zeros(both.shape[:2], device=x.device)
        model(both, zero, text, frames, cache, grid_scale=grid_scale)
        cache.keep_chunk(count)
        parts.append(x)
    return parts


def draw_noise(
    shape: tuple[int, ...], chunks: int, steps: int, generator: torch.Generator
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Noise for `generate`: of all chunks of `shape`, and between their steps."""

    def draw() -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device)

    return [draw() for _ in range(chunks)], [
        [draw() for _ in range(steps - 1)] for _ in range(chunks)
    ]
