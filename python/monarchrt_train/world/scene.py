"""What a clip shows: every labelled attribute, and how scenes are drawn.

Units: the height of the frame is 1, x runs from 0 to ASPECT, y from 0 (top) to 1 (bottom);
times are in seconds, angles in radians, clockwise on the screen.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from monarchrt_train.world.draw import Draw

T = TypeVar("T")

ASPECT = 416 / 240
FRAMES_PER_S = 16
FLOOR_Y = 0.80  # where the wall ends
GROUND_Y = 0.90  # where things stand, bounce and roll

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("ball", "square", "triangle", "star", "heart", "ring", "cross", "moon")
# Radius of the circle with the same area: shapes of one size cover the same area.
SIZES = {"small": 0.095, "medium": 0.14, "large": 0.20}
BACKGROUNDS = ("brick", "wood", "sky", "night", "hills", "dots", "stripes", "checker")
MOTIONS = ("bounce", "roll", "fall", "float", "orbit", "swing", "spin", "zigzag", "still")
SPEEDS = ("slow", "fast")
CAMERAS = {"still": 0.6, "pan": 0.2, "zoom": 0.2}
COUNTS = {1: 0.7, 2: 0.2, 3: 0.1}
DIRECTIONS = {
    "roll": ("left", "right"),
    "zigzag": ("left", "right"),
    "orbit": ("clockwise", "counterclockwise"),
    "spin": ("clockwise", "counterclockwise"),
}
# They stay in a column of their own; the others cross the frame, so they come alone.
COLUMN_MOTIONS = ("bounce", "fall", "float", "orbit", "swing", "spin", "still")
# Nobody sees a ball or a ring spin in place by its outline.
SPINNING_SHAPES = ("square", "triangle", "star", "heart", "cross", "moon")

SPLITS = ("train", "val", "held_out")
HELD_OUT_PERCENT = 10
COLUMN_DISTANCE = {1: 0.0, 2: 0.80, 3: 0.56}
REACH = {1: 0.24, 2: 0.15, 3: 0.11}  # of an orbit (its radius) and a swing (to each side)


@dataclass(frozen=True)
class Blend:
    """Another outline that a thing's own one is blended with: no clip of the world has that."""

    shape: str
    turn: float  # further than the thing
    share: float  # 0..1


@dataclass(frozen=True)
class Thing:
    """One object. `direction` and `speed` are None where the motion has none."""

    color: str
    shape: str
    size: str
    motion: str
    direction: str | None
    speed: str | None
    x: float  # centre of its column
    phase: float  # 0..1, where in its cycle it starts
    reach: float  # radius of an orbit, half width of a swing
    blend: Blend | None = None


@dataclass(frozen=True)
class Scene:
    """One clip, without its length and its size in pixels."""

    seed: int
    split: str
    things: tuple[Thing, ...]
    background: str
    variant: tuple[float, float, float]  # 0..1 each: shift, tone and pattern of the background
    camera: str
    camera_phase: float  # 0..1


def valid(shape: str, motion: str) -> bool:
    """Whether this shape may move so."""
    return motion != "spin" or shape in SPINNING_SHAPES


def held_out(color: str, shape: str, motion: str) -> bool:
    """Whether this triple is kept out of training, decided by a hash of its name alone."""
    return zlib.crc32(f"{color} {shape} {motion}".encode()) % 100 < HELD_OUT_PERCENT


def labels(scene: Scene) -> dict:
    """All labels, in the form of `Caption.mentions` and of what the checker observes."""
    names = ("color", "shape", "size", "motion", "direction", "speed")
    things = [{n: getattr(t, n) for n in names if getattr(t, n) is not None} for t in scene.things]
    return {
        "count": len(things),
        "objects": things,
        "background": scene.background,
        "camera": scene.camera,
    }


def sample_scene(
    seed: int, split: str = "train", count: int | None = None, motion: str | None = None
) -> Scene:
    """The scene of this seed; the splits draw from streams of their own.

    "train" and "val" hold no held-out triple of colour, shape and motion, "held_out" nothing else.
    `count` fixes the number of objects, `motion` that of the first one if it may move so beside
    the others.
    """
    if split not in SPLITS:
        raise ValueError(f"[sample_scene] split is {split!r}, need one of {SPLITS}")
    if count is not None and count not in COUNTS:
        raise ValueError(f"[sample_scene] count is {count}, need one of {tuple(COUNTS)}")
    if motion is not None and motion not in MOTIONS:
        raise ValueError(f"[sample_scene] motion is {motion!r}, need one of {MOTIONS}")
    draw = Draw("scene", split, seed)
    drawn_count = draw.weighted(COUNTS)
    count = drawn_count if count is None else count
    things: list[Thing] = []
    for column in range(count):
        taken = {t.color for t in things}
        wanted = motion if column == 0 else None
        things.append(_sample_thing(draw, split == "held_out", count, column, taken, wanted))
    return Scene(
        seed=seed,
        split=split,
        things=tuple(things),
        background=draw.pick(BACKGROUNDS),
        variant=(draw.uniform(), draw.uniform(), draw.uniform()),
        camera=draw.weighted(CAMERAS),
        camera_phase=draw.uniform(),
    )


def in_turn(values: Sequence[T], seed: int) -> T | None:
    """That of this seed, if each of `values` has its turn; None of none."""
    return values[seed % len(values)] if values else None


def _sample_thing(
    draw: Draw, want_held_out: bool, count: int, column: int, taken: set, wanted: str | None
) -> Thing:
    motions = MOTIONS if count == 1 else COLUMN_MOTIONS
    while True:
        color, shape = draw.pick(COLORS), draw.pick(SHAPES)
        motion = draw.pick((wanted,) if wanted in motions else motions)
        if color in taken or not valid(shape, motion):
            continue
        if held_out(color, shape, motion) == want_held_out:
            break
    wide = motion in ("orbit", "swing")
    sizes = list(SIZES)[: 3 - (count - 1 if wide else count == 3)]  # so that none overlap
    jitter = 0.25 if count == 1 else 0.02
    return Thing(
        color=color,
        shape=shape,
        size=draw.pick(sizes),
        motion=motion,
        direction=draw.pick(DIRECTIONS[motion]) if motion in DIRECTIONS else None,
        speed=None if motion == "still" else draw.pick(SPEEDS),
        x=ASPECT / 2
        + (column - (count - 1) / 2) * COLUMN_DISTANCE[count]
        + draw.uniform(-jitter, jitter),
        phase=draw.uniform(),
        reach=REACH[count],
    )
