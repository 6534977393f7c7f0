"""The world as a source of clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from monarchrt_train import world
from monarchrt_train.clips import Told
from monarchrt_train.labels import FLAW, FLAW_IN_TIME, Mentions
from monarchrt_train.world.draw import Draw
from monarchrt_train.world.scene import COLORS


def _told(scene: world.Scene, seed: int) -> Told:
    told = []
    for chosen in range(1, 2 ** len(scene.things)):
        some = tuple(thing for n, thing in enumerate(scene.things) if chosen >> n & 1)
        told.append(world.caption(dataclasses.replace(scene, things=some), seed))
    return Told(
        tuple(1 + COLORS.index(x.color) for x in scene.things),
        tuple(x.text for x in told),
        tuple(x.mentions for x in told),
    )


class World:
    """One split of the world. Seeds of different splits never give the same clip.

    counts: numbers of things, in turn; motions: of the first thing, in turn, "" for any. Empty: as
    the world has them.
    """

    def __init__(self, split: str, counts: Sequence[int] = (), motions: Sequence[str] = ()):
        self._split, self._counts, self._motions = split, counts, motions

    def _scene(self, seed: int) -> world.Scene:
        count, motion = world.in_turn(self._counts, seed), world.in_turn(self._motions, seed)
        return world.sample_scene(seed, self._split, count, motion or None)

    def _clips(self, seeds: Sequence[int]) -> list[world.Scene | world.Flawed]:
        return [self._scene(n) for n in seeds]

    def _scenes(self, seeds: Sequence[int]) -> list[world.Scene]:
        return [x.scene if isinstance(x, world.Flawed) else x for x in self._clips(seeds)]

    def _captions(self, seeds: Sequence[int]) -> list[world.Caption]:
        return [world.caption(x, n) for x, n in zip(self._scenes(seeds), seeds, strict=True)]

    def captions(self, seeds: Sequence[int]) -> list[str]:
        return [x.text for x in self._captions(seeds)]

    def mentions(self, seeds: Sequence[int]) -> list[Mentions]:
        return [x.mentions for x in self._captions(seeds)]

    def shown(self, seeds: Sequence[int]) -> list[Mentions]:
        return [_shown(x) for x in self._clips(seeds)]

    def partly(self, seeds: Sequence[int]) -> list[Told]:
        return [_told(scene, seed) for scene, seed in zip(self._scenes(seeds), seeds, strict=True)]

    def clips(
        self,
        seeds: Sequence[int],
        frames: int,
        size: tuple[int, int],
        device: torch.device,
        first_frame: int = 0,
    ) -> Tensor:
        return world.render_flawed(self._clips(seeds), size, frames, str(device), first_frame)

    def labels(
        self,
        seeds: Sequence[int],
        frames: Sequence[float],
        size: tuple[int, int],
        device: torch.device,
    ) -> Tensor:
        return world.flawed_label_maps(self._clips(seeds), size, frames, str(device))


class FlawedWorld(World):
    """The world with flaws in a share of its clips, which `shown` tells of."""

    def __init__(self, split: str, share: float):
        super().__init__(split)
        self._share = share

    def _clips(self, seeds: Sequence[int]) -> list[world.Scene | world.Flawed]:
        def flawed(seed: int) -> world.Flawed | None:
            wanted = Draw("flawed", self._split, seed).chance(self._share)
            return world.sample_flawed(seed, self._split) if wanted else None

        return [flawed(seed) or self._scene(seed) for seed in seeds]


def _shown(clip: world.Scene | world.Flawed) -> Mentions:
    """Of a thing with a flaw only that."""
    if not isinstance(clip, world.Flawed):
        return world.labels(clip)
    all_of_it = world.labels(clip.scene)
    things = [x for x in all_of_it["objects"] if x["color"] not in clip.colors]
    if clip.kind == "cut":  # a thing that comes or goes: how many are there?
        del all_of_it["count"]
    value = FLAW_IN_TIME if clip.kind == "cut" else FLAW
    return {**all_of_it, "objects": things, "flaws": dict.fromkeys(clip.colors, value)}


def training_source(counts: Sequence[int] = (), motions: Sequence[str] = ()) -> World:
    return World("train", counts, motions)


def validation_source() -> World:
    """Clips that are never trained on, of the same kind as the training's."""
    return World("val")
