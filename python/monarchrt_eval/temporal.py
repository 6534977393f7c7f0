"""How steady a video is, without asking what it shows.

Frames are uint8 [T, H, W, 3]; differences are in shares of white.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Steadiness:
    warp_error: float
    lost: float
    flicker: float
    sharpness: float
    colorfulness: float


def grays(frames: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W]."""
    return np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames])


def _sample(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """image [H, W, ...] at p + flow(p), flow [H, W, 2] in pixels."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    at_x, at_y = x + flow[..., 0], y + flow[..., 1]
    return cv2.remap(image, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _follows(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """bool [H, W]: the pixels that come back where they were, after forward and backward flow.

    Sundaram, Brox and Keutzer 2010, equation 5. What leaves the frame does not follow.
    """
    height, width = forward.shape[:2]
    back = _sample(backward, forward)
    squares = np.square(forward).sum(-1) + np.square(back).sum(-1)
    y, x = np.mgrid[:height, :width]
    x, y = x + forward[..., 0], y + forward[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside & (np.square(forward + back).sum(-1) < 0.01 * squares + 0.5)


def warp_error(frames: np.ndarray) -> tuple[float, float]:
    """How far a frame is from the next one once that is moved back along the optical flow.

    The mean absolute difference over the pixels that can be followed (Lai et al. 2018, arXiv
    1808.00449, with absolute values instead of squares), and the share of pixels that cannot.
    The flow is DIS (Kroeger et al. 2016, arXiv 1603.03590).
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = grays(frames)
    errors, lost = [], []
    for t in range(len(frames) - 1):
        forward = flow.calc(gray[t], gray[t + 1], None)
        follows = _follows(forward, flow.calc(gray[t + 1], gray[t], None))
        moved = _sample(frames[t + 1], forward).astype(np.float32)
        difference = np.abs(moved - frames[t].astype(np.float32)).mean(-1) / 255
        errors.append(difference[follows].mean() if follows.any() else difference.mean())
        lost.append(1 - follows.mean())
    return float(np.mean(errors)), float(np.mean(lost))


def flicker(frames: np.ndarray) -> float:
    """Mean of |x[t-1] - 2 x[t] + x[t+1]| / 2 over the grey values: 0 at rest and in a steady fade.

    Motion shows in it, too: compare it with that of real video.
    """
    gray = grays(frames).astype(np.float32) / 255
    return float(np.abs(gray[:-2] - 2 * gray[1:-1] + gray[2:]).mean() / 2)


def sharpness(frames: np.ndarray) -> float:
    """Mean absolute difference of neighbouring grey values."""
    gray = grays(frames).astype(np.float32) / 255
    return float((np.abs(np.diff(gray, axis=1)).mean() + np.abs(np.diff(gray, axis=2)).mean()) / 2)


def colorfulness(frames: np.ndarray) -> float:
    """Mean distance of the largest from the smallest of red, green and blue."""
    return float((frames.max(-1).astype(np.float32) - frames.min(-1)).mean() / 255)


def steadiness(frames: np.ndarray) -> Steadiness:
    """All of them, of at least 3 frames."""
    error, lost = warp_error(frames)
    return Steadiness(error, lost, flicker(frames), sharpness(frames), colorfulness(frames))
