"""Scenes: splits, validity, labels, distribution."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from monarchrt_train.world import held_out, labels, sample_scene, valid
from monarchrt_train.world.motion import thing_track
from monarchrt_train.world.scene import (
    BACKGROUNDS,
    COLORS,
    COLUMN_MOTIONS,
    GROUND_Y,
    MOTIONS,
    SHAPES,
    SIZES,
    Thing,
)
from monarchrt_train.world.shapes import geometry

TIMES_S = np.arange(0, 6, 1 / 64)


def triples(split: str, clips: int) -> set[tuple[str, str, str]]:
    scenes = (sample_scene(seed, split) for seed in range(clips))
    return {(t.color, t.shape, t.motion) for s in scenes for t in s.things}


def test_held_out_triples_are_a_tenth_and_never_in_training():
    every = {(c, s, m) for c in COLORS for s in SHAPES for m in MOTIONS if valid(s, m)}
    out = {triple for triple in every if held_out(*triple)}
    assert 0.07 * len(every) < len(out) < 0.13 * len(every)
    assert triples("held_out", 500) <= out
    for split in ("train", "val"):
        drawn = triples(split, 3000)
        assert not drawn & out
        assert len(drawn) > 0.95 * (len(every) - len(out))


def test_every_value_of_a_held_out_triple_is_learnt_elsewhere():
    rest = Counter(
        name
        for c in COLORS
        for s in SHAPES
        for m in MOTIONS
        if valid(s, m) and not held_out(c, s, m)
        for name in ((c, s), (c, m), (s, m))
    )
    for c in COLORS:
        for s in SHAPES:
            assert rest[c, s] >= 4
            for m in MOTIONS:
                assert rest[c, m] >= 4
                assert rest[s, m] >= (4 if valid(s, m) else 0)


def test_a_seed_is_one_scene_and_splits_differ():
    assert sample_scene(5) == sample_scene(5)
    assert sample_scene(5) != sample_scene(6)
    assert sample_scene(5, "train").things != sample_scene(5, "val").things


def test_the_distribution_is_as_stated():
    scenes = [sample_scene(seed) for seed in range(3000)]
    counts = Counter(len(s.things) for s in scenes)
    assert abs(counts[1] / 3000 - 0.7) < 0.03
    assert abs(counts[2] / 3000 - 0.2) < 0.03
    backgrounds = Counter(s.background for s in scenes)
    assert set(backgrounds) == set(BACKGROUNDS)
    assert min(backgrounds.values()) > 0.8 * 3000 / len(BACKGROUNDS)
    assert {len(sample_scene(seed, count=3).things) for seed in range(20)} == {3}


def test_the_first_thing_has_the_wanted_motion_where_it_can():
    for seed in range(60):
        motion = MOTIONS[seed % len(MOTIONS)]
        scene = sample_scene(seed, motion=motion)
        if len(scene.things) == 1 or motion in COLUMN_MOTIONS:
            assert scene.things[0].motion == motion
        else:
            assert {t.motion for t in scene.things} <= set(COLUMN_MOTIONS)
        assert sample_scene(seed, count=1, motion=motion).things[0].motion == motion
        assert not any(held_out(t.color, t.shape, t.motion) for t in scene.things)
        assert all(valid(t.shape, t.motion) for t in scene.things)


def test_several_things_have_colours_and_columns_of_their_own():
    for seed in range(200):
        things = sample_scene(seed, count=3).things
        assert len({t.color for t in things}) == 3
        assert {t.motion for t in things} <= set(COLUMN_MOTIONS)
        for left, right in pairwise(things):
            tracks = [thing_track(t, "still", TIMES_S) for t in (left, right)]
            apart = np.hypot(tracks[0].x - tracks[1].x, tracks[0].y - tracks[1].y).min()
            # Centroids this far apart: outlines do not cover each other's middle.
            assert apart > SIZES[left.size] + SIZES[right.size]


def test_labels_leave_out_what_a_motion_does_not_have():
    for seed in range(200):
        scene = sample_scene(seed)
        seen = labels(scene)
        assert seen["count"] == len(seen["objects"])
        for thing, label in zip(scene.things, seen["objects"], strict=True):
            assert label["motion"] == thing.motion
            assert ("speed" in label) == (thing.motion != "still")
            assert ("direction" in label) == (thing.motion in ("roll", "zigzag", "orbit", "spin"))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="split is 'test', need"):
        sample_scene(1, "test")
    with pytest.raises(ValueError, match="count is 4, need"):
        sample_scene(1, count=4)
    with pytest.raises(ValueError, match="motion is 'hop', need"):
        sample_scene(1, motion="hop")


def thing(motion: str, direction: str | None = None, shape: str = "star", speed="slow") -> Thing:
    return Thing("red", shape, "medium", motion, direction, speed, 0.8, 0.3, 0.2)


@pytest.mark.parametrize(("speed", "low", "high"), [("slow", 0.1, 0.3), ("fast", 0.4, 0.7)])
def test_motions_go_the_way_they_are_called(speed, low, high):
    for motion, axis, sign in (("fall", "y", 1), ("float", "y", -1)):
        step = np.diff(getattr(thing_track(thing(motion, speed=speed), "still", TIMES_S), axis))
        rate = np.median(step) * 64 * sign
        assert low < rate < high
    for motion in ("roll", "zigzag"):
        for direction, sign in (("left", -1), ("right", 1)):
            track = thing_track(thing(motion, direction, speed=speed), "still", TIMES_S)
            assert low < np.median(np.diff(track.x)) * 64 * sign < high
    for direction, sign in (("counterclockwise", -1), ("clockwise", 1)):
        spin = thing_track(thing("spin", direction, speed=speed), "still", TIMES_S)
        assert np.all(np.diff(spin.angle) * sign > 0)
        orbit = thing_track(thing("orbit", direction, speed=speed), "still", TIMES_S)
        x, y = orbit.x - 0.8, orbit.y - orbit.y.mean()
        assert np.all((x[:-1] * y[1:] - x[1:] * y[:-1]) * sign > 0)  # y points down


@pytest.mark.parametrize("shape", SHAPES)
def test_rolling_things_touch_the_ground_and_do_not_slip(shape):
    track = thing_track(thing("roll", "right", shape), "still", TIMES_S)
    lowest = track.y + SIZES["medium"] * geometry(shape).below(track.angle)
    assert np.allclose(lowest, GROUND_Y)
    inside = np.abs(np.diff(track.x)) < 0.1
    turned, moved = np.diff(track.angle)[inside], np.diff(track.x)[inside]
    assert np.allclose(turned * SIZES["medium"], moved)
