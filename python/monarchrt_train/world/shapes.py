"""Shapes as signed distances, negative inside. A shape's radius is that of the circle of its area.

The formulas below draw each shape in its own handy size; `geometry` measures area and centroid
once, and `distance` gives the shape with area pi around its centroid.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

MEASURE_CELLS = 512  # grid cells per side for `geometry`
MEASURE_HALF = 2.0
SUPPORT_ANGLES = 360


def _box(x: Tensor, y: Tensor, half_x: float, half_y: float) -> Tensor:
    dx, dy = x.abs() - half_x, y.abs() - half_y
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return outside + torch.maximum(dx, dy).clamp(max=0)


def _segment(x: Tensor, y: Tensor, a: tuple[float, float], b: tuple[float, float]) -> Tensor:
    """Distance to the segment from a to b, negative on its left seen from a (y points down)."""
    ex, ey = b[0] - a[0], b[1] - a[1]
    px, py = x - a[0], y - a[1]
    along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0, 1)
    side = torch.sign(px * ey - py * ex)
    return -side * torch.hypot(px - along * ex, py - along * ey)


def _spikes(x: Tensor, y: Tensor, spikes: int, inner: float) -> Tensor:
    """A star with its tips at radius 1, one of them up, and its valleys at radius `inner`."""
    half = math.pi / spikes
    angle = torch.atan2(x, -y)  # 0 is up
    folded = (angle + half) % (2 * half) - half
    radius = torch.hypot(x, y)
    across, up = radius * torch.sin(folded.abs()), radius * torch.cos(folded)
    valley = (inner * math.sin(half), inner * math.cos(half))
    return _segment(across, up, (0.0, 1.0), valley)


def _ball(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.85, 0.85) - 0.15


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return _spikes(x, y, 3, 0.5) - 0.14


def _star(x: Tensor, y: Tensor) -> Tensor:
    return _spikes(x, y, 5, 0.46) - 0.07


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner with a disc on each of its upper sides."""
    side = 0.9
    c = math.sqrt(0.5)
    tilted = _box(c * (x + y), c * (x - y), side, side)
    disc = torch.hypot(x.abs() - c * side, y + c * side) - side
    return torch.minimum(tilted, disc)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.74).abs() - 0.26


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95)) - 0.06


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 1, 0.82 - torch.hypot(x - 0.55, y))


_DRAWN = {
    "ball": _ball,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "moon": _moon,
}


@dataclass(frozen=True)
class Geometry:
    """How the drawn shape maps to the one of area pi around its centroid, and how far it goes."""

    scale: float  # normalised = drawn / scale
    centre_x: float  # drawn
    centre_y: float
    extent: float  # largest distance of the normalised shape from its centroid
    support: np.ndarray  # [SUPPORT_ANGLES] how far it goes downwards when turned by each angle

    def below(self, angle: np.ndarray) -> np.ndarray:
        """How far the shape, turned by these angles, goes below its centroid."""
        turns = np.asarray(angle) / (2 * np.pi) * SUPPORT_ANGLES
        return np.interp(turns, np.arange(SUPPORT_ANGLES), self.support, period=SUPPORT_ANGLES)


@cache
def geometry(shape: str) -> Geometry:
    """Measures a shape on a grid."""
    cell = 2 * MEASURE_HALF / MEASURE_CELLS
    axis = (torch.arange(MEASURE_CELLS, dtype=torch.float64) + 0.5) * cell - MEASURE_HALF
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    distance = _DRAWN[shape](x, y)
    weight = (0.5 - distance / cell).clamp(0, 1)
    area = float(weight.sum()) * cell * cell
    centre_x = float((weight * x).sum() / weight.sum())
    centre_y = float((weight * y).sum() / weight.sum())
    scale = math.sqrt(area / math.pi)
    edge = (distance.abs() < cell).numpy()
    px, py = (x.numpy()[edge] - centre_x) / scale, (y.numpy()[edge] - centre_y) / scale
    turn = np.arange(SUPPORT_ANGLES) * (2 * np.pi / SUPPORT_ANGLES)
    support = np.max(np.outer(np.sin(turn), px) + np.outer(np.cos(turn), py), axis=1)
    return Geometry(scale, centre_x, centre_y, float(np.hypot(px, py).max()), support)


def distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to the shape of area pi around its centroid, at any points."""
    g = geometry(shape)
    return _DRAWN[shape](x * g.scale + g.centre_x, y * g.scale + g.centre_y) / g.scale


def blended(own: Tensor, shape: str, x: Tensor, y: Tensor, share: Tensor | float) -> Tensor:
    """Signed distances `own`, and those to another shape at the same points, mixed: an outline
    between both."""
    return own + share * (distance(shape, x, y) - own)
