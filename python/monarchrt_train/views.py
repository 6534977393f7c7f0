"""Parts of encoded clips: what a step of the flow's training shows of them.

A whole clip says how things move and where they are; but most of it is background, and attention
over it is most of the work. A picture (one frame) in a box around a thing has a tenth of the tokens
and a quarter of them show the thing. Attention depends on differences of positions only, so a box
is denoised as if it were a picture of its own size.

A part of a clip does not show all its things: its prompt tells of those that it shows. Where a
thing is cut, so that a prompt would be wrong with it and without it, there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from monarchrt_train.config import View
from monarchrt_train.world.scene import COLORS

PER_FRAME = ("latents", "labels")  # columns [B, F, channels, H, W]
ANYWHERE = 1e-6  # weight of a cell without a thing, where all those of a thing weigh 1
# The share of a thing in a view, of its cells in the same frames: from here on it is told of; with
# less there is no prompt; with still less it is not there.
TOLD, SEEN = 0.5, 0.05
MIDDLE = (0.3, 0.7)  # where in its box the chosen cell of a thing lies, as a share of the side


def view(rows: dict[str, Tensor], wanted: View, generator: torch.Generator) -> dict[str, Tensor]:
    """What `wanted` shows of the clips in `rows` (clips.LatentSource.rows). ValueError if that is
    more than there is."""
    frames, _, *whole = rows["latents"].shape[1:]
    if wanted.frames > frames or any(x > y for x, y in zip(wanted.box, whole, strict=False)):
        raise ValueError(
            f"got a view of {wanted.frames} frames and a box of {list(wanted.box)}, need at most "
            f"{frames} and {whole}"
        )
    if not wanted.frames and not wanted.box:
        return rows
    if wanted.frames:
        rows = _frames(rows, wanted.frames, generator)
    shown = _box(rows, wanted.box, generator) if wanted.box else rows
    return shown | _told(rows, shown["labels"])


def _told(rows: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """The prompts of the things that `labels` of a view show, of those in the frames of `rows`, and
    `share` [B, THINGS_MAX]: how much of each thing that is."""

    def cells(all_labels: Tensor) -> Tensor:
        """[B, things]: how many show each thing."""
        return torch.stack(
            [(all_labels[:, :, 1].flatten(1) == x[:, None]).sum(1) for x in rows["things"].T], 1
        )

    there = rows["things"] > 0
    share = cells(labels) / cells(rows["labels"]).clamp(min=1) * there
    told = share >= TOLD
    place = (told << torch.arange(told.shape[1], device=told.device)).sum(1)
    place = torch.where(((share > SEEN) & ~told).any(1), 0, place)
    clip = torch.arange(len(place), device=place.device)
    prompts = {name: rows[f"part_{name}"][clip, place] for name in ("ids", "lengths")}
    return prompts | {"share": share}


def _frames(rows: dict[str, Tensor], count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """One frame of each clip, any of them; or its first `count` frames.

    Not others: the first frame of a video has no past in the autoencoder and is nothing like a
    later one, and a model that sees no past must take its own for the first.
    """
    batch, frames = rows["latents"].shape[:2]
    device = generator.device
    places = frames if count == 1 else 1
    first = torch.randint(places, (batch, 1), generator=generator, device=device)
    at = first + torch.arange(count, device=device)
    clip = torch.arange(batch, device=device)[:, None]
    return rows | {name: rows[name][clip, at] for name in PER_FRAME if name in rows}


def _box(
    rows: dict[str, Tensor], size: tuple[int, int], generator: torch.Generator
) -> dict[str, Tensor]:
    """A box of each clip with a thing near its middle: any of them, in any frame."""
    colors = rows["labels"][:, :, 1].long()  # tells the things of a clip apart; 0: none
    batch, _, *whole = colors.shape
    cells = functional.one_hot(colors.flatten(1), 1 + len(COLORS)).sum(1)
    weight = torch.where(
        colors > 0, 1 / cells.gather(1, colors.flatten(1)).view_as(colors), ANYWHERE
    )
    cell = torch.multinomial(weight.flatten(1), 1, generator=generator) % (whole[0] * whole[1])
    chosen = (cell // whole[1], cell % whole[1])
    axes = []
    for at, side, end in zip(chosen, size, whole, strict=True):
        u = torch.rand((batch, 1), generator=generator, device=generator.device)
        before = side * (MIDDLE[0] + (MIDDLE[1] - MIDDLE[0]) * u)
        first = (at - before.long()).clamp(0, end - side)
        axes.append(first + torch.arange(side, device=generator.device))
    clip = torch.arange(batch, device=generator.device)[:, None, None]
    row, column = axes[0][:, :, None], axes[1][:, None, :]

    def cut(x: Tensor) -> Tensor:
        """[B, F, channels, H, W] -> [B, F, channels, rows, columns]."""
        return x[clip, :, :, row, column].permute(0, 3, 4, 1, 2)

    return rows | {name: cut(rows[name]) for name in PER_FRAME}
