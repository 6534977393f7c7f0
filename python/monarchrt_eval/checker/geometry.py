"""The masks of things as polar occupancy: what turning does not change, and how far it turned.

An occupancy [RADII, ANGLES] says which share of each cell around the centroid is covered; radii are
in units of the radius of the circle with the mask's area.
"""

from collections.abc import Callable

import cv2
import numpy as np

RADII = 14
ANGLES = 128
RADIUS_MAX = 1.75  # the longest corner of the shapes below reaches 1.6
DRAWN_RADIUS_PX = 64  # of the templates


def occupancy(mask: np.ndarray, centre_x: float, centre_y: float, area: float) -> np.ndarray:
    """Samples a mask [h, w] of 0..1 on the polar grid; centre in its pixels."""
    radius = (np.arange(RADII) + 0.5) / RADII * RADIUS_MAX * np.sqrt(area / np.pi)
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    x = (centre_x + np.outer(radius, np.cos(angle))).astype(np.float32)
    y = (centre_y + np.outer(radius, np.sin(angle))).astype(np.float32)
    return cv2.remap(mask.astype(np.float32), x, y, cv2.INTER_LINEAR, borderValue=0.0)


def spectrum(cells: np.ndarray) -> np.ndarray:
    """[RADII, 13]: mean and the first 12 harmonics over the angle, the same for every rotation."""
    harmonics = np.abs(np.fft.rfft(cells, axis=1))[:, :13] / ANGLES
    harmonics[:, 1:] *= 2
    weight = np.sqrt(np.arange(RADII) + 0.5)[:, None]  # a cell's area grows with its radius
    return harmonics * weight


def turn(before: np.ndarray, after: np.ndarray) -> float:
    """Radians, clockwise, that best turn one occupancy into the next; at most an eighth turn."""
    product = np.conj(np.fft.rfft(before, axis=1)) * np.fft.rfft(after, axis=1)
    match = np.fft.irfft((product * (np.arange(RADII) + 0.5)[:, None]).sum(axis=0), ANGLES)
    reach = ANGLES // 8
    near = np.roll(match, reach)[: 2 * reach + 1]
    best = int(near.argmax())
    shift = float(best - reach)
    if 0 < best < 2 * reach:  # the top of the parabola through three points
        left, top, right = near[best - 1 : best + 2]
        curve = left - 2 * top + right
        if curve < 0:
            shift += 0.5 * (left - right) / curve
    return shift * 2 * np.pi / ANGLES


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


def _regular(corners: int, inner: float = 1.0) -> np.ndarray:
    """A regular polygon, or a star with valleys at `inner`."""
    radius = np.tile([1.0, inner], corners)
    angle = np.arange(2 * corners) * np.pi / corners - np.pi / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _filled(points: np.ndarray) -> np.ndarray:
    image = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(image, [np.round(256 + points * 110).astype(np.int32)], 255)
    return image


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    image = np.zeros((512, 512), np.uint8)
    cv2.circle(image, (round(256 + x * 110), round(256 + y * 110)), round(radius * 110), 255, -1)
    return image


def _rounded(image: np.ndarray, radius_px: int) -> np.ndarray:
    """Without corners sharper than this radius."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1,) * 2)
    return cv2.morphologyEx(image, cv2.MORPH_OPEN, kernel)


def _cross() -> np.ndarray:
    a, b = 1.0, 0.33
    return _polygon(
        *((-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b)),
        *((b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)),
    )


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([16 * np.sin(t) ** 3, y], axis=1) / 16


# What the names mean to the checker, drawn on its own.
_DRAWINGS: dict[str, Callable[[], np.ndarray]] = {
    "ball": lambda: _disc(0, 0, 1),
    "square": lambda: _rounded(_filled(_polygon((-1, -1), (1, -1), (1, 1), (-1, 1))), 12),
    "triangle": lambda: _rounded(_filled(_regular(3, 0.5)), 12),
    "star": lambda: _rounded(_filled(_regular(5, 0.48)), 6),
    "heart": lambda: _filled(_heart()),
    "ring": lambda: cv2.subtract(_disc(0, 0, 1), _disc(0, 0, 0.5)),
    "cross": lambda: _filled(_cross()),
    "moon": lambda: cv2.subtract(_disc(0, 0, 1), _disc(0.55, 0, 0.82)),
}


def _template(image: np.ndarray) -> np.ndarray:
    moments = cv2.moments(image, binaryImage=True)
    area = moments["m00"]
    scale = DRAWN_RADIUS_PX / np.sqrt(area / np.pi)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) / 255.0
    centre = [(moments[m] / area + 0.5) * scale - 0.5 for m in ("m10", "m01")]
    return spectrum(occupancy(small, *centre, np.pi * DRAWN_RADIUS_PX**2))


TEMPLATES = {name: _template(draw()) for name, draw in _DRAWINGS.items()}


def name_shape(cells: list[np.ndarray]) -> str:
    """The shape whose spectrum is nearest to the mean one of these occupancies."""
    mean = np.mean([spectrum(c) for c in cells], axis=0)
    return min(TEMPLATES, key=lambda name: float(np.square(mean - TEMPLATES[name]).sum()))
