"""A helper of the flow's training: the tokens half way should know which thing is where.

A small network reads them after a block and tells of every token what its middle shows: shape,
colour and motion of a thing, or none. So the first blocks learn early to find things in noise and
in the prompt; the velocity alone says little of a shape, which changes few pixels. In the spirit of
REPA (Yu et al. 2024), with the labels of the world in place of a pretrained encoder. It is thrown
away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from monarchrt_train.world.scene import COLORS, MOTIONS, SHAPES

CLASSES = (1 + len(SHAPES), 1 + len(COLORS), 1 + len(MOTIONS))  # in the order of label_maps
THING_WEIGHT = 8.0  # of a token that shows a thing; about one of fifteen does


def cells_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Of what is said of every cell: logits [B, F, H, W, sum(CLASSES)] (or [B, F, H * W, ...]),
    labels uint8 [B, F, 3, H, W] -> [B]."""
    wanted = labels.long().unbind(2)
    each = sum(
        functional.cross_entropy(x.flatten(0, -2), y.flatten(), reduction="none")
        for x, y in zip(logits.float().split(CLASSES, -1), wanted, strict=True)
    ).view(wanted[0].shape)
    weight = torch.where(wanted[0] > 0, THING_WEIGHT, 1.0)
    return (each * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


class PlaceProbe(nn.Module):
    """Reads what a block has put out in its last forward pass."""

    def __init__(self, dim: int):
        super().__init__()
        self.read = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, sum(CLASSES))
        )
        self._tokens: list[Tensor] = []

    def watch(self, block: nn.Module) -> None:
        block.register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, inputs: tuple, tokens: Tensor) -> None:
        self._tokens = [tokens]

    def loss(self, labels: Tensor) -> Tensor:
        """labels: of the last frames, uint8 [B, F, 3, H, W] -> [B]."""
        tokens = self._tokens.pop()[:, -labels.shape[1] :]
        return cells_loss(self.read(tokens), labels)
