"""Names the motion of a track: which one, which way, slow or fast."""

from dataclasses import dataclass

import numpy as np

# Where slow ends and fast begins: heights per second, or seconds per cycle.
FAST_FROM_SPEED = {"roll": 0.40, "zigzag": 0.34, "fall": 0.41, "float": 0.345}
FAST_UNDER_PERIOD_S = {"bounce": 1.06, "orbit": 2.5, "swing": 2.04, "spin": 2.37}

ONE_WAY_SHARE = 0.9  # of the steps of something that crosses the frame
CROSSING_SPEED_MIN = 0.08  # heights per second
REST_RANGE = 0.05  # of a position at rest, heights
ZIGZAG_RANGE = 0.20  # up and down; a rolling triangle has up to 0.16
SPIN_RATE_MIN = 0.6  # radians per second; a slow spin has 1.6
TURN_SHARE = 0.75  # of the frames in which something that spins turns the same way
ORBIT_ROUNDNESS = 0.5  # height over width of the path
JUMP = 0.3  # heights between two frames: it left on one side and came in on the other
FREQUENCIES_HZ = np.arange(0.15, 2.5, 0.01)


@dataclass(frozen=True)
class Path:
    """Scene positions of one thing in the frames where it shows in full.

    frame [n] of int, x, y [n] in heights, turn [n] radians since the frame before (nan if unknown).
    """

    frame: np.ndarray
    x: np.ndarray
    y: np.ndarray
    turn: np.ndarray


def _range(values: np.ndarray) -> float:
    low, high = np.percentile(values, (3, 97))
    return float(high - low)


def _steps(path: Path, frames_per_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Velocities [m] in heights per second between neighbouring frames."""
    gap = np.diff(path.frame)
    dx, dy = np.diff(path.x), np.diff(path.y)
    use = (gap <= 2) & (np.hypot(dx, dy) < JUMP)
    return dx[use] / gap[use] * frames_per_s, dy[use] / gap[use] * frames_per_s


def _one_way(velocity: np.ndarray) -> float:
    """Share of the steps that go the more frequent way."""
    forward = float(np.mean(velocity > 0))
    return max(forward, 1 - forward)


def period_s(frame: np.ndarray, values: np.ndarray, frames_per_s: float) -> float:
    """Seconds per cycle of the sine that explains the values best."""
    time_s = frame / frames_per_s
    best, best_left = 0.0, np.inf
    for hz in FREQUENCIES_HZ:
        angle = 2 * np.pi * hz * time_s
        basis = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
        weights, *_ = np.linalg.lstsq(basis, values, rcond=None)
        left = float(np.square(values - basis @ weights).sum())
        if left < best_left:
            best, best_left = hz, left
    return 1 / best


def _orbit_rate(path: Path, frames_per_s: float) -> float:
    """Radians per second around the middle of the path, positive clockwise."""
    middle_x = (path.x.max() + path.x.min()) / 2
    middle_y = (path.y.max() + path.y.min()) / 2
    angle = np.unwrap(np.arctan2(path.y - middle_y, path.x - middle_x))
    return float(np.polyfit(path.frame / frames_per_s, angle, 1)[0])


def _rotation(rate: float) -> str:
    return "clockwise" if rate > 0 else "counterclockwise"


def name_motion(path: Path, frames_per_s: float) -> dict:
    """`motion` and, where it has them, `direction` and `speed`."""
    vx, vy = _steps(path, frames_per_s)
    if len(vx) < 3:
        return {}
    speed_x, speed_y = float(np.median(vx)), float(np.median(vy))
    if abs(speed_x) > CROSSING_SPEED_MIN and _one_way(vx) > ONE_WAY_SHARE:
        motion = "zigzag" if _range(path.y) > ZIGZAG_RANGE else "roll"
        direction = "right" if speed_x > 0 else "left"
        return _crossing(motion, abs(speed_x)) | {"direction": direction}
    range_x, range_y = _range(path.x), _range(path.y)
    if abs(speed_y) > CROSSING_SPEED_MIN and _one_way(vy) > ONE_WAY_SHARE:
        return _crossing("fall" if speed_y > 0 else "float", abs(speed_y))
    if max(range_x, range_y) < REST_RANGE:
        turns = path.turn[~np.isnan(path.turn)]
        rate = float(np.median(turns)) * frames_per_s if len(turns) else 0.0
        if abs(rate) < SPIN_RATE_MIN or _one_way(turns) < TURN_SHARE:
            return {"motion": "still"}
        return _cyclic("spin", 2 * np.pi / abs(rate)) | {"direction": _rotation(rate)}
    if range_y > 2 * range_x:
        return _cyclic("bounce", period_s(path.frame, path.y, frames_per_s))
    if range_y > ORBIT_ROUNDNESS * range_x:
        rate = _orbit_rate(path, frames_per_s)
        period = 2 * np.pi / max(abs(rate), 1e-3)
        return _cyclic("orbit", period) | {"direction": _rotation(rate)}
    return _cyclic("swing", period_s(path.frame, path.x, frames_per_s))


def _crossing(motion: str, speed: float) -> dict:
    return {"motion": motion, "speed": "fast" if speed > FAST_FROM_SPEED[motion] else "slow"}


def _cyclic(motion: str, period: float) -> dict:
    return {"motion": motion, "speed": "fast" if period < FAST_UNDER_PERIOD_S[motion] else "slow"}
