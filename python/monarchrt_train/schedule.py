"""The noise schedule of training and of the few-step sampler (src/pipeline/sampler.h).

x = (1 - sigma) clean + sigma noise      velocity = noise - clean      timestep = 1000 sigma
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TABLE_SIZE = 1000


def warp(u: Tensor, shift: float) -> Tensor:
    """An even share of noise 0..1 to the sigma that the timestep shift makes of it."""
    return shift * u / (1 + (shift - 1) * u)


def sampler_sigmas(steps: Sequence[int], shift: float) -> Tensor:
    """The sigma of each denoising step, float64. Step s is entry 1000 - s of the table."""
    u = torch.tensor([step / TABLE_SIZE for step in steps], dtype=torch.float64)
    if len(u) == 0 or (u <= 0).any() or (u > 1).any() or (u.diff() >= 0).any():
        raise ValueError(f"got steps {list(steps)}, need decreasing numbers from 1000 to 1")
    return warp(u, shift)


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """clean, noise [B, F, ...]; sigma broadcastable to [B, F]."""
    sigma = sigma.reshape(*sigma.shape, *(1,) * (clean.dim() - sigma.dim()))
    return (1 - sigma) * clean + sigma * noise


def to_clean(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    sigma = sigma.reshape(*sigma.shape, *(1,) * (noisy.dim() - sigma.dim()))
    return noisy - sigma * velocity
