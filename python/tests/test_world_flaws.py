"""Clips with flaws: what each kind shows, and what is told of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch

from monarchrt_train.labels import FLAW, FLAW_IN_TIME, NO, YES, asked
from monarchrt_train.sources import FlawedWorld, training_source
from monarchrt_train.world import Flawed, held_out, label_maps, render, sample_flawed, valid
from monarchrt_train.world.flaws import ALIKE, KINDS, alike, flawed_label_maps, render_flawed
from monarchrt_train.world.scene import COLORS, Blend, Thing

SIZE, FRAMES = (48, 84), 33
DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def flawed() -> list[Flawed]:
    return [x for x in (sample_flawed(seed, "train") for seed in range(300)) if x]


def of_kind(flawed: list[Flawed], kind: str, count: int = 12) -> list[Flawed]:
    return [x for x in flawed if x.kind == kind][:count]


def test_most_seeds_have_one_always_the_same(flawed: list[Flawed]) -> None:
    assert len(flawed) > 200
    for kind, share in KINDS.items():
        got = sum(x.kind == kind for x in flawed) / len(flawed)
        assert abs(got - share) < 0.12, kind
    assert flawed[:20] == [x for x in (sample_flawed(n, "train") for n in range(40)) if x][:20]
    assert sample_flawed(3, "val") != sample_flawed(3, "train")


def test_no_held_out_triple_is_shown(flawed: list[Flawed]) -> None:
    for x in flawed:
        for scene in (x.scene, x.other):
            for thing in scene.things if scene else ():
                assert not held_out(thing.color, thing.shape, thing.motion), x
                assert valid(thing.shape, thing.motion), x
        assert x.scene.things, x


def test_twice_has_two_things_of_a_colour(flawed: list[Flawed]) -> None:
    for x in of_kind(flawed, "twice", 100):
        colors = [thing.color for thing in x.scene.things]
        assert [c for c in set(colors) if colors.count(c) > 1] == list(x.colors)
        assert colors.count(x.colors[0]) == 2


def test_mixed_shows_both_where_the_thing_is(flawed: list[Flawed]) -> None:
    clips = of_kind(flawed, "mixed", 24)
    maps = flawed_label_maps(clips, SIZE, range(FRAMES))
    scenes = label_maps([x.scene for x in clips], SIZE, range(FRAMES))
    others = label_maps([x.other for x in clips], SIZE, range(FRAMES))
    kinds = set()
    for x, got, one, other in zip(clips, maps, scenes, others, strict=True):
        differ = (one != other).any(1)  # where it matters whose pixels are taken
        assert differ.any()
        of_one, of_other = ((got == y).all(1) for y in (one, other))
        assert (of_one | of_other).all()
        for taken in (of_one, of_other):
            assert (taken & differ).sum() > 0.1 * differ.sum(), x
        assert (of_one & of_other)[~differ].all()
        (a, b) = (next(t for t in s.things if t.color in x.colors) for s in (x.scene, x.other))
        assert x.colors == tuple(dict.fromkeys((a.color, b.color)))
        assert (a.color == b.color) != (a.shape == b.shape)
        kinds.add(len(x.colors))
    assert kinds == {1, 2}


def test_melted_is_like_no_shape(flawed: list[Flawed]) -> None:
    """Painted large and straight on, it is not the thing's own outline; `alike` tells of both."""
    clips = of_kind(flawed, "melted", 24)
    assert {x.scene.things[0].shape for x in clips if len(x.scene.things) == 1} >= {"cross", "star"}
    for x in clips:
        assert x.other is None
        (thing,) = (t for t in x.scene.things if t.blend)
        assert x.colors == (thing.color,)
        straight = {"motion": "still", "phase": 0.0, "x": 0.86, "size": "large"}
        alone = [
            replace(x.scene, things=(replace(thing, **straight, blend=blend),), camera="still")
            for blend in (thing.blend, None)
        ]
        melted, own = label_maps(alone, (120, 208), [0])[:, 0, 0] > 0
        shared = (melted & own).sum() / (melted | own).sum()
        assert 0.3 < shared < 0.95, x
        assert alike(thing.shape, thing.blend) <= ALIKE


def test_alike() -> None:
    assert alike("star", Blend("star", 0.0, 0.5)) == 1
    assert alike("star", Blend("cross", 0.0, 0.0)) == 1
    assert alike("star", Blend("cross", 0.0, 1.0)) == 1
    assert alike("cross", Blend("cross", math.pi / 2, 0.5)) == 1
    assert alike("cross", Blend("cross", math.pi / 4, 0.5)) < 0.7
    assert alike("ball", Blend("square", 0.3, 0.5)) > alike("ball", Blend("star", 0.3, 0.5)) > 0.5


def changed(x: Flawed) -> str:
    """What a cut changes of the thing."""
    one, other = (
        next((t for t in s.things if t.color in x.colors), None) for s in (x.scene, x.other)
    )
    if one is None or other is None:
        return "gone"
    (name,) = (f.name for f in fields(Thing) if getattr(one, f.name) != getattr(other, f.name))
    return name


def test_cut_is_one_scene_and_then_the_other(flawed: list[Flawed]) -> None:
    clips = of_kind(flawed, "cut", 48)
    video = render_flawed(clips, SIZE, FRAMES)
    scenes = render([x.scene for x in clips], SIZE, FRAMES)
    others = render([x.other for x in clips], SIZE, FRAMES)
    changes = set()
    for n, x in enumerate(clips):
        assert sorted(set(x.cut_frames)) == list(x.cut_frames)
        assert len(x.cut_frames) % 2 == 1
        for turn, (begin, end) in enumerate(itertools.pairwise([0, *x.cut_frames, FRAMES])):
            its = (scenes, others)[turn % 2]
            assert torch.equal(video[n, begin:end], its[n, begin:end])
            assert begin == 0 or not torch.equal(scenes[n, begin], others[n, begin]), x
        changes.add((changed(x), len(x.cut_frames) > 1))
    assert {x for x, _ in changes} == {"phase", "x", "shape", "gone"}
    assert {x for _, x in changes} == {False, True}
    later = render_flawed(clips, SIZE, 10, first_frame=20)
    assert torch.equal(later, video[:, 20:30])
    maps = flawed_label_maps(clips, SIZE, [0, 32])
    of_others = label_maps([x.other for x in clips], SIZE, [32])
    assert torch.equal(maps[:, 1:], of_others)


def test_a_source_with_flaws_tells_of_them() -> None:
    seeds = range(60)
    source, plain = FlawedWorld("train", 0.5), training_source()
    shown, of_plain = source.shown(seeds), plain.shown(seeds)
    bad = [n for n, x in enumerate(shown) if "flaws" in x]
    assert 15 < len(bad) < 40
    for n in set(seeds) - set(bad):
        assert shown[n] == of_plain[n]
    there = asked(shown)["there"]
    for n, x in enumerate(shown):
        flaws = x.get("flaws", {})
        assert set(flaws.values()) <= {FLAW, FLAW_IN_TIME}
        assert ("count" in x) == (FLAW_IN_TIME not in flaws.values())
        things = {thing["color"] for thing in x["objects"]}
        assert not things & set(flaws)
        for color, value in zip(COLORS, there[n].tolist(), strict=True):
            assert value == flaws.get(color, YES if color in things else NO)
    video = source.clips(seeds, 5, SIZE, DEVICE)
    differ = (video != plain.clips(seeds, 5, SIZE, DEVICE)).flatten(1).any(1)
    assert not differ[sorted(set(seeds) - set(bad))].any()
    assert differ[bad].float().mean() > 0.5  # not before a cut
    assert FlawedWorld("train", 0.0).shown(seeds) == of_plain
