"""Where things and the camera are at each time. Every motion goes on for ever.

What leaves the frame comes in again on the other side, so a clip of any length, from any time on,
shows the same motion.
"""

from dataclasses import dataclass

import numpy as np

from monarchrt_train.world.scene import ASPECT, GROUND_Y, SIZES, Scene, Thing
from monarchrt_train.world.shapes import geometry

# Slow and fast differ by a factor of 2.2 or more. Units of height per second, or seconds.
ROLL_SPEED = {"slow": 0.26, "fast": 0.62}
FALL_SPEED = {"slow": 0.26, "fast": 0.66}
FLOAT_SPEED = {"slow": 0.22, "fast": 0.54}
ZIGZAG_SPEED = {"slow": 0.22, "fast": 0.52}
ZIGZAG_PERIOD_S = {"slow": 2.4, "fast": 1.0}
BOUNCE_PERIOD_S = {"slow": 1.6, "fast": 0.7}
ORBIT_PERIOD_S = {"slow": 4.0, "fast": 1.6}
SWING_PERIOD_S = {"slow": 3.2, "fast": 1.3}
SPIN_PERIOD_S = {"slow": 4.0, "fast": 1.4}

BOUNCE_HEIGHT = 0.32
ZIGZAG_HEIGHT = 0.30
HOVER_Y = 0.46
SWING_LENGTH = 0.50
PAN_REACH = 0.10
PAN_PERIOD_S = 4.5
ZOOM_MAX = 1.24
ZOOM_PERIOD_S = 4.5


@dataclass(frozen=True)
class Track:
    """Centre [frames], angle [frames] in radians; `string` if it hangs from (x, 0) on one."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    string: bool = False


@dataclass(frozen=True)
class CameraTrack:
    """What the middle of the frame shows (x, y) [frames], and the magnification [frames]."""

    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray


def camera_track(scene: Scene, time_s: np.ndarray) -> CameraTrack:
    """The path of the camera at these times [frames]."""
    middle = np.full_like(time_s, ASPECT / 2)
    x, zoom = middle, np.ones_like(time_s)
    if scene.camera == "pan":
        x = middle + PAN_REACH * np.sin(2 * np.pi * (time_s / PAN_PERIOD_S + scene.camera_phase))
    elif scene.camera == "zoom":
        wave = np.sin(2 * np.pi * (time_s / ZOOM_PERIOD_S + scene.camera_phase))
        zoom = 1 + (ZOOM_MAX - 1) * (0.5 + 0.5 * wave)
    return CameraTrack(x, np.full_like(time_s, 0.5), zoom)


def thing_track(thing: Thing, camera: str, time_s: np.ndarray) -> Track:
    """The path of a thing at these times [frames]."""
    shape = geometry(thing.shape)
    radius = SIZES[thing.size]
    extent = radius * shape.extent
    upright = np.zeros_like(time_s)
    x = np.full_like(time_s, thing.x)
    standing_y = GROUND_Y - radius * shape.below(upright)
    sign = -1.0 if thing.direction in ("left", "counterclockwise") else 1.0
    margin = extent + (PAN_REACH if camera == "pan" else 0.0)

    def cycle(period_s: dict[str, float]) -> np.ndarray:
        return time_s / period_s[thing.speed] + thing.phase

    def across(speed: dict[str, float], length: float) -> np.ndarray:
        return (speed[thing.speed] * time_s / length + thing.phase) % 1.0

    def crossing_x(speed: dict[str, float]) -> np.ndarray:
        part = across(speed, ASPECT + 2 * margin)
        return -margin + (part if sign > 0 else 1 - part) * (ASPECT + 2 * margin)

    match thing.motion:
        case "still":
            return Track(x, standing_y, upright)
        case "bounce":
            part = cycle(BOUNCE_PERIOD_S) % 1.0
            return Track(x, standing_y - BOUNCE_HEIGHT * 4 * part * (1 - part), upright)
        case "roll":
            x = crossing_x(ROLL_SPEED)
            angle = x / radius
            return Track(x, GROUND_Y - radius * shape.below(angle), angle)
        case "fall":
            return Track(
                x, -extent + across(FALL_SPEED, 1 + 2 * extent) * (1 + 2 * extent), upright
            )
        case "float":
            rise = across(FLOAT_SPEED, 1 + 2 * extent) * (1 + 2 * extent)
            return Track(x, 1 + extent - rise, upright)
        case "orbit":
            turn = 2 * np.pi * sign * cycle(ORBIT_PERIOD_S)
            return Track(
                x + thing.reach * np.cos(turn), HOVER_Y + thing.reach * np.sin(turn), upright
            )
        case "swing":
            swing = np.arcsin(thing.reach / SWING_LENGTH) * np.sin(
                2 * np.pi * cycle(SWING_PERIOD_S)
            )
            return Track(
                x + SWING_LENGTH * np.sin(swing), SWING_LENGTH * np.cos(swing), -swing, string=True
            )
        case "spin":
            return Track(x, np.full_like(time_s, HOVER_Y), 2 * np.pi * sign * cycle(SPIN_PERIOD_S))
        case "zigzag":
            wave = np.abs(2 * (cycle(ZIGZAG_PERIOD_S) % 1.0) - 1) - 0.5
            return Track(crossing_x(ZIGZAG_SPEED), HOVER_Y + ZIGZAG_HEIGHT * wave, upright)
    raise ValueError(f"[thing_track] motion is {thing.motion!r}, need one of MOTIONS")
