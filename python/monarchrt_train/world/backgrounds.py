"""Backgrounds: a wall with a gentle texture and a floor, in muted colours.

The largest minus the smallest of red, green and blue stays under 0.2 here, things have 0.4 and
more: that keeps every thing apart from every background.

A painter takes world coordinates x, y [n, frames, height, width], the size of a pixel in world
units and the variant's three numbers [n, 1, 1, 1]; it gives three planes of 0..1.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from monarchrt_train.world.scene import FLOOR_Y

Color = tuple[float, float, float]
Planes = list[Tensor]  # red, green, blue


def rgb(hexadecimal: str) -> Color:
    """'#ff8000' -> (1.0, 0.5, 0.0)"""
    value = int(hexadecimal.removeprefix("#"), 16)
    return ((value >> 16) / 255, (value >> 8 & 255) / 255, (value & 255) / 255)


def _mix(below: Planes | Color, above: Planes | Color, weight: Tensor) -> Planes:
    return [b + (a - b) * weight for b, a in zip(below, above, strict=True)]


def _scale(planes: Planes | Color, factor: Tensor) -> Planes:
    return [p * factor for p in planes]


def _inside(distance: Tensor, pixel: Tensor) -> Tensor:
    """Share of a pixel on the negative side of an edge."""
    return (0.5 - distance / pixel).clamp(0, 1)


def _smooth(value: Tensor, low: float, high: float) -> Tensor:
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _centred(value: Tensor, period: float) -> Tensor:
    """Distance from the middle of the period that holds the value."""
    return (torch.remainder(value, period) - period / 2).abs()


def _floor(wall: Planes, y: Tensor, pixel: Tensor, color: Color, foot: float = 0.16) -> Planes:
    """The wall with a floor of this colour; the wall darkens by `foot` where they meet."""
    near = torch.exp(-(FLOOR_Y - y).clamp(min=0) / 0.05)
    wall = _scale(wall, 1 - foot * near)
    depth = ((y - FLOOR_Y) / (1 - FLOOR_Y)).clamp(0, 1)
    return _mix(wall, _scale(color, 0.90 + 0.14 * depth), _inside(FLOOR_Y - y, pixel))


def _brick(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    width, height, joint = 0.26, 0.13, 0.008
    row = torch.floor(y / height)
    along = x + v[0] * width + (width / 2) * torch.remainder(row, 2)
    edge = torch.maximum(_centred(along, width) - width / 2, _centred(y, height) - height / 2)
    tone = 0.05 * torch.sin(2.3 * torch.floor(along / width) + 3.9 * row + 6.28 * v[2])
    bricks = _scale(rgb("#a08078"), 1 + tone)
    return _floor(
        _mix(rgb("#c0b2aa"), bricks, _inside(edge + joint, pixel)), y, pixel, rgb("#8e7f78")
    )


def _wood(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    width = 0.21
    along = x + v[0] * width
    plank = torch.floor(along / width)
    bend = 0.5 * torch.sin(4.1 * y + 2.2 * plank + 6.28 * v[2])
    grain = torch.sin(62 * along + 3.0 * bend + 1.7 * plank) * 0.018
    tone = 0.045 * torch.sin(2.7 * plank + 6.28 * v[2]) + grain
    seam = _inside(_centred(along, width) - width / 2 + 0.006, pixel)
    wall = _mix(rgb("#94826c"), _scale(rgb("#ccb698"), 1 + tone), seam)
    return _floor(wall, y, pixel, rgb("#a8967c"))


def _sky(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    shift = x + 7 * v[0]
    field = (
        torch.sin(3.7 * shift + 1.9 * torch.sin(6.1 * y + 6.28 * v[2]))
        + torch.sin(8.6 * y + 1.3 * torch.sin(4.4 * shift) + 6.28 * v[2])
        + 0.35 * torch.sin(14.3 * shift + 9.0 * y)
    )
    clouds = _smooth(field, 0.45, 1.15)
    high = ((FLOOR_Y - y) / FLOOR_Y).clamp(-0.5, 1.5)
    air = _mix(rgb("#c2d6e6"), rgb("#a0bcd2"), high)
    wall = _mix(air, rgb("#f4f6f8"), 0.9 * clouds)
    return _floor(wall, y, pixel, rgb("#b4bec4"), foot=0.0)


def _night(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    cell = 0.17
    shift = x + v[0] * cell
    column, row = torch.floor(shift / cell), torch.floor(y / cell)
    pattern = 2.4 * column + 4.1 * row + 6.28 * v[2]
    from_x = shift - (column + 0.5 + 0.28 * torch.sin(pattern)) * cell
    from_y = y - (row + 0.5 + 0.28 * torch.cos(1.7 * pattern)) * cell
    size = 0.0065 + 0.003 * torch.sin(3.1 * pattern)
    star = 0.95 * torch.exp(-0.5 * (from_x.square() + from_y.square()) / size.square())
    high = ((FLOOR_Y - y) / FLOOR_Y).clamp(-0.5, 1.5)
    air = _mix(rgb("#2e3250"), rgb("#14172c"), high)
    return _floor(_mix(air, rgb("#f0f0e6"), star), y, pixel, rgb("#3a3c48"), foot=0.0)


def _hills(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    shift = x + 9 * v[0]
    far = 0.48 + 0.07 * torch.sin(3.1 * shift + 6.28 * v[2]) + 0.03 * torch.sin(7.3 * shift)
    near = 0.63 + 0.06 * torch.sin(4.3 * shift + 2.0) + 0.02 * torch.sin(9.7 * shift + 6.28 * v[2])
    high = ((0.6 - y) / 0.6).clamp(0, 1.5)
    air = _mix(rgb("#f0ece0"), rgb("#dde2de"), high)
    planes = _mix(air, _scale(rgb("#b6c6ac"), 1.02 - 0.3 * (y - far)), _inside(far - y, pixel))
    planes = _mix(planes, _scale(rgb("#98ae90"), 1.02 - 0.4 * (y - near)), _inside(near - y, pixel))
    return _floor(planes, y, pixel, rgb("#869e80"), foot=0.06)


def _dots(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    cell, radius = 0.20, 0.042
    row = torch.floor(y / cell)
    along = x + v[0] * cell + (cell / 2) * torch.remainder(row, 2)
    distance = torch.hypot(
        torch.remainder(along, cell) - cell / 2, torch.remainder(y, cell) - cell / 2
    )
    wall = _mix(rgb("#f0e2da"), rgb("#b6a29a"), _inside(distance - radius, pixel))
    return _floor(wall, y, pixel, rgb("#d2c2ba"))


def _stripes(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    period = 0.24
    stripe = _inside(_centred(x + v[0] * period, period) - period / 4, pixel)
    return _floor(_mix(rgb("#cfc6da"), rgb("#aba0bc"), stripe), y, pixel, rgb("#9a92a8"))


def _checker(x: Tensor, y: Tensor, pixel: Tensor, v: Planes) -> Planes:
    cell = 0.16
    to_x = _centred(x + v[0] * 2 * cell, 2 * cell) - cell / 2
    to_y = _centred(y, 2 * cell) - cell / 2
    across, down = _inside(to_x, pixel), _inside(to_y, pixel)
    odd = across + down - 2 * across * down
    return _floor(_mix(rgb("#8c8f92"), rgb("#64676a"), odd), y, pixel, rgb("#777a7d"))


_PAINTERS: dict[str, Callable[[Tensor, Tensor, Tensor, Planes], Planes]] = {
    "brick": _brick,
    "wood": _wood,
    "sky": _sky,
    "night": _night,
    "hills": _hills,
    "dots": _dots,
    "stripes": _stripes,
    "checker": _checker,
}


def paint(background: str, x: Tensor, y: Tensor, pixel: Tensor, variant: Planes) -> Planes:
    """Three planes, broadcast over [n, frames, height, width], of this background."""
    planes = _PAINTERS[background](x, y, pixel, variant)
    light = 1 + 0.03 * torch.sin(2 * math.pi * variant[1])
    return [(p * light).clamp(0, 1) for p in planes]
