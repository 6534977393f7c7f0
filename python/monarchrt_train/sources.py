"""The world as a source of clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from monarchrt_train import world
from monarchrt_train.clips import Told
from monarchrt_train.world.scene import COLORS


def _told(scene: world.Scene, seed: int) -> Told:
    captions = []
    for chosen in range(1, 2 ** len(scene.things)):
        some = tuple(thing for n, thing in enumerate(scene.things) if chosen >> n & 1)
        captions.append(world.caption(dataclasses.replace(scene, things=some), seed).text)
    return Told(tuple(1 + COLORS.index(x.color) for x in scene.things), tuple(captions))


class World:
    """One split of the world. Seeds of different splits never give the same clip."""

    def __init__(self, split: str):
        self._split = split

    def _scenes(self, seeds: Sequence[int]) -> list[world.Scene]:
        return [world.sample_scene(seed, self._split) for seed in seeds]

    def captions(self, seeds: Sequence[int]) -> list[str]:
        scenes = self._scenes(seeds)
        return [world.caption(x, seed).text for x, seed in zip(scenes, seeds, strict=True)]

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
        return world.render(self._scenes(seeds), size, frames, str(device), first_frame)

    def labels(
        self,
        seeds: Sequence[int],
        frames: Sequence[float],
        size: tuple[int, int],
        device: torch.device,
    ) -> Tensor:
        return world.label_maps(self._scenes(seeds), size, frames, str(device))


def training_source() -> World:
    return World("train")


def validation_source() -> World:
    """Clips that are never trained on, of the same kind as the training's."""
    return World("val")
