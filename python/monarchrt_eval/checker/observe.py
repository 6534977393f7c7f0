"""What a clip shows, from its pixels alone."""

import cv2
import numpy as np

from monarchrt_eval.checker.background import name_background
from monarchrt_eval.checker.camera import CameraPath, camera_path
from monarchrt_eval.checker.geometry import name_shape, occupancy, turn
from monarchrt_eval.checker.motion import Path, name_motion
from monarchrt_eval.checker.segment import Blob, blobs

PRESENT_SHARE = 0.2  # of the frames in which a thing must show to count
# Radius (of the circle with the thing's area, in heights) where medium and large begin.
SIZE_BEGINS = {"small": 0.0, "medium": 0.116, "large": 0.168}
FULL_SHARE = 0.8  # of its largest area; with less a thing that leaves the frame is not judged
SHAPE_FRAMES = 24  # that the shape is read from, at most

ROUND_SHAPES = ("ball", "ring")  # their outline does not tell how they turn

Track = dict[int, Blob]  # by frame


def tracks(found: list[list[Blob]]) -> list[Track]:
    """Things: the blobs of one colour, as many of them as show at once in enough frames."""
    least = PRESENT_SHARE * len(found)
    things: list[Track] = []
    for color in sorted({b.color for frame in found for b in frame}):
        frames = [[b for b in frame if b.color == color] for frame in found]
        most = max(len(f) for f in frames)
        at_once = [n for n in range(1, most + 1) if sum(len(f) >= n for f in frames) >= least]
        if at_once:
            things += _linked(frames, max(at_once))
    return things


def _linked(frames: list[list[Blob]], count: int) -> list[Track]:
    """Gives each frame's largest blobs to the nearest of `count` tracks."""
    linked: list[Track] = [{} for _ in range(count)]
    last: list[Blob | None] = [None] * count
    for t, frame in enumerate(frames):
        free = sorted(frame, key=lambda b: -b.area)[:count]
        order = sorted(range(count), key=lambda i: last[i] is None)
        for i in order:
            if not free:
                break
            best = min(free, key=lambda b: _distance(last[i], b))
            free.remove(best)
            linked[i][t] = last[i] = best
    return linked


def _distance(before: Blob | None, now: Blob) -> float:
    return 0.0 if before is None else (before.x - now.x) ** 2 + (before.y - now.y) ** 2


def _whole(track: Track) -> list[int]:
    """The frames where the thing shows in full; all of them if there are hardly any."""
    inside = [t for t, b in track.items() if not b.touches_border]
    if len(inside) < 3:
        return sorted(track)
    # Of two kinds of frame, whole and partly hidden by another thing, the whole ones are larger.
    typical = float(np.percentile([track[t].area for t in inside], 75))
    return [t for t in sorted(inside) if track[t].area > FULL_SHARE * FULL_SHARE * typical]


def _cells(blob: Blob) -> np.ndarray:
    mask = cv2.copyMakeBorder(blob.mask.astype(np.float32), 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    return occupancy(mask, blob.x - blob.left + 2, blob.y - blob.top + 2, blob.area)


def _describe(track: Track, camera: CameraPath, size: tuple[int, int], rate: float) -> dict:
    """The labels of one thing; `size` is (height, width) in pixels, `rate` frames per second."""
    height, width = size
    frames = np.array(_whole(track))
    x = np.array([track[t].x + 0.5 for t in frames]) / height
    y = np.array([track[t].y + 0.5 for t in frames]) / height
    seen = CameraPath(camera.zoom[frames], camera.shift_x[frames], camera.shift_y[frames])
    scene_x, scene_y = seen.in_scene(x, y, width / height)
    cells = {t: _cells(track[t]) for t in frames}
    radius = float(
        np.median([np.sqrt(track[t].area / np.pi) / height / camera.zoom[t] for t in frames])
    )
    picked = np.linspace(0, len(frames) - 1, min(SHAPE_FRAMES, len(frames))).round().astype(int)
    shape = name_shape([cells[frames[i]] for i in picked])
    turning = shape not in ROUND_SHAPES
    turns = [turn(cells[t - 1], cells[t]) if turning and t - 1 in cells else np.nan for t in frames]
    size_name = [name for name, begin in SIZE_BEGINS.items() if radius >= begin][-1]
    color = next(iter(track.values())).color
    path = Path(frames, scene_x, scene_y, np.array(turns))
    return {"color": color, "shape": shape, "size": size_name} | name_motion(path, rate)


def observe(frames: np.ndarray, frames_per_s: float = 16.0) -> dict:
    """Names what frames uint8 [T, H, W, 3] show.

    {"count", "objects": [{"color", "shape", "size", "motion", "direction", "speed"}], "background",
    "camera"}; a motion that cannot be told is left out. Made for 81 frames or more: shorter
    clips show too little of a slow motion.
    """
    found = [blobs(frame) for frame in frames]
    things = np.zeros(frames.shape[:3], bool)
    for t, frame in enumerate(found):
        for blob in frame:
            rows, columns = blob.mask.shape
            things[t, blob.top : blob.top + rows, blob.left : blob.left + columns] |= blob.mask
    camera = camera_path(frames, things)
    size = frames.shape[1:3]
    objects = [_describe(track, camera, size, frames_per_s) for track in tracks(found)]
    return {
        "count": len(objects),
        "objects": objects,
        "background": name_background(frames, things),
        "camera": camera.name(),
    }
