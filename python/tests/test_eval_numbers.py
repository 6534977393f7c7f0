"""The numbers of the evaluation against closed forms and known pictures."""

import cv2
import numpy as np
import pytest

from monarchrt_eval import bootstrap, frechet, report, temporal
from monarchrt_eval.checker.validate import clip
from monarchrt_eval.confusion import confusion, table
from monarchrt_eval.measure import adherence, by_things, counts

cv2.setNumThreads(1)


def test_frechet_distance_of_gaussians():
    # With covariances that commute it is |m1 - m2|^2 + sum of (sqrt(v1) - sqrt(v2))^2.
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    a, b = np.array([1.0, 4.0, 0.0, 9.0]), np.array([4.0, 1.0, 0.25, 9.0])
    got = frechet.gaussian_distance(
        np.zeros(4), turn * a @ turn.T, np.array([3.0, 0, 0, 4.0]), turn * b @ turn.T
    )
    assert got == pytest.approx(25 + 1 + 1 + 0.25, abs=1e-6)
    x = np.random.default_rng(2).standard_normal((50, 4))
    assert frechet.distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet.distance(x, x + np.array([0, 2, 0, 0])) == pytest.approx(4)


def test_frechet_estimate_takes_the_bias_off():
    rng = np.random.default_rng(3)
    reference = rng.standard_normal((300, 1, 6))
    few = rng.standard_normal((40, 1, 6))
    plain = frechet.distance(few[:, 0], reference[:, 0])
    same = frechet.estimate(few, reference, seed=1, rounds=60)
    assert abs(same.value) < plain / 2
    assert same.low < 0.1
    assert same.low < same.value < same.high
    other = frechet.estimate(few + 2.0, reference, seed=1, rounds=60)
    assert other.low < 6 * 4 < other.high


def test_the_interval_covers_the_mean():
    rng = np.random.default_rng(4)
    inside = 0
    for n in range(100):
        estimate = bootstrap.mean(rng.standard_normal(30) + 5, seed=n)
        inside += estimate.low <= 5 <= estimate.high
    assert 88 <= inside <= 99  # of 95 wanted; 30 values give a little less
    assert estimate.clips == 30


def test_a_ratio_counts_whole_clips():
    right, asked = np.array([1.0, 0, 2, 0]), np.array([1.0, 1, 2, 0])
    estimate = bootstrap.ratio(right, asked, seed=1)
    assert (estimate.value, estimate.clips) == (0.75, 3)
    assert estimate.low < 0.75 < estimate.high
    assert bootstrap.ratio(right, np.zeros(4), seed=1) is None


def test_a_change_is_that_of_the_ratios() -> None:
    before = np.array([[9.0, 10], [1, 2], [4, 4]])
    after = np.array([[5.0, 10], [4, 8], [2, 4]])  # a clip may be asked more of: things too many
    estimate = bootstrap.difference(before, after, seed=1)
    assert estimate.value == pytest.approx(11 / 22 - 14 / 16)
    shares = [bootstrap.ratio(*x.T, seed=1).value for x in (before, after)]
    assert estimate.value == pytest.approx(shares[1] - shares[0])
    assert estimate.low < estimate.value < estimate.high
    assert estimate.clips == 3


def picture() -> np.ndarray:
    return clip(3, "val", frames=1)[0]


def test_what_only_moves_has_no_warp_error():
    big = picture()
    moving = np.stack([big[8:200, 8 + 3 * t : 328 + 3 * t] for t in range(4)])
    error, lost = temporal.warp_error(moving)
    unmoved = np.abs(np.diff(moving.astype(np.float32), axis=0)).mean() / 255
    assert error < 0.003
    assert error < unmoved / 5
    assert lost < 0.05
    shaken = moving.copy()
    shaken[1::2] = 255 - shaken[1::2]
    assert temporal.warp_error(shaken)[0] > 10 * error


def test_flicker_is_change_that_comes_and_goes():
    still = np.repeat(picture()[None], 4, 0)
    quiet = temporal.steadiness(still)
    assert quiet.flicker == 0
    assert quiet.warp_error < 1e-6
    fade = np.stack([np.full((8, 8, 3), 10 * t, np.uint8) for t in range(4)])
    assert temporal.flicker(fade) < 1e-8
    blink = np.stack([np.full((8, 8, 3), 51 * (t % 2), np.uint8) for t in range(4)])
    assert temporal.flicker(blink) == pytest.approx(0.2)
    assert quiet.sharpness > temporal.sharpness(
        np.stack([cv2.GaussianBlur(f, (0, 0), 3) for f in still])
    )
    assert temporal.colorfulness(blink) == 0


def test_adherence_of_known_clips():
    red = {"color": "red", "shape": "ball"}
    asked = {"count": 1, "objects": [red], "background": "sky"}
    good = {"count": 1, "objects": [red], "background": "sky", "camera": "still"}
    bad = {"count": 1, "objects": [red | {"color": "blue"}], "background": "brick", "camera": "pan"}
    each = [counts([(asked, seen)]) for seen in (good, bad, good, bad)]
    assert each[1]["all"] == (2, 4)
    rows = adherence(each, seed=1)
    assert (rows["background"].value, rows["shape"].value, rows["all"].value) == (0.5, 1, 0.75)
    assert rows["camera"] is None
    assert (rows["shape, found"].value, rows["motion, found"]) == (1, None)
    two = asked | {"count": 2, "objects": [red, red | {"color": "blue", "shape": "star"}]}
    each.append(counts([(two, good)]))
    assert each[-1]["all"] == (3, 6)  # the rest of what is found does not count once more
    parts = by_things([asked] * 4 + [two], each, seed=1)
    assert [parts[n]["all"].value for n in ("1 thing", "2 things")] == [0.75, 0.5]
    assert parts["2 things"]["shape, found"].value == 1
    text = report.by_things({"x": {"by_things": parts}, "y": {}})
    assert [line[:12] for line in text.splitlines()[2:]] == ["| x, 1 thing", "| x, 2 thing"]
    text = report.adherence({"x": {"adherence": rows}})
    assert text.splitlines()[2].startswith(f"| x | 4 | {report.cell(rows['all'], 0, 100)} | 100 (")


def test_confusion_says_what_was_seen_instead():
    def clip_of(*things: tuple[str, str, str]) -> dict:
        names = ("color", "shape", "motion")
        return {"objects": [dict(zip(names, x, strict=False)) for x in things]}

    pairs = [
        (clip_of(("red", "star", "spin")), clip_of(("red", "star", "still"))),
        (clip_of(("red", "star", "spin")), clip_of(("red", "heart", "still"))),
        (
            clip_of(("red", "star", "spin")),
            clip_of(("red", "star", "spin"), ("blue", "ring", "roll")),
        ),
        (clip_of(("red", "star"), ("blue", "moon", "fall")), clip_of(("blue", "moon"))),
    ]
    got = confusion(pairs)
    assert got["motion"] == {"fall": {"unclear": 1}, "spin": {"still": 2, "spin": 1}}
    assert got["shape"] == {"moon": {"moon": 1}, "star": {"star": 2, "heart": 1, "missing": 1}}
    text = table({"x": {"confusion": got}, "y": {}}).splitlines()
    assert text[-1] == "| x | motion | spin | 1 of 3 | still 2 |"
    assert text[2] == "| x | shape | moon | 1 of 1 |  |"
