"""Scenes to pixels, in PyTorch: the same code on a CPU and on a GPU.

A batch is painted in layers (background, shadows, strings, things). Every layer works at once on
all scenes of the batch that share a background or an outline, so the number of kernel launches
does not grow with the batch. Pixels are sampled from signed distances, so any size shows the same
picture.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monarchrt_train.world import backgrounds, shapes
from monarchrt_train.world.backgrounds import rgb
from monarchrt_train.world.motion import CameraTrack, Track, camera_track, thing_track
from monarchrt_train.world.scene import (
    ASPECT,
    COLORS,
    COUNTS,
    FRAMES_PER_S,
    GROUND_Y,
    MOTIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
)

COLOR_RGB = {
    "red": rgb("#dc2828"),
    "orange": rgb("#fa800e"),
    "yellow": rgb("#fcd514"),
    "green": rgb("#1cae3e"),
    "cyan": rgb("#14c0d2"),
    "blue": rgb("#2452dc"),
    "purple": rgb("#8028cc"),
    "pink": rgb("#fa64b0"),
}
STRING_RGB = rgb("#8c8880")
STRING_HALF_WIDTH = 0.004
SHADOW_DARKNESS = 0.42
SHADOW_HALF_HEIGHT = 0.022
MARK_TONE = 0.66  # the bands that show how a ball or a ring turns
LIGHT_X, LIGHT_Y = -0.5, -0.7  # towards the light, on the screen

# Pixels painted at once: on a CPU temporaries should stay in its caches, on a GPU in its memory.
PIXELS_MAX = {"cpu": 1 << 18, "cuda": 1 << 28}

# Shades of a layer: coverage [n, t, h, w] and three planes that broadcast to it.
Shade = tuple[Tensor, list[Tensor | float]]


@dataclass(frozen=True)
class _Placed:
    """A thing of scene number `scene`, its place in that scene's frames in pixels."""

    scene: int
    thing: Thing
    track: Track
    camera: CameraTrack


class _Canvas:
    """Frames [3, scenes, frames, height, width] in 0..1 that layers are stamped on."""

    def __init__(
        self, scenes: int, frames: int, size: Sequence[int], device: torch.device | str
    ) -> None:
        self.frames, (self.height, self.width), self.device = frames, size, device
        self.pixels = torch.empty(3, scenes, frames, *size, device=device)

    def tensor(self, rows: Sequence[np.ndarray | float]) -> Tensor:
        """[n, frames or 1, 1, 1] from one row or number for each of n things."""
        table = np.stack([np.atleast_1d(np.asarray(r, np.float32)) for r in rows])
        return torch.from_numpy(table).to(self.device)[:, :, None, None]

    def world(
        self, camera: Sequence[CameraTrack], column: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """World x and y of pixels given by column and row, and a pixel's size there."""
        zoom = self.tensor([c.zoom for c in camera])
        x = self.tensor([c.x for c in camera]) + ((column + 0.5) / self.width - 0.5) * ASPECT / zoom
        y = self.tensor([c.y for c in camera]) + ((row + 0.5) / self.height - 0.5) / zoom
        return x, y, 1 / (self.height * zoom)

    def stamp(
        self,
        placed: Sequence[_Placed],
        centre: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
        half: tuple[float, float],
        shade: Callable[[Tensor, Tensor, Tensor], Shade],
    ) -> None:
        """Blends `shade(x, y, pixel)` over the boxes of half size `half` around world points.

        The things must be of different scenes. Boxes are moved into the frame, so they
        hold all of a thing that shows.
        """
        cameras = [p.camera for p in placed]
        zoom_max = max(float(c.zoom.max()) for c in cameras)
        box_w = min(self.width, int(2 * half[0] * zoom_max / ASPECT * self.width) + 4)
        box_h = min(self.height, int(2 * half[1] * zoom_max * self.height) + 4)
        left, top = [], []
        for c, x, y in zip(cameras, *centre, strict=True):
            column = ((x - c.x) * c.zoom / ASPECT + 0.5) * self.width
            row = ((y - c.y) * c.zoom + 0.5) * self.height
            left.append(np.clip(np.floor(column - box_w / 2), 0, self.width - box_w))
            top.append(np.clip(np.floor(row - box_h / 2), 0, self.height - box_h))
        columns = self.tensor(left) + torch.arange(box_w, device=self.device)
        rows = self.tensor(top) + torch.arange(box_h, device=self.device)[:, None]
        coverage, planes = shade(*self.world(cameras, columns, rows))
        number = torch.tensor([p.scene for p in placed], device=self.device)[:, None, None, None]
        frame = number * self.frames + torch.arange(self.frames, device=self.device)[:, None, None]
        index = (frame * self.height + rows.long()) * self.width + columns.long()
        for plane, color in zip(self.pixels.view(3, -1), planes, strict=True):
            below = plane[index]
            plane[index] = below + (color - below) * coverage


def _paint_backgrounds(
    canvas: _Canvas, scenes: Sequence[Scene], cameras: Sequence[CameraTrack], numbers: list[int]
) -> None:
    """The backgrounds of these scenes of the batch."""
    groups = defaultdict(list)
    for number in numbers:
        groups[scenes[number].background].append(number)
    column = torch.arange(canvas.width, device=canvas.device)
    row = torch.arange(canvas.height, device=canvas.device)[:, None]
    for background, group in groups.items():
        x, y, pixel = canvas.world([cameras[n] for n in group], column, row)
        variant = [canvas.tensor([scenes[n].variant[i] for n in group]) for i in range(3)]
        for channel, plane in enumerate(backgrounds.paint(background, x, y, pixel, variant)):
            canvas.pixels[channel, group] = plane


def _still_backgrounds(scenes: Sequence[Scene], size: tuple[int, int], device: str) -> Tensor:
    """[3, scenes, 1, height, width], undefined where the camera moves."""
    canvas = _Canvas(len(scenes), 1, size, device)
    cameras = [camera_track(scene, np.zeros(1)) for scene in scenes]
    still = [n for n, scene in enumerate(scenes) if scene.camera == "still"]
    _paint_backgrounds(canvas, scenes, cameras, still)
    return canvas.pixels


def _paint_shadows(canvas: _Canvas, placed: Sequence[_Placed]) -> None:
    """Soft ellipses on the ground, wider and fainter the higher the thing is above it."""
    bottoms, widths = [], []
    for p in placed:
        radius = SIZES[p.thing.size]
        bottoms.append(p.track.y + radius * shapes.geometry(p.thing.shape).below(p.track.angle))
        widths.append(radius)
    height = (GROUND_Y - canvas.tensor(bottoms)).clamp(min=0)
    half_width = canvas.tensor(widths) * (0.85 + 0.5 * height)
    half_height = SHADOW_HALF_HEIGHT * (1 + height)
    # Strongest where the thing touches the ground; none once it has fallen past it.
    passed = canvas.tensor([p.track.y for p in placed]) - GROUND_Y
    strength = (
        SHADOW_DARKNESS * torch.exp(-2.2 * height) * (1 - passed.clamp(min=0) / 0.1).clamp(min=0)
    )
    xs = canvas.tensor([p.track.x for p in placed])

    def shade(x: Tensor, y: Tensor, pixel: Tensor) -> Shade:
        radius2 = ((x - xs) / half_width).square() + ((y - GROUND_Y) / half_height).square()
        return strength * torch.exp(-radius2), [0.05, 0.05, 0.08]

    half = (max(widths) * 1.4 * 2.2, SHADOW_HALF_HEIGHT * 2 * 2.2)
    ground = [np.full_like(p.track.y, GROUND_Y) for p in placed]
    canvas.stamp(placed, ([p.track.x for p in placed], ground), half, shade)


def _paint_strings(canvas: _Canvas, placed: Sequence[_Placed]) -> None:
    """From (x, 0) and from above it down to the top of the thing."""
    pivot_x = canvas.tensor([p.thing.x for p in placed])
    swing = canvas.tensor([-p.track.angle for p in placed])
    tops = [
        np.hypot(p.track.x - p.thing.x, p.track.y)
        - SIZES[p.thing.size] * shapes.geometry(p.thing.shape).below(np.full_like(p.track.y, np.pi))
        for p in placed
    ]
    length = canvas.tensor(tops)

    def shade(x: Tensor, y: Tensor, pixel: Tensor) -> Shade:
        across = (x - pivot_x) * torch.cos(swing) - y * torch.sin(swing)
        along = (x - pivot_x) * torch.sin(swing) + y * torch.cos(swing)
        outside = torch.maximum(across.abs() - STRING_HALF_WIDTH, along - length - 0.01)
        return (0.5 - outside / pixel).clamp(0, 1), list(STRING_RGB)

    half = (max(p.thing.reach for p in placed) + 0.02, 0.5)
    middle = [np.full_like(p.track.y, 0.5) for p in placed]
    pivots = [np.full_like(p.track.y, p.thing.x) for p in placed]
    canvas.stamp(placed, (pivots, middle), half, shade)


def _marks(shape: str, x: Tensor, y: Tensor, pixel: Tensor) -> Tensor | float:
    """Tone of a shape's marks, in its own units: a ball has a band, a ring two dark parts."""
    if shape == "ball":
        band = (0.5 - (y.abs() - 0.3) / pixel).clamp(0, 1)
    elif shape == "ring":
        across = torch.maximum(-x * y, -y.abs())  # negative in two opposite quarters
        band = (0.5 - across / torch.hypot(x, y).clamp(min=0.1) / pixel).clamp(0, 1)
    else:
        return 1.0
    return 1 - (1 - MARK_TONE) * band


def _outline(canvas: _Canvas, placed: Sequence[_Placed]) -> Callable[[Tensor, Tensor], Tensor]:
    """Signed distances to things of one outline, at points in their own units and direction."""
    shape, blend = placed[0].thing.shape, placed[0].thing.blend
    if blend is None:
        return lambda x, y: shapes.distance(shape, x, y)
    share = canvas.tensor([p.thing.blend.share for p in placed])
    cos, sin = (canvas.tensor([f(p.thing.blend.turn) for p in placed]) for f in (np.cos, np.sin))

    def distance(x: Tensor, y: Tensor) -> Tensor:
        own = shapes.distance(shape, x, y)
        return shapes.blended(own, blend.shape, x * cos + y * sin, y * cos - x * sin, share)

    return distance


def _stamp_things(
    canvas: _Canvas, placed: Sequence[_Placed], shade: Callable[[Tensor, Tensor, Tensor], Shade]
) -> None:
    """`shade` over the boxes of things of one outline; x, y and pixel in units of a thing's radius,
    from its centre."""
    radius = canvas.tensor([SIZES[p.thing.size] for p in placed])
    xs = canvas.tensor([p.track.x for p in placed])
    ys = canvas.tensor([p.track.y for p in placed])

    def from_centre(x: Tensor, y: Tensor, pixel: Tensor) -> Shade:
        return shade((x - xs) / radius, (y - ys) / radius, pixel / radius)

    shape, blend = placed[0].thing.shape, placed[0].thing.blend
    outlines = [shapes.geometry(x) for x in (shape, *([blend.shape] if blend else []))]
    extent = max(SIZES[p.thing.size] for p in placed) * max(x.extent for x in outlines)
    tracks = ([p.track.x for p in placed], [p.track.y for p in placed])
    canvas.stamp(placed, tracks, (extent, extent), from_centre)


def _angles(canvas: _Canvas, placed: Sequence[_Placed]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of how far each thing is turned."""
    return tuple(canvas.tensor([f(p.track.angle) for p in placed]) for f in (np.cos, np.sin))


def _paint_things(canvas: _Canvas, placed: Sequence[_Placed]) -> None:
    shape, distance = placed[0].thing.shape, _outline(canvas, placed)
    cos, sin = _angles(canvas, placed)
    color = [canvas.tensor([COLOR_RGB[p.thing.color][i] for p in placed]) for i in range(3)]

    def shade(px: Tensor, py: Tensor, pixel: Tensor) -> Shade:
        local_x, local_y = px * cos + py * sin, py * cos - px * sin
        outside = distance(local_x, local_y)
        step_x, step_y = 0.06 * LIGHT_X, 0.06 * LIGHT_Y  # the slope towards the light
        towards = distance(
            local_x + step_x * cos + step_y * sin, local_y + step_y * cos - step_x * sin
        )
        slope = (towards - outside) / 0.06
        rim = (1 + outside / 0.42).clamp(0, 1)  # 1 at the edge, 0 inside
        light = 0.98 + 0.26 * rim * rim * slope + 0.10 * (px * LIGHT_X + py * LIGHT_Y)
        light = light * _marks(shape, local_x, local_y, pixel)
        gloss = 0.22 * torch.exp(-((px + 0.38).square() + (py + 0.50).square()) / 0.05)
        planes: list[Tensor | float] = []
        for c in color:
            lit = (c * light).clamp(0, 1)
            planes.append(lit + (1 - lit) * gloss)
        return (0.5 - outside / pixel).clamp(0, 1), planes

    _stamp_things(canvas, placed, shade)


def _mark_things(canvas: _Canvas, placed: Sequence[_Placed]) -> None:
    """Instead of colours, the numbers of `label_maps`."""
    shape, distance = placed[0].thing.shape, _outline(canvas, placed)
    cos, sin = _angles(canvas, placed)
    colors = canvas.tensor([1 + COLORS.index(p.thing.color) for p in placed])
    motions = canvas.tensor([1 + MOTIONS.index(p.thing.motion) for p in placed])

    def shade(px: Tensor, py: Tensor, pixel: Tensor) -> Shade:
        outside = distance(px * cos + py * sin, py * cos - px * sin)
        return (outside < 0).float(), [1.0 + SHAPES.index(shape), colors, motions]

    _stamp_things(canvas, placed, shade)


def _by_slot(
    scenes: Sequence[Scene], cameras: Sequence[CameraTrack], time_s: np.ndarray
) -> Iterator[list[_Placed]]:
    """The first things of all scenes, then the second ones: boxes of one scene may overlap."""
    for slot in range(max(COUNTS)):
        yield [
            _Placed(n, s.things[slot], thing_track(s.things[slot], s.camera, time_s), cameras[n])
            for n, s in enumerate(scenes)
            if len(s.things) > slot
        ]


def _by_outline(placed: Sequence[_Placed]) -> Iterable[list[_Placed]]:
    groups = defaultdict(list)
    for p in placed:
        blend = p.thing.blend
        groups[p.thing.shape, blend.shape if blend else ""].append(p)
    return groups.values()


def _paint(scenes: Sequence[Scene], still: Tensor, time_s: np.ndarray) -> Tensor:
    """uint8 [scenes, frames, 3, height, width]; `still` is that of `_still_backgrounds`."""
    canvas = _Canvas(len(scenes), len(time_s), still.shape[-2:], still.device)
    cameras = [camera_track(scene, time_s) for scene in scenes]
    canvas.pixels.copy_(still.expand_as(canvas.pixels))
    moving = [n for n, scene in enumerate(scenes) if scene.camera != "still"]
    _paint_backgrounds(canvas, scenes, cameras, moving)
    for placed in _by_slot(scenes, cameras, time_s):
        if placed:
            _paint_shadows(canvas, placed)
        if hanging := [p for p in placed if p.track.string]:
            _paint_strings(canvas, hanging)
        for group in _by_outline(placed):
            _paint_things(canvas, group)
    planes = canvas.pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
    return planes.permute(1, 2, 0, 3, 4)


@torch.no_grad()
def render(
    scenes: Sequence[Scene],
    size: tuple[int, int] = (240, 416),
    frames: int = 81,
    device: str = "cpu",
    first_frame: int = 0,
) -> Tensor:
    """uint8 [scenes, frames, 3, height, width] on `device`, 16 frames a second.

    A size (height, width) with another aspect shows the same world stretched.
    """
    height, width = size
    budget = PIXELS_MAX["cpu" if torch.device(device).type == "cpu" else "cuda"]
    frames_at_once = max(1, min(frames, budget // (height * width)))
    scenes_at_once = max(1, budget // (height * width * frames_at_once))
    video = torch.empty((len(scenes), frames, 3, height, width), dtype=torch.uint8, device=device)
    for s in range(0, len(scenes), scenes_at_once):
        part = scenes[s : s + scenes_at_once]
        still = _still_backgrounds(part, size, device)
        for f in range(0, frames, frames_at_once):
            stop = min(frames, f + frames_at_once)
            time_s = (first_frame + np.arange(f, stop, dtype=np.float64)) / FRAMES_PER_S
            video[s : s + len(part), f:stop] = _paint(part, still, time_s)
    return video


@torch.no_grad()
def label_maps(
    scenes: Sequence[Scene], size: tuple[int, int], frames: Sequence[float], device: str = "cpu"
) -> Tensor:
    """uint8 [scenes, frames, 3, height, width]: what the middle of every cell shows.

    0 where no thing is, else 1 + its place in SHAPES, COLORS and MOTIONS. `frames` are numbers of
    frames, which may lie between two of them.
    """
    time_s = np.asarray(frames, np.float64) / FRAMES_PER_S
    canvas = _Canvas(len(scenes), len(time_s), size, device)
    canvas.pixels.zero_()
    cameras = [camera_track(scene, time_s) for scene in scenes]
    for placed in _by_slot(scenes, cameras, time_s):
        for group in _by_outline(placed):
            _mark_things(canvas, group)
    return canvas.pixels.to(torch.uint8).permute(1, 2, 0, 3, 4)
