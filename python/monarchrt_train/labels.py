"""What captions say and clips show, as numbers that a network can learn to tell.

Attributes of things come in rows with a place for each colour, because no two things of a clip have
the same: so it is clear whose they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monarchrt_train.world import scene as world

OF_A_THING = {
    "shape": world.SHAPES,
    "size": tuple(world.SIZES),
    "motion": world.MOTIONS,
    "direction": ("left", "right", "clockwise", "counterclockwise"),
    "speed": world.SPEEDS,
}
OF_A_WORD = {"color": world.COLORS, **OF_A_THING}
OF_THE_SCENE = {
    "background": world.BACKGROUNDS,
    "camera": tuple(world.CAMERAS),
    "count": tuple(world.COUNTS),
}
ABSENT = -100  # no thing of that colour, a word of no thing: nothing to say
# Values of `there`. A flaw: what has the colour is not one thing as things are (world.flaws). One
# in time does not show in every frame.
NO, YES, FLAW, FLAW_IN_TIME = range(4)
Mentions = dict  # the form of world.labels


def number(values: tuple, said: object) -> int:
    """The place of what was said, after the last one if nothing was."""
    return values.index(said) if said in values else len(values)


def targets(mentions: list[Mentions]) -> dict[str, Tensor]:
    """int64 [B, colours] of each attribute of a thing and of `there`, [B] of the scene's.

    `flaws` in mentions: colours, each with its value of `there`.
    """
    out: dict[str, list] = {name: [] for name in ("there", *OF_A_THING, *OF_THE_SCENE)}
    for m in mentions:
        things = {x["color"]: x for x in m["objects"] if "color" in x}
        there = {**dict.fromkeys(things, YES), **m.get("flaws", {})}
        out["there"].append([there.get(color, NO) for color in world.COLORS])
        for name, values in OF_A_THING.items():
            out[name].append(
                [
                    number(values, things[color].get(name)) if color in things else ABSENT
                    for color in world.COLORS
                ]
            )
        for name, values in OF_THE_SCENE.items():
            out[name].append(number(values, m.get(name)))
    return {name: torch.tensor(rows) for name, rows in out.items()}


def asked(mentions: list[Mentions]) -> dict[str, Tensor]:
    """`targets` without the answer "not said": what a video must show to be of such a prompt.

    Where a prompt leaves out the colour of a thing, no colour need be missing.
    """
    out = targets(mentions)
    for name, values in {**OF_A_THING, **OF_THE_SCENE}.items():
        out[name][out[name] == len(values)] = ABSENT
    colorless = torch.tensor([any("color" not in x for x in m["objects"]) for m in mentions])
    out["there"][colorless[:, None] & (out["there"] == NO)] = ABSENT
    return out
