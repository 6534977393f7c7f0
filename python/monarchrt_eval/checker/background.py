"""Names the background by colour and texture statistics of its wall."""

import cv2
import numpy as np

WALL_HEIGHT = 0.70  # of the frame; the floor lies below
FRAMES_USED = 5
TINY = 1e-3


def statistics(frame: np.ndarray, things: np.ndarray) -> np.ndarray:
    """[6] of frame uint8 [H, W, 3] without `things` bool [H, W].

    Mean L, a, b; then how much L varies from column to column, from row to row, and otherwise.
    """
    rows = round(WALL_HEIGHT * frame.shape[0])
    lab = cv2.cvtColor(frame[:rows].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    near = cv2.dilate(things[:rows].astype(np.uint8), np.ones((15, 15))) > 0
    free = ~near
    weight = free.astype(np.float64)
    light = lab[..., 0] * weight
    mean = lab[free].mean(axis=0) if free.any() else lab.reshape(-1, 3).mean(axis=0)
    across = light.sum(axis=0) / (weight.sum(axis=0) + TINY)
    down = light.sum(axis=1) / (weight.sum(axis=1) + TINY)
    flat = lab[..., 0] - across[None, :] - down[:, None] + mean[0]
    rest = float(flat[free].std()) if free.any() else 0.0
    return np.array([*mean, across.std(), down.std(), rest])


# Typical statistics of each background and how far they usually stray, measured on clips of
# seeds that neither training nor the validation uses: `python -m monarchrt_eval.checker measure`.
TYPICAL = {
    "brick": (60.1, 9.8, 8.6, 2.4, 5.1, 3.2),
    "wood": (73.7, 3.2, 17.8, 4.8, 0.3, 0.6),
    "sky": (82.2, -3.2, -9.7, 2.3, 2.1, 5.4),
    "night": (15.2, 6.2, -16.2, 1.5, 3.4, 5.5),
    "hills": (85.7, -4.5, 5.8, 1.7, 7.3, 3.2),
    "dots": (87.0, 3.8, 5.8, 1.8, 3.9, 6.3),
    "stripes": (73.8, 8.1, -10.8, 6.6, 0.3, 0.1),
    "checker": (51.3, -0.5, -2.0, 0.9, 0.5, 7.7),
}
STRAY = (3.0, 1.5, 1.5, 1.5, 1.5, 1.5)


def name_background(frames: np.ndarray, things: np.ndarray) -> str:
    """Of frames uint8 [T, H, W, 3] and where things are, bool [T, H, W]."""
    picked = np.linspace(0, len(frames) - 1, FRAMES_USED).round().astype(int)
    measured = np.median([statistics(frames[t], things[t]) for t in picked], axis=0)
    far = {
        name: float(np.square((measured - typical) / STRAY).sum())
        for name, typical in TYPICAL.items()
    }
    return min(far, key=far.__getitem__)
