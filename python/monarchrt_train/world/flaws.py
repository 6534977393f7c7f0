"""Clips that no prompt asks for, for a network that must tell good video from bad.

One that has only seen the world's own clips finds a red thing in two red things, in one that is red
in places, and in one that comes from nowhere: nothing ever told it that this is wrong.

    twice   two things have the same colour
    mixed   a thing has two colours, or two shapes, in stripes
    melted  its outline is between two shapes, or two directions of one: a cross of eight arms
    cut     from one frame to the next a thing is gone, or back, elsewhere, of another shape, or
            further in its motion: once or several times
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

KINDS = {"twice": 0.25, "mixed": 0.15, "melted": 0.25, "cut": 0.35}
STAYING = ("bounce", "orbit", "swing", "spin", "still")  # motions that never leave the frame
CUT_FRAMES = range(2, 33)  # before one of which a cut lies: within 9 latent frames
CUTS = (1, 1, 3, 5, 7)
# How much further in its cycle a thing is. No outline looks the same after such a turn.
FURTHER = {"spin": (0.08, 0.13)}
FURTHER_ELSE = (0.2, 0.4)
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
    cut_frames: tuple[int, ...] = ()  # from each of them on the other's or, in turn, the first's
    # Or the other's where sin(pi (direction . place / half_period + phase)) is positive.
    direction: float = 0
    half_period: float = 0
    phase: float = 0

    def takes(self, frames: Sequence[float], size: tuple[int, int], device: str) -> Tensor:
        """Which pixels are the other's: bool [frames, height, width]."""
        if self.kind == "cut":
            cuts = np.searchsorted(self.cut_frames, np.asarray(frames), side="right")
            return torch.tensor(cuts % 2 == 1, device=device)[:, None, None].expand(-1, *size)
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
    scene = sample_scene(seed, split, motion=draw.pick(STAYING))
    thing = scene.things[0]
    away = draw.uniform(*JUMP) * (1 if thing.x < ASPECT / 2 else -1)
    moved, gone = replace(thing, x=thing.x + away), None
    changed = [gone, moved, _reshaped(draw, thing)]
    if thing.motion != "still":
        changed += 2 * [_further(draw, thing)]
    later = draw.pick(changed)
    if later and not _usual(later):
        return None
    scenes = [scene, _put(scene, 0, later)]
    if draw.chance(0.5) and scenes[1].things:  # a clip begins with a thing
        scenes.reverse()
    cuts = draw.some(CUT_FRAMES, draw.pick(CUTS))
    return Flawed("cut", (thing.color,), *scenes, cut_frames=tuple(sorted(cuts)))


def _further(draw: Draw, thing: Thing) -> Thing:
    """As the thing will be, or has been, a part of its cycle away."""
    part = draw.uniform(*FURTHER.get(thing.motion, FURTHER_ELSE))
    return replace(thing, phase=(thing.phase + draw.pick((-1, 1)) * part) % 1.0)


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
