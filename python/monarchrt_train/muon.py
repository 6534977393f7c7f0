"""Muon (Jordan et al. 2024), the matrices of one shape at a time.

The step of a matrix is its momentum with all singular values made alike, as large as a step of
AdamW (Liu et al. 2025, "Muon is scalable": 0.2 sqrt(max(rows, columns))). torch.optim.Muon does the
same for one matrix after another: some 30 operations for each of 60 matrices, which takes longer to
launch than a GPU takes to compute them. Here it is 30 operations for each shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
STEPS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, by Jordan: steep at zero
EPS = 1e-7


def alike(x: Tensor) -> Tensor:
    """U V^T of every matrix U S V^T of x [n, rows, columns], nearly: what stands for S is between
    0.5 and 1.5. In bfloat16 on a GPU."""
    a, b, c = QUINTIC
    tall = x.shape[1] > x.shape[2]
    y = x.to(torch.bfloat16 if x.is_cuda else x.dtype)
    y = y.mT if tall else y
    y = y / y.flatten(1).norm(dim=1).clamp(min=EPS)[:, None, None]
    for _ in range(STEPS):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.mT if tall else y


class Muon(torch.optim.Optimizer):
    """Of matrices; `momentum_buffer` is its state, as in torch.optim.Muon."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for x in group["params"]:
                if x.grad is not None:
                    shapes[x.shape].append(x)
            for same in shapes.values():
                self._step(same, group["lr"], group["weight_decay"])

    def _step(self, same: list[Tensor], lr: float, weight_decay: float) -> None:
        for x in same:
            if not self.state[x]:
                self.state[x]["momentum_buffer"] = torch.zeros_like(x)
        momenta = [self.state[x]["momentum_buffer"] for x in same]
        gradients = [x.grad for x in same]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
        size = lr * 0.2 * max(same[0].shape) ** 0.5
        steps = (size * alike(torch.stack(ahead))).to(same[0].dtype)
        torch._foreach_mul_(same, 1 - lr * weight_decay)
        torch._foreach_sub_(same, list(steps))
