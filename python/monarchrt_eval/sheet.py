"""A contact sheet: frames of the same prompt, a strip for each row of the table."""

from dataclasses import dataclass

import cv2
import numpy as np

COLUMNS = 5
HEIGHT = 96  # pixels of a frame
MARGIN = 3
LABEL_WIDTH = 130
TITLE_HEIGHT = 22
INK = (20, 20, 20)


@dataclass(frozen=True)
class Strip:
    name: str
    frames: np.ndarray  # uint8 [T, H, W, 3]


def _text(image: np.ndarray, text: str, y: int, width: int) -> None:
    """Writes what fits into `width` pixels."""
    font, scale, shown = cv2.FONT_HERSHEY_SIMPLEX, 0.42, text
    while text and cv2.getTextSize(shown, font, scale, 1)[0][0] > width - 2 * MARGIN:
        text = text[:-1]
        shown = text + "..."
    cv2.putText(image, shown, (MARGIN, y), font, scale, INK, 1, cv2.LINE_AA)


def _strip(strip: Strip) -> np.ndarray:
    """uint8 [HEIGHT + MARGIN, width, 3]: the name, then COLUMNS frames spread over the clip."""
    picked = np.linspace(0, len(strip.frames) - 1, COLUMNS).round().astype(int)
    height, width = strip.frames.shape[1:3]
    size = (round(HEIGHT * width / height), HEIGHT)
    step = size[0] + MARGIN
    image = np.full((HEIGHT + MARGIN, LABEL_WIDTH + COLUMNS * step, 3), 255, np.uint8)
    _text(image, strip.name, HEIGHT // 2, LABEL_WIDTH)
    for column, t in enumerate(picked):
        left = LABEL_WIDTH + column * step
        small = cv2.resize(strip.frames[t], size, interpolation=cv2.INTER_AREA)
        image[:HEIGHT, left : left + size[0]] = small
    return image


def draw_sheet(groups: list[tuple[str, list[Strip]]]) -> np.ndarray:
    """uint8 [height, width, 3] of prompts with their strips, all of one frame size."""
    parts = []
    for title, strips in groups:
        pictures = [_strip(strip) for strip in strips]
        head = np.full((TITLE_HEIGHT, pictures[0].shape[1], 3), 255, np.uint8)
        _text(head, title, TITLE_HEIGHT - 7, head.shape[1])
        parts += [head, *pictures]
    return np.concatenate(parts)
