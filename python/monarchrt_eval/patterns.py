"""The engine's baselines of sparse attention in PyTorch: which keys of which query they keep.

docs/attention.md says what topk, window and radial are; src/kernels/sparse computes them. Here
pairs are simply counted, for frames of rows x cols tokens; the queries are the last frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Sizes of a chunk of queries and of the keys it sees."""

    frames_q: int
    frames_kv: int
    rows: int
    cols: int

    @property
    def tokens(self) -> int:
        return self.rows * self.cols

    def frame_distances(self) -> np.ndarray:
        """int [frames_kv]: how many pairs of a query and a key frame are so far apart."""
        queries = np.arange(self.frames_kv - self.frames_q, self.frames_kv)
        apart = np.abs(queries[:, None] - np.arange(self.frames_kv))
        return np.bincount(apart.ravel(), minlength=self.frames_kv)

    def all_pairs(self) -> int:
        return self.frames_q * self.frames_kv * self.tokens**2


def _axis_pairs(extent: int, reach: int) -> int:
    """Pairs of places on an axis that are at most `reach` apart."""
    near = min(reach, extent - 1)
    return extent + sum(2 * (extent - d) for d in range(1, near + 1))


@dataclass(frozen=True)
class Window:
    """A box around the query."""

    frames: int = 0
    rows: int = 0
    cols: int = 0

    def pairs(self, grid: Grid) -> int:
        near = int(grid.frame_distances()[: self.frames + 1].sum())
        return near * _axis_pairs(grid.rows, self.rows) * _axis_pairs(grid.cols, self.cols)

    def keeps(self, grid: Grid, queries: Tensor) -> Tensor:
        """bool [queries, keys] of tokens, numbered through all query frames."""
        frame, token = _places(grid, queries)
        key_frame, key_token = _key_places(grid)
        return (
            ((frame[:, None] - key_frame).abs() <= self.frames)
            & ((token[:, None] // grid.cols - key_token // grid.cols).abs() <= self.rows)
            & ((token[:, None] % grid.cols - key_token % grid.cols).abs() <= self.cols)
        )


@dataclass(frozen=True)
class Radial:
    """Tokens near in raster order, half as many with each doubling of the distance in frames."""

    base: int

    def width(self, frames: int) -> int:
        """Tokens less than this away are kept, so many frames apart."""
        if frames == 0:
            return max(self.base, 1)
        level = frames.bit_length() - 1
        if self.base >> level > 0 or self.base == 0:
            return self.base >> level
        need = -(-(1 << level) // self.base)
        stride = 1 << (need - 1).bit_length()
        return int(frames % stride == 0)

    def pairs(self, grid: Grid) -> int:
        total = 0
        for apart, count in enumerate(grid.frame_distances()):
            if (width := self.width(apart)) > 0:
                total += int(count) * _axis_pairs(grid.tokens, width - 1)
        return total

    def keeps(self, grid: Grid, queries: Tensor) -> Tensor:
        """bool [queries, keys] of tokens, numbered through all query frames."""
        widths = torch.tensor([self.width(d) for d in range(grid.frames_kv)])
        frame, token = _places(grid, queries)
        key_frame, key_token = _key_places(grid)
        apart = (frame[:, None] - key_frame).abs()
        return (token[:, None] - key_token).abs() < widths[apart]


def _places(grid: Grid, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Frame (of the keys) and token of queries."""
    return queries // grid.tokens + grid.frames_kv - grid.frames_q, queries % grid.tokens


def _key_places(grid: Grid) -> tuple[Tensor, Tensor]:
    keys = torch.arange(grid.frames_kv * grid.tokens)
    return keys // grid.tokens, keys % grid.tokens


def choose_window(grid: Grid, density: float) -> Window:
    """Grows along the axis of which it covers the smallest share, while `density` allows."""
    budget = density * grid.all_pairs()
    distances = grid.frame_distances()
    window = Window()
    while True:
        shares = {
            "frames": (distances[: window.frames + 1].sum() / distances.sum(), grid.frames_kv),
            "rows": (_axis_pairs(grid.rows, window.rows) / grid.rows**2, grid.rows),
            "cols": (_axis_pairs(grid.cols, window.cols) / grid.cols**2, grid.cols),
        }
        for name, (_, extent) in sorted(shares.items(), key=lambda item: item[1][0]):
            reach = getattr(window, name)
            grown = Window(**{**vars(window), name: reach + 1})
            if reach + 1 < extent and grown.pairs(grid) <= budget:
                window = grown
                break
        else:
            return window


def choose_radial(grid: Grid, density: float) -> Radial:
    """The largest width at the query that keeps at most `density` of all pairs."""
    budget = density * grid.all_pairs()
    fits, too_large = 0, (grid.tokens << (grid.frames_kv - 1).bit_length()) + 1
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        if Radial(middle).pairs(grid) <= budget:
            fits = middle
        else:
            too_large = middle
    return Radial(fits)


def keep_largest(scores: Tensor, density: float) -> Tensor:
    """bool like scores [..., keys]: those of the largest scores."""
    count = max(1, round(density * scores.shape[-1]))
    keep = torch.zeros_like(scores, dtype=torch.bool)
    return keep.scatter_(-1, scores.topk(count, dim=-1).indices, True)
