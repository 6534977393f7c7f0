"""Clips that no prompt asks for, for a network that must tell good video from bad.

One that has only seen the world's own clips finds a red thing in two red things, in one that is red
in places, and in one that comes from nowhere: nothing ever told it that this is wrong.

    twice   two things have the same colour
    mixed   a thing has two colours, or two shapes, in stripes
    melted  its outline is between two shapes, or two directions of one: a cross of eight arms
    cut     from one frame to the next a thing is gone, or back, elsewhere, or of another shape
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from monarchrt_train.world.draw import Draw
from monarchrt_train.world.render import label_maps, render
from monarchrt_train.world.scene import (
    ASPECT,
    COLORS,
    SHAPES,
    Blend,
    Scene,
    Thing,
    held_out,
    sample_scene,
    valid,
)
from monarchrt_train.world.shapes import blended, distance

KINDS = {"twice": 0.3, "mixed": 0.2, "melted": 0.3, "cut": 0.2}
STAYING = ("bounce", "orbit", "swing", "spin", "still")  # motions that never leave the frame
CUT_FRAMES = (2, 32)  # between which a cut lies: within 9 latent frames
STRIPES = (0.15, 0.45)  # of a mixed thing: their period, in heights of the frame
JUMP = (0.2, 0.45)  # how far a thing jumps, in heights
BLENDED = (0.4, 0.6)  # of the other outline
ALIKE = 0.91  # a melted outline shares less of its area with either of those it is between
OUTLINE_CELLS = 64  # a side, of the grid it is measured on


@dataclass(frozen=True)
class Flawed:
    """A clip with a flaw: some of its pixels are another scene's."""

    kind: str
    colors: tuple[str, ...]  # of which there is not one thing as things are
    scene: Scene
    other: Scene | None = None
    cut_frame: int = 0  # from here on the other's
    # Or the other's where sin(pi (direction . place / half_period + phase)) is positive.
    direction: float = 0
    half_period: float = 0
    phase: float = 0

    def takes(self, frames: Sequence[float], size: tuple[int, int], device: str) -> Tensor:
        """Which pixels are the other's: bool [frames, height, width]."""
        if self.kind == "cut":
            later = torch.tensor(np.asarray(frames) >= self.cut_frame, device=device)
            return later[:, None, None].expand(-1, *size)
        y = (torch.arange(size[0], device=device) + 0.5)[:, None] / size[0]
        x = (torch.arange(size[1], device=device) + 0.5) * (ASPECT / size[1])
        along = x * np.cos(self.direction) + y * np.sin(self.direction)
        return (torch.sin(math.pi * (along / self.half_period + self.phase)) > 0).expand(
            len(frames), *size
        )


def sample_flawed(seed: int, split: str) -> Flawed | None:
    """The clip of this seed with a flaw; None if no flaw of the kind that was drawn fits it.

    Like those of its split, it has no held-out triple of colour, shape and motion.
    """
    draw = Draw("flaw", split, seed)
    ways = {"twice": _twice, "mixed": _mixed, "melted": _melted, "cut": _cut}
    make = ways[draw.weighted(KINDS)]
    return make(draw, seed, split)


def _put(scene: Scene, place: int, thing: Thing | None) -> Scene:
    """The scene with another thing at that place, or none."""
    before, after = scene.things[:place], scene.things[place + 1 :]
    return replace(scene, things=(*before, *([thing] if thing else []), *after))


def _usual(thing: Thing) -> bool:
    return valid(thing.shape, thing.motion) and not held_out(thing.color, thing.shape, thing.motion)


def _twice(draw: Draw, seed: int, split: str) -> Flawed | None:
    scene = sample_scene(seed, split, draw.pick((2, 2, 3)))
    first = draw.pick(scene.things)
    place = draw.pick([n for n, x in enumerate(scene.things) if x is not first])
    copy = replace(scene.things[place], color=first.color)
    if draw.chance(0.6) and _usual(replace(copy, shape=first.shape)):
        copy = replace(copy, shape=first.shape)
    if not _usual(copy):
        return None
    return Flawed("twice", (first.color,), _put(scene, place, copy))


def _mixed(draw: Draw, seed: int, split: str) -> Flawed | None:
    scene = sample_scene(seed, split)
    place = draw.pick(range(len(scene.things)))
    thing = scene.things[place]
    taken = {x.color for x in scene.things}
    painted = replace(thing, color=draw.pick([x for x in COLORS if x not in taken]))
    partly = draw.pick((painted, _reshaped(draw, thing)))
    if not _usual(partly):
        return None
    return Flawed(
        "mixed",
        (thing.color,) if partly.color == thing.color else (thing.color, partly.color),
        scene,
        _put(scene, place, partly),
        direction=draw.uniform(0, math.pi),
        half_period=draw.uniform(*STRIPES) / 2,
        phase=draw.uniform(0, 2),
    )


def _melted(draw: Draw, seed: int, split: str) -> Flawed | None:
    scene = sample_scene(seed, split)
    place = draw.pick(range(len(scene.things)))
    thing = scene.things[place]
    blend = Blend(draw.pick(SHAPES), draw.uniform(0, 2 * math.pi), draw.uniform(*BLENDED))
    if alike(thing.shape, blend) > ALIKE:
        return None
    melted = _put(scene, place, replace(thing, blend=blend))
    return Flawed("melted", (thing.color,), melted)


def alike(shape: str, blend: Blend) -> float:
    """How much of the area the blended outline shares with the shape's own or the other one,
    whichever is more like it: 1 where it is the same."""
    axis = torch.linspace(-2, 2, OUTLINE_CELLS)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = math.cos(blend.turn), math.sin(blend.turn)
    turned = (x * cos + y * sin, y * cos - x * sin)
    own = distance(shape, x, y)
    inside = blended(own, blend.shape, *turned, blend.share) < 0

    def shared(other: Tensor) -> float:
        return float((inside & other).sum() / (inside | other).sum())

    return max(shared(own < 0), shared(distance(blend.shape, *turned) < 0))


def _cut(draw: Draw, seed: int, split: str) -> Flawed | None:
    scene = sample_scene(seed, split)
    places = [n for n, x in enumerate(scene.things) if x.motion in STAYING]
    if not places:
        return None
    place = draw.pick(places)
    thing = scene.things[place]
    away = draw.uniform(*JUMP) * (1 if thing.x < ASPECT / 2 else -1)
    later = draw.pick((None, replace(thing, x=thing.x + away), _reshaped(draw, thing)))
    if later and not _usual(later):
        return None
    scenes = [scene, _put(scene, place, later)]
    if draw.chance(0.5) and scenes[1].things:  # a clip begins with a thing
        scenes.reverse()
    return Flawed("cut", (thing.color,), *scenes, cut_frame=int(draw.uniform(*CUT_FRAMES)))


def _reshaped(draw: Draw, thing: Thing) -> Thing:
    return replace(thing, shape=draw.pick([x for x in SHAPES if x != thing.shape]))


def _make(
    clips: Sequence[Scene | Flawed],
    frames: Sequence[float],
    make: Callable[[list[Scene]], Tensor],
) -> Tensor:
    """[clips, frames, channels, height, width]: what `make` makes of both scenes of each clip."""
    pixels = make([x.scene if isinstance(x, Flawed) else x for x in clips])
    of_two = [n for n, x in enumerate(clips) if isinstance(x, Flawed) and x.other]
    if not of_two:
        return pixels
    others = make([clips[n].other for n in of_two])
    size, device = tuple(pixels.shape[-2:]), str(pixels.device)
    takes = torch.stack([clips[n].takes(frames, size, device) for n in of_two])
    pixels[of_two] = torch.where(takes[:, :, None], others, pixels[of_two])
    return pixels


def render_flawed(
    clips: Sequence[Scene | Flawed],
    size: tuple[int, int],
    frames: int,
    device: str = "cpu",
    first_frame: int = 0,
) -> Tensor:
    """As `render`."""

    def make(scenes: list[Scene]) -> Tensor:
        return render(scenes, size, frames, device, first_frame)

    return _make(clips, range(first_frame, first_frame + frames), make)


def flawed_label_maps(
    clips: Sequence[Scene | Flawed],
    size: tuple[int, int],
    frames: Sequence[float],
    device: str = "cpu",
) -> Tensor:
    """As `label_maps`."""

    def make(scenes: list[Scene]) -> Tensor:
        return label_maps(scenes, size, frames, device)

    return _make(clips, frames, make)
