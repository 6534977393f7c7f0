"""Colourful things against muted backgrounds: blobs of one colour, frame by frame."""

from dataclasses import dataclass

import cv2
import numpy as np

# The largest minus the smallest of red, green, blue that makes a pixel colourful.
CHROMA_MIN = 68
AREA_MIN = 0.006  # of the frame's height squared; a small thing has 0.028
SECOND_COLOR_SHARE = 0.25  # of a connected region, from which on it holds two things
ERODED_SHARE = 0.3  # of a region's radius that its colour is not read from

# Hue in degrees where each colour begins; they are half way between the colours' usual hues.
HUE_BEGINS = {
    "red": 345,
    "orange": 14,
    "yellow": 40,
    "green": 92,
    "cyan": 161,
    "blue": 207,
    "purple": 249,
    "pink": 302,
}


@dataclass(frozen=True, eq=False)  # a blob equals itself alone: masks do not compare
class Blob:
    """A connected region of one colour. Lengths in pixels."""

    color: str
    mask: np.ndarray  # bool [h, w], its bounding box
    left: int
    top: int
    x: float  # centroid in the frame
    y: float
    area: float
    touches_border: bool


def color_numbers(frame: np.ndarray) -> np.ndarray:
    """int [H, W]: the index in HUE_BEGINS of each pixel's hue."""
    hue = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0]
    begins = list(HUE_BEGINS.values())  # red's comes last on the circle
    return (np.searchsorted(begins[1:] + begins[:1], hue, side="right")) % len(begins)


def blobs(frame: np.ndarray) -> list[Blob]:
    """The blobs of a frame uint8 [H, W, 3]."""
    soft = cv2.GaussianBlur(frame, (0, 0), 0.8)
    red, green, blue = cv2.split(soft)
    highest, lowest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    colorful = cv2.subtract(highest, lowest) > CHROMA_MIN
    regions = cv2.morphologyEx(colorful.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    count, numbers, boxes, _ = cv2.connectedComponentsWithStats(regions, connectivity=4)
    area_min = AREA_MIN * frame.shape[0] ** 2
    found: list[Blob] = []
    for n in range(1, count):
        left, top, width, height, area = boxes[n]
        if area < area_min:
            continue
        box = np.s_[top : top + height, left : left + width]
        mask = numbers[box] == n
        for color, part in _by_color(mask, color_numbers(soft[box]), area_min):
            found.append(_blob(color, part, left, top, frame.shape[:2]))
    return found


def _by_color(mask: np.ndarray, colors: np.ndarray, area_min: float) -> list:
    """(colour, mask) of the things in a region: one, or one for each colour with a large share."""
    names = list(HUE_BEGINS)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    inner = depth > ERODED_SHARE * depth.max()
    shares = np.bincount(colors[inner], minlength=len(names)) / inner.sum()
    large = [i for i in range(len(names)) if shares[i] >= SECOND_COLOR_SHARE]
    if len(large) < 2:
        return [(names[int(shares.argmax())], mask)]
    parts = []
    for i in large:
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats(
            (mask & (colors == i)).astype(np.uint8), connectivity=4
        )
        best = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax()) if count > 1 else 0
        if best and boxes[best, cv2.CC_STAT_AREA] >= area_min:
            parts.append((names[i], numbers == best))
    return parts or [(names[int(shares.argmax())], mask)]


def _blob(color: str, mask: np.ndarray, left: int, top: int, size: tuple[int, int]) -> Blob:
    rows, columns = np.nonzero(mask)
    touches = (
        top + rows.min() <= 0
        or left + columns.min() <= 0
        or top + rows.max() >= size[0] - 1
        or left + columns.max() >= size[1] - 1
    )
    return Blob(
        color=color,
        mask=mask,
        left=int(left),
        top=int(top),
        x=float(left + columns.mean()),
        y=float(top + rows.mean()),
        area=float(mask.sum()),
        touches_border=bool(touches),
    )
