"""Pixels: they show the labels, and are the same for every batch, size and device."""

import colorsys

import numpy as np
import pytest
import torch

from monarchrt_train.clips import Squares
from monarchrt_train.world import label_maps, render, sample_scene
from monarchrt_train.world.motion import camera_track, thing_track
from monarchrt_train.world.scene import (
    ASPECT,
    BACKGROUNDS,
    COLORS,
    FRAMES_PER_S,
    MOTIONS,
    SHAPES,
    SIZES,
)
from monarchrt_train.world.shapes import distance, geometry

# Hues that people call by these names, in degrees.
HUES = {
    "red": (345, 375),
    "orange": (18, 38),
    "yellow": (44, 62),
    "green": (100, 150),
    "cyan": (175, 198),
    "blue": (212, 242),
    "purple": (258, 288),
    "pink": (312, 340),
}


def colorful(video: torch.Tensor) -> torch.Tensor:
    """bool [..., height, width] of uint8 [..., 3, height, width]."""
    return (video.amax(-3).int() - video.amin(-3).int()) > 70


def lone_scenes(camera: str, count: int) -> list:
    found = (sample_scene(seed, "val", count=1) for seed in range(1000))
    return [s for s in found if s.camera == camera][:count]


def test_the_thing_is_where_the_track_says_and_has_its_area_and_colour():
    size, frames = (240, 416), 2
    compared = 0
    for scene in lone_scenes("still", 20) + lone_scenes("zoom", 5) + lone_scenes("pan", 5):
        video = render([scene], size, frames)[0]
        thing = scene.things[0]
        time_s = np.arange(frames) / FRAMES_PER_S
        track, camera = thing_track(thing, scene.camera, time_s), camera_track(scene, time_s)
        x = (track.x - camera.x) * camera.zoom + ASPECT / 2
        y = (track.y - camera.y) * camera.zoom + 0.5
        reach = SIZES[thing.size] * camera.zoom * geometry(thing.shape).extent
        for t in range(frames):
            if not (reach[t] < x[t] < ASPECT - reach[t] and reach[t] < y[t] < 1 - reach[t]):
                continue
            rows, columns = np.nonzero(colorful(video[t]).numpy())
            assert abs((columns.mean() + 0.5) / 240 - x[t]) < 0.008
            assert abs((rows.mean() + 0.5) / 240 - y[t]) < 0.008
            radius = np.sqrt(len(rows) / np.pi) / 240
            assert radius == pytest.approx(SIZES[thing.size] * camera.zoom[t], rel=0.06)
            color = np.median(video[t][:, rows, columns].numpy(), axis=1) / 255
            hue = 360 * colorsys.rgb_to_hsv(*color)[0]
            low, high = HUES[thing.color]
            assert low <= hue + (360 if hue < low and high > 360 else 0) <= high
            compared += 1
    assert compared > 25


def test_backgrounds_are_muted_and_differ():
    seen = {}
    for seed in range(200):
        scene = sample_scene(seed)
        if scene.background in seen:
            continue
        frame = render([scene], (60, 104), 1)[0, 0]
        calm = ~torch.nn.functional.max_pool2d(
            (frame.amax(0).int() - frame.amin(0).int() > 60).float()[None], 5, 1, 2
        )[0].bool()
        assert calm.float().mean() > 0.5  # what is colourful is a thing, not the background
        seen[scene.background] = frame[:, :40][:, calm[:40]].float().mean(1)
    assert set(seen) == set(BACKGROUNDS)
    means = torch.stack(list(seen.values()))
    apart = torch.cdist(means, means) + 1e3 * torch.eye(len(means))
    assert apart.min() > 12


def test_the_same_scene_has_the_same_pixels_in_any_batch_and_cut():
    scenes = [sample_scene(seed) for seed in range(12)]
    together = render(scenes, (60, 104), 8)
    assert torch.equal(together, render(scenes, (60, 104), 8))
    # Boxes grow with the largest thing of a batch, and with them nothing may change but rounding.
    alone = torch.cat([render([s], (60, 104), 8) for s in scenes])
    assert (together.int() - alone.int()).abs().max() <= 1
    later = render(scenes, (60, 104), 3, first_frame=5)
    assert (together[:, 5:].int() - later.int()).abs().max() <= 1


def test_sizes_show_the_same_picture():
    scenes = [sample_scene(seed) for seed in range(6)]
    large = render(scenes, (240, 416), 1)[:, 0].float()
    for factor in (2, 4):
        small = render(scenes, (240 // factor, 416 // factor), 1)[:, 0].float()
        error = (torch.nn.functional.avg_pool2d(large, factor) - small).abs()
        assert error.mean() < 1.0
        assert error.quantile(0.99) < 24  # edges


def test_edges_are_smooth():
    scene = next(s for s in map(sample_scene, range(100)) if s.background == "checker")
    values = render([scene], (240, 416), 1)[0, 0].float().mean(0)[: int(0.7 * 240)]
    steps = values.diff(dim=1).abs()
    between = ((steps > 2) & (steps < 18)).sum()
    assert between > 0.2 * (steps >= 18).sum()


def test_nothing_is_made_on_another_device():
    video = render([sample_scene(seed) for seed in range(12)], (60, 104), 3, "meta")
    assert (video.device.type, video.shape) == ("meta", (12, 3, 3, 60, 104))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_devices_agree():
    scenes = [sample_scene(seed) for seed in range(12)]
    cpu, cuda = (render(scenes, (120, 208), 9, device).cpu().int() for device in ("cpu", "cuda"))
    error = (cpu - cuda).abs()
    assert error.max() <= 8  # a fast edge, sampled a float's rounding apart
    assert (error > 1).float().mean() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_area_of_the_unit_circle_around_their_centroid(shape):
    axis = torch.linspace(-2, 2, 401)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = (distance(shape, x, y) < 0).float()
    cell = float(axis[1] - axis[0]) ** 2
    assert float(inside.sum()) * cell == pytest.approx(np.pi, rel=0.01)
    assert abs(float((inside * x).sum()) * cell) < 0.03
    assert abs(float((inside * y).sum()) * cell) < 0.03
    # Edges are as wide as the distance is true: its slope is 1 near the outline, but for corners.
    far = distance(shape, x, y)
    slope = torch.hypot(*torch.gradient(far, spacing=float(axis[1] - axis[0])))
    assert float(slope[(far.abs() < 0.05)].median()) == pytest.approx(1, abs=0.02)


def test_label_maps_tell_what_is_seen_where():
    size, frame = (240, 416), 5
    scenes = [sample_scene(seed, "val") for seed in range(30)]
    video = render(scenes, size, frame + 1)[:, frame].float() / 255
    maps = label_maps(scenes, size, [frame])[:, 0].long()
    shown = 0
    for scene, picture, (shapes, colors, motions) in zip(scenes, video, maps, strict=True):
        assert ((shapes > 0) == (colors > 0)).all()
        assert ((shapes > 0) == (motions > 0)).all()
        for thing in scene.things:
            there = colors == 1 + COLORS.index(thing.color)
            if there.sum() < 50:  # out of the frame
                continue
            shown += 1
            assert set(shapes[there].tolist()) == {1 + SHAPES.index(thing.shape)}
            assert set(motions[there].tolist()) == {1 + MOTIONS.index(thing.motion)}
            low, high = HUES[thing.color]
            hue = 360 * colorsys.rgb_to_hsv(*picture[:, there].mean(1).tolist())[0]
            assert low <= hue <= high or low <= hue + 360 <= high, (thing, hue)
    assert shown > 30
    coarse = label_maps(scenes, (30, 52), [frame])[:, 0].long()
    middles = maps[:, :, 4::8, 4::8]
    assert (coarse == middles).float().mean() > 0.98
    assert (label_maps(scenes, (30, 52), [frame - 0.5, frame])[:, 1] == coarse).all()


def test_label_maps_of_squares_agree_with_their_pictures():
    source = Squares()
    labels = source.labels(range(4), [0.0, 2.4], (6, 10), torch.device("cpu"))
    assert labels.shape == (4, 2, 3, 6, 10)
    for seed, caption in enumerate(source.captions(range(4))):
        number = 1 + list(Squares.COLOURS).index(caption.split()[1])
        assert set(labels[seed].flatten().tolist()) == {0, number}
