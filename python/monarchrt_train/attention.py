"""Self-attention over a grid of tokens: dense, or tiled Monarch as the engine defines it.

Letters, as in docs/attention.md: `a`, `f` query and key tile, `i`, `k` row in a tile, `j`, `l`
column in a tile, `h` head, `d` channel. Inputs and outputs are [batch, frames, rows, cols, heads,
head_dim]; keys and values may have more frames than queries.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Tiling:
    """Sizes of a tile: frames, cuts of the rows, cuts of the columns."""

    f_tied: int = 1
    h_reduce: int = 1
    w_reduce: int = 1

    def split(self, x: Tensor) -> Tensor:
        """[B, T, H, W, h, d] -> [B, h, tiles, b1, b2, d]."""
        batch, frames, rows, cols, heads, dim = x.shape
        f, r, c = self.f_tied, self.h_reduce, self.w_reduce
        if frames % f or rows % r or cols % c:
            raise ValueError(f"tiling {self} does not divide {frames}x{rows}x{cols} tokens")
        x = x.reshape(batch, frames // f, f, r, rows // r, c, cols // c, heads, dim)
        x = x.permute(0, 7, 1, 3, 5, 2, 4, 6, 8)
        return x.reshape(batch, heads, (frames // f) * r * c, f * (rows // r), cols // c, dim)

    def join(self, x: Tensor, shape: torch.Size) -> Tensor:
        """[B, h, tiles, b1, b2, d] -> `shape`, the [B, T, H, W, h, d] before the split."""
        batch, frames, rows, cols, heads, dim = shape
        f, r, c = self.f_tied, self.h_reduce, self.w_reduce
        x = x.reshape(batch, heads, frames // f, r, c, f, rows // r, cols // c, dim)
        return x.permute(0, 2, 5, 3, 6, 4, 7, 1, 8).reshape(shape)


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over all tokens."""

    def tokens(x: Tensor) -> Tensor:
        return x.flatten(1, 3).transpose(1, 2)

    out = functional.scaled_dot_product_attention(tokens(q), tokens(k), tokens(v))
    return out.transpose(1, 2).reshape(q.shape)


def _wide(x: Tensor) -> Tensor:
    """At least float32: what softmax computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _means(query: Tensor, key_value: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor]:
    """Attention along every key row, asked by one query for each tile, row and column.

    query [B, h, k, a*j, f or 1, d] and key_value [B, h, k, f, l, 2d]; scale is a number or
    [B, h, k, f, a*j, 1]. Returns kbar and vbar side by side, [B, h, k, f, a*j, 2d], and c
    [B, h, k, f, a*j] = sum of r log r.
    """
    dim = query.shape[-1]
    keys = key_value[..., :dim]
    if query.shape[4] == 1:  # the same query for all key tiles: one product for each key row
        rows = query.squeeze(4) @ keys.flatten(3, 4).transpose(-1, -2)
        scores = rows.unflatten(-1, key_value.shape[3:5]).transpose(3, 4)
    else:
        scores = query.transpose(3, 4) @ keys.transpose(-1, -2)  # [B, h, k, f, a*j, l]
    log_r = functional.log_softmax(_wide(scores) * scale, dim=-1)
    r = log_r.exp()
    return r.to(key_value.dtype) @ key_value, (r * log_r).sum(-1)


def monarch_tiles(q: Tensor, k: Tensor, v: Tensor, iterations: int) -> Tensor:
    """The attention of split tensors: q [B, h, a, i, j, d]; k, v [B, h, f, k, l, d] -> like q."""
    tiles_q, rows, cols, dim = q.shape[2:]
    tiles_k = k.shape[2]
    s = 1 / sqrt(dim)
    key_value = torch.cat([k, v], -1).transpose(2, 3)  # [B, h, k, f, l, 2d]
    query = q.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).unsqueeze(4)  # [B, h, k, a*j, 1, d]
    columns = q.transpose(3, 4)  # [B, h, a, j, i, d]
    scale: Tensor | float = s
    for iteration in range(iterations):
        means, c = _means(query, key_value, scale)
        # -> [B, h, a, j, f*k, 2d] and [B, h, a, j, 1, f*k]
        means = means.unflatten(4, (tiles_q, cols)).permute(0, 1, 4, 5, 3, 2, 6).flatten(4, 5)
        c = c.unflatten(4, (tiles_q, cols)).permute(0, 1, 4, 5, 3, 2).flatten(4, 5)
        scores = columns @ means[..., :dim].transpose(-1, -2)
        left = functional.softmax(
            _wide(scores) * s - c.unsqueeze(-2), dim=-1
        )  # L [B, h, a, j, i, f*k]
        if iteration + 1 == iterations:
            out = left.to(v.dtype) @ means[..., dim:]
            return out.transpose(3, 4)
        weight = left.sum(-2).unflatten(-1, (tiles_k, rows))  # n [B, h, a, j, f, k]
        mean_query = left.to(q.dtype).transpose(-1, -2) @ columns  # qbar [B, h, a, j, f*k, d]
        mean_query = mean_query.unflatten(4, (tiles_k, rows))
        query = mean_query.permute(0, 1, 5, 2, 3, 4, 6).flatten(3, 4)  # [B, h, k, a*j, f, d]
        inverse = (1 / (weight + 1e-6)).clamp(max=1e4)
        scale = s * inverse.permute(0, 1, 5, 4, 2, 3).flatten(4, 5).unsqueeze(-1)
    raise ValueError(f"got {iterations} iterations, need 1 or more")


@functools.cache
def _compiled_tiles() -> Callable[..., Tensor]:
    return torch.compile(monarch_tiles, dynamic=False)


def monarch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tiling: Tiling = Tiling(),
    iterations: int = 1,
    *,
    compiled: bool = False,
) -> Tensor:
    """Tiled Monarch attention.

    Keeps only its inputs for the backward pass: the factors, ten times as large, are made again.
    """

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tiles = _compiled_tiles() if compiled else monarch_tiles
        out = tiles(tiling.split(q), tiling.split(k), tiling.split(v), iterations)
        return tiling.join(out, q.shape)

    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return checkpoint(run, q, k, v, use_reentrant=False, preserve_rng_state=False)
    return run(q, k, v)


@dataclass(frozen=True)
class Attention:
    """Which self-attention to use. Callable on q, k, v."""

    mode: str = "dense"  # dense, monarch
    tiles: tuple[int, int, int] = (1, 1, 1)  # f_tied, h_reduce, w_reduce
    iterations: int = 1
    compile: bool = False  # Monarch with torch.compile

    def compiled(self) -> Attention:
        return dataclasses.replace(self, compile=True)

    def __post_init__(self) -> None:
        if self.mode not in ("dense", "monarch"):
            raise ValueError(f"got attention {self.mode}, need dense or monarch")

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.mode == "dense":
            return dense(q, k, v)
        return monarch(q, k, v, Tiling(*self.tiles), self.iterations, compiled=self.compile)
