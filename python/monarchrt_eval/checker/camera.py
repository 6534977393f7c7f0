"""The camera's motion, from the background alone, by direct alignment of neighbouring frames."""

from dataclasses import dataclass

import cv2
import numpy as np

ROUNDS = 4  # Gauss-Newton steps for each pair of frames
WORK_HEIGHT = 120  # rows the alignment works on
BLUR = 1.6  # pixels at that height: gradients reach further than the motion
OUTLIER_FACTOR = 6.0  # of the median difference in brightness
OUTLIER_MIN = 2.0  # of 255: rounding is no outlier
STAY = 100.0  # squared brightness slope, summed over pixels
PAN_MIN = 0.06  # of the frame's height; a pan covers 0.2
ZOOM_MIN = 1.10  # largest over smallest magnification; a zoom has 1.24


@dataclass(frozen=True)
class CameraPath:
    """Frame t shows the point p of the scene at zoom[t] * (p - middle) + middle + shift[t].

    Units: height of the frame. The smallest zoom is 1.
    """

    zoom: np.ndarray  # [T]
    shift_x: np.ndarray  # [T]
    shift_y: np.ndarray  # [T]

    def name(self) -> str:
        """still, pan or zoom."""
        if self.zoom.max() > ZOOM_MIN:
            return "zoom"
        return "pan" if np.ptp(self.shift_x) > PAN_MIN else "still"

    def in_scene(self, x: np.ndarray, y: np.ndarray, aspect: float) -> tuple:
        """Scene points of points seen at (x, y) [T] in the frames."""
        scene_x = (x - aspect / 2 - self.shift_x) / self.zoom + aspect / 2
        return scene_x, (y - 0.5 - self.shift_y) / self.zoom + 0.5


def camera_path(frames: np.ndarray, foreground: np.ndarray) -> CameraPath:
    """Of frames uint8 [T, H, W, 3] and where things are, bool [T, H, W]."""
    count, height, width, _ = frames.shape
    scale = WORK_HEIGHT / height
    size = (round(width * scale), WORK_HEIGHT)
    grays, masks = [], []
    for frame, things in zip(frames, foreground, strict=True):
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        grays.append(
            cv2.GaussianBlur(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), (0, 0), BLUR)
        )
        near = cv2.resize(things.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        masks.append(cv2.dilate(near.astype(np.uint8), np.ones((9, 9))) == 0)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    grid = (x - (size[0] - 1) / 2, y - (size[1] - 1) / 2)
    total = np.zeros((count, 3))  # log zoom, shift x, shift y in pixels
    step = np.zeros(3)
    for t in range(1, count):
        step = _align(grays[t - 1], grays[t], masks[t - 1] & masks[t], grid, step)
        growth = np.exp(step[0])
        total[t, 0] = total[t - 1, 0] + step[0]
        total[t, 1:] = growth * total[t - 1, 1:] + step[1:]
    zoom = np.exp(total[:, 0] - total[:, 0].min())
    return CameraPath(zoom, total[:, 1] / WORK_HEIGHT, total[:, 2] / WORK_HEIGHT)


def _align(
    before: np.ndarray, after: np.ndarray, free: np.ndarray, grid: tuple, guess: np.ndarray
) -> np.ndarray:
    """Log zoom and shifts with after(exp(zoom) * p + shift) = before(p), starting at a guess."""
    x, y = grid
    half_x, half_y = (before.shape[1] - 1) / 2, (before.shape[0] - 1) / 2
    slope_x, slope_y = np.gradient(before, axis=1), np.gradient(before, axis=0)
    columns = np.stack([slope_x * x + slope_y * y, slope_x, slope_y], axis=-1)
    flat = columns.reshape(-1, 3).astype(np.float64)
    motion = guess.copy()
    for _ in range(ROUNDS):
        growth = np.exp(motion[0])
        at_x = (growth * x + motion[1] + half_x).astype(np.float32)
        at_y = (growth * y + motion[2] + half_y).astype(np.float32)
        seen = cv2.remap(after, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = (at_x >= 0) & (at_x <= 2 * half_x) & (at_y >= 0) & (at_y <= 2 * half_y)
        difference = seen - before
        use = free & inside
        # Shadows and what things uncover do not move with the background: Tukey's weights.
        typical = np.median(np.abs(difference[use])) if use.any() else 0.0
        limit = max(OUTLIER_FACTOR * typical, OUTLIER_MIN)
        weight = np.where(use, np.clip(1 - np.square(difference / limit), 0, 1) ** 2, 0)
        weighted = flat * weight.reshape(-1, 1)
        # A little weight on staying keeps what the picture does not say (along stripes) at rest.
        normal = weighted.T @ flat + STAY * np.diag([half_y**2, 1, 1])
        motion -= np.linalg.solve(normal, weighted.T @ difference.reshape(-1))
    return motion
