"""The checker against known labels, and against mistakes it must find."""

import ast
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import monarchrt_eval.checker
from monarchrt_eval.checker import compare, compare_found, observe, tally
from monarchrt_eval.checker.camera import camera_path
from monarchrt_eval.checker.geometry import name_shape, occupancy, turn
from monarchrt_eval.checker.motion import Path as MotionPath
from monarchrt_eval.checker.motion import name_motion
from monarchrt_eval.checker.segment import blobs
from monarchrt_eval.checker.validate import clip, degrade
from monarchrt_train.world import labels, sample_scene
from monarchrt_train.world.motion import camera_track
from monarchrt_train.world.scene import ASPECT, SHAPES
from monarchrt_train.world.shapes import distance

cv2.setNumThreads(1)  # the machine is shared, and its small pictures gain nothing


def test_only_the_validation_knows_the_world():
    folder = Path(monarchrt_eval.checker.__file__).parent
    files = [p for p in folder.glob("*.py") if p.stem not in ("validate", "__main__")]
    assert len(files) >= 7
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in getattr(node, "names", [])] + [getattr(node, "module", "")]
            assert not any((n or "").startswith("monarchrt_train") for n in names), path


# One of each camera; one, two and three objects; between them every motion but one.
@pytest.mark.parametrize("seed", [2, 5, 9, 14])
def test_it_sees_what_a_clip_shows(seed):
    truth = labels(sample_scene(seed, "val"))
    frames = clip(seed, "val")
    seen = observe(degrade(frames, seed) if seed % 2 else frames)
    wrong = {name for name, hits in compare(truth, seen).items() if not all(hits)}
    assert not wrong, (truth, seen)


def mask_of(shape: str, angle: float, radius_px: float) -> np.ndarray:
    """float [129, 129] with the shape's anti-aliased pixels around its middle."""
    axis = (torch.arange(129) - 64) / radius_px
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    c, s = np.cos(angle), np.sin(angle)
    far = distance(shape, c * x + s * y, c * y - s * x) * radius_px
    return (0.5 - far).clamp(0, 1).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_names_shapes_at_any_angle_and_sees_them_turn(shape):
    for angle in (0.0, 0.4, 2.0):
        for radius_px in (14.0, 36.0):
            area = np.pi * radius_px**2
            cells = [
                occupancy(mask_of(shape, a, radius_px) > 0.5, 64, 64, area)
                for a in (angle, angle + 0.15)
            ]
            assert name_shape(cells) == shape
            if shape not in ("ball", "ring"):
                assert turn(*cells) == pytest.approx(0.15, abs=0.05)


@pytest.mark.parametrize("camera", ["still", "pan", "zoom"])
def test_it_measures_the_camera(camera):
    seed = next(n for n in range(100) if sample_scene(n, "val").camera == camera)
    frames = clip(seed, "val", frames=40)
    things = np.zeros(frames.shape[:3], bool)
    for t, frame in enumerate(frames):
        for b in blobs(frame):
            rows, columns = b.mask.shape
            things[t, b.top : b.top + rows, b.left : b.left + columns] |= b.mask
    path = camera_path(frames, things)
    truth = camera_track(sample_scene(seed, "val"), np.arange(40) / 16)
    zoom = truth.zoom / truth.zoom.min()
    assert np.abs(path.zoom / zoom - 1).max() < 0.02
    shift = (ASPECT / 2 - truth.x) * truth.zoom
    assert np.abs((path.shift_x - path.shift_x[0]) - (shift - shift[0])).max() < 0.02
    assert path.name() == camera


def path_of(x, y) -> MotionPath:
    """81 frames of a thing that does not turn."""
    t = np.arange(81) / 16
    zero = np.zeros(81)
    return MotionPath(np.arange(81), x(t) + zero, y(t) + zero, zero)


def test_it_names_paths():
    paths = {
        "still": path_of(lambda t: 0.5, lambda t: 0.5),
        "bounce": path_of(lambda t: 0.5, lambda t: 0.8 - 0.3 * np.abs(np.sin(np.pi * t / 1.5))),
        "orbit": path_of(lambda t: np.cos(2 * t) / 5, lambda t: -np.sin(2 * t) / 5),
        "swing": path_of(lambda t: np.sin(3 * t) / 4, lambda t: np.cos(6 * t) / 50),
        "fall": path_of(lambda t: 0.5, lambda t: (0.5 * t) % 1.2 - 0.1),
        "roll": path_of(lambda t: (-0.3 * t) % 2, lambda t: 0.8),
    }
    named = {name: name_motion(path, 16) for name, path in paths.items()}
    assert {name: seen["motion"] for name, seen in named.items()} == {n: n for n in paths}
    assert named["orbit"] == {"motion": "orbit", "direction": "counterclockwise", "speed": "slow"}
    assert named["roll"] == {"motion": "roll", "direction": "left", "speed": "slow"}
    assert named["fall"]["speed"] == "fast"


def test_comparison_finds_every_mistake():
    ball = {"color": "red", "shape": "ball", "motion": "roll", "direction": "left"}
    star = {"color": "blue", "shape": "star", "motion": "spin"}
    asked = {"count": 2, "objects": [ball, star], "background": "brick"}
    good = {"count": 2, "objects": [star, ball], "background": "brick", "camera": "pan"}
    assert all(all(hits) for hits in compare(asked, good).values())
    bad = {
        "count": 1,
        "objects": [ball | {"direction": "right", "shape": "ring"}],
        "background": "wood",
        "camera": "pan",
    }
    result = compare(asked, bad)
    assert result["count"] == result["background"] == [False]
    assert result["color"] == [True, False]
    assert result["shape"] == [False, False]
    assert result["direction"] == [False]
    assert "camera" not in result  # nobody asked
    assert compare_found(asked, bad) == {"shape": [False], "motion": [True]}
    assert tally([result, compare(asked, good)])["color"] == (3, 4)
    crowd = good | {"count": 4, "objects": [ball, star, ball, star]}
    assert tally([compare(asked, crowd)])["color"] == (2, 4)
    assert tally([compare(asked, crowd)])["direction"] == (1, 3)
    assert compare_found(asked, crowd) == {"shape": [True, True], "motion": [True, True]}
    assert compare_found(asked, {"objects": []}) == {"shape": [], "motion": []}
    assert tally([result])["camera"] == (0, 0)


def test_things_of_one_colour_are_told_apart():
    frames = np.full((12, 120, 208, 3), 110, np.uint8)
    for t, frame in enumerate(frames):
        cv2.circle(frame, (150 - 4 * t, 60), 15, (220, 30, 30), -1)
        cv2.circle(frame, (40 + 2 * t, 70), 20 - t, (220, 30, 30), -1)  # the larger one, at first
    seen = observe(frames)["objects"]
    assert [thing["color"] for thing in seen] == ["red", "red"]
    assert {thing["direction"] for thing in seen} == {"left", "right"}


def test_an_empty_scene_has_no_objects():
    noise = np.random.default_rng(1).integers(100, 120, (20, 60, 104, 3)).astype(np.uint8)
    seen = observe(noise)
    assert seen["count"] == 0
    assert not compare({"count": 1, "objects": [{"color": "red"}]}, seen)["color"][0]
