"""The Wan 2.1 transformer, in the names and the arithmetic of the engine (src/model/wan).

One forward pass serves training and inference: it asks a `Pattern` for the self-attention of a
layer, and the pattern decides which keys a frame sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from monarchrt_train.attention import Attention
from monarchrt_train.umt5 import RMSNorm

ROPE_BASE = 10000.0


@dataclass(frozen=True)
class WanConfig:
    """Sizes, under their names in config.json."""

    dim: int = 256
    ffn_dim: int = 1024
    num_heads: int = 4
    num_layers: int = 8
    text_dim: int = 256
    text_len: int = 64
    freq_dim: int = 256
    in_dim: int = 16
    out_dim: int = 16
    patch_size: tuple[int, int, int] = (1, 1, 1)
    eps: float = 1e-6


class Pattern(Protocol):
    """The self-attention of one layer.

    q, k, v are [B, F, H, W, heads, head_dim]; q and k carry their rotary embedding.
    """

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


def rotary_angles(
    head_dim: int, frames: Tensor, rows: int, cols: int, grid_scale: int = 1
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [F, rows, cols, 1, head_dim / 2] of tokens at the frames' positions.

    A picture made smaller by `grid_scale` has its rows and columns that far apart.
    """
    space = 2 * (head_dim // 6)

    def angles(positions: Tensor, channels: int) -> Tensor:
        exponent = torch.arange(0, channels, 2, device=frames.device, dtype=torch.float64)
        return positions.double()[:, None] * ROPE_BASE ** (-exponent / channels)

    time = angles(frames, head_dim - 2 * space)[:, None, None]
    row = angles(torch.arange(rows, device=frames.device) * grid_scale, space)[None, :, None]
    col = angles(torch.arange(cols, device=frames.device) * grid_scale, space)[None, None]
    shape = (len(frames), rows, cols, -1)
    all_angles = torch.cat([x.expand(shape) for x in (time, row, col)], -1).unsqueeze(3)
    return all_angles.cos().float(), all_angles.sin().float()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turns the pairs of x [B, F, H, W, heads, head_dim]."""
    cos, sin = (a.to(torch.promote_types(x.dtype, torch.float32)) for a in angles)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class WanAttention(nn.Module):
    def __init__(self, c: WanConfig):
        super().__init__()
        self.heads = c.num_heads
        self.q = nn.Linear(c.dim, c.dim)
        self.k = nn.Linear(c.dim, c.dim)
        self.v = nn.Linear(c.dim, c.dim)
        self.o = nn.Linear(c.dim, c.dim)
        self.norm_q = RMSNorm(c.dim, c.eps)
        self.norm_k = RMSNorm(c.dim, c.eps)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class SelfAttention(WanAttention):
    def project(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, F, H, W, dim] -> q, k, v [B, F, H, W, heads, head_dim]."""
        v = self.split(self.v(x))
        q = rotate(self.split(self.norm_q(self.q(x))), angles).to(v.dtype)
        k = rotate(self.split(self.norm_k(self.k(x))), angles).to(v.dtype)
        return q, k, v


class CrossAttention(WanAttention):
    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x [B, F, H, W, dim], text [B, L, dim] -> like x."""
        v = self.split(self.v(text)).transpose(1, 2)  # [B, heads, L, head_dim]
        k = self.split(self.norm_k(self.k(text))).transpose(1, 2).to(v.dtype)
        q = self.split(self.norm_q(self.q(x)).flatten(1, 3)).transpose(1, 2).to(v.dtype)
        out = functional.scaled_dot_product_attention(q, k, v)
        return self.o(out.transpose(1, 2).flatten(2).view(x.shape))


class Block(nn.Module):
    def __init__(self, c: WanConfig, layer: int):
        super().__init__()
        self.layer, self.eps = layer, c.eps
        self.modulation = nn.Parameter(torch.randn(1, 6, c.dim) * c.dim**-0.5)
        self.self_attn = SelfAttention(c)
        self.norm3 = nn.LayerNorm(c.dim, c.eps)
        self.cross_attn = CrossAttention(c)
        self.ffn = nn.Sequential(
            nn.Linear(c.dim, c.ffn_dim), nn.GELU("tanh"), nn.Linear(c.ffn_dim, c.dim)
        )

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        text: Tensor,
        angles: tuple[Tensor, Tensor],
        pattern: Pattern,
    ) -> Tensor:
        """x [B, F, H, W, dim], time [B, F, 6, dim], text [B, L, dim] -> like x."""
        q, k, v = self.before(x, time, angles)
        return self.after(x, pattern(self.layer, q, k, v), time, text)

    def _modulation(self, time: Tensor) -> tuple[Tensor, ...]:
        """shift1, scale1, gate1, shift2, scale2, gate2, each [B, F, 1, 1, dim]."""
        return (self.modulation + time)[:, :, :, None, None].unbind(2)

    def before(
        self, x: Tensor, time: Tensor, angles: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What self-attention reads."""
        shift, scale = self._modulation(time)[:2]
        return self.self_attn.project(modulate(x, shift, scale, self.eps), angles)

    def after(self, x: Tensor, attended: Tensor, time: Tensor, text: Tensor) -> Tensor:
        """The rest of the block. attended [B, F, H, W, heads, head_dim]."""
        _, _, gate1, shift2, scale2, gate2 = self._modulation(time)
        x = x + gate1 * self.self_attn.o(attended.flatten(-2))
        x = x + self.cross_attn(self.norm3(x), text)
        return x + gate2 * self.ffn(modulate(x, shift2, scale2, self.eps))


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


class Head(nn.Module):
    def __init__(self, c: WanConfig):
        super().__init__()
        self.eps = c.eps
        patch = c.patch_size[0] * c.patch_size[1] * c.patch_size[2]
        self.head = nn.Linear(c.dim, patch * c.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, c.dim) * c.dim**-0.5)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x [B, F, H, W, dim], e [B, F, dim] -> [B, F, H, W, patch * channels]."""
        m = (self.modulation + e[:, :, None])[:, :, :, None, None]
        return self.head(modulate(x, m[:, :, 0], m[:, :, 1], self.eps))


class WanTransformer(nn.Module):
    """Predicts the velocity (noise - clean) of noisy latents."""

    def __init__(self, config: WanConfig):
        super().__init__()
        c = self.config = config
        self.patch_embedding = nn.Conv3d(c.in_dim, c.dim, c.patch_size, stride=c.patch_size)
        self.text_embedding = nn.Sequential(
            nn.Linear(c.text_dim, c.dim), nn.GELU("tanh"), nn.Linear(c.dim, c.dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(c.freq_dim, c.dim), nn.SiLU(), nn.Linear(c.dim, c.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(c.dim, 6 * c.dim))
        self.blocks = nn.ModuleList(Block(c, n) for n in range(c.num_layers))
        self.head = Head(c)
        self.recompute = False  # activations of blocks in the backward pass, for less memory
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        for linear in (*self.text_embedding[::2], *self.time_embedding[::2]):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(self.head.head.weight)

    def compile_blocks(self) -> None:
        """Compiles what lies between the attentions; patterns stay as they are."""
        for block in self.blocks:
            block.before = torch.compile(block.before, dynamic=False)
            block.after = torch.compile(block.after, dynamic=False)

    def encode_text(self, text: Tensor) -> Tensor:
        """Rows of the text encoder [B, L <= text_len, text_dim] -> [B, text_len, dim].

        Padding rows are zeros before the embedding, and are attended to.
        """
        text = functional.pad(text, (0, 0, 0, self.config.text_len - text.shape[1]))
        return self.text_embedding(text)

    def _time(self, timesteps: Tensor) -> Tensor:
        """[B, F], 0..1000 -> [B, F, dim]. All cosines, then all sines."""
        half = self.config.freq_dim // 2
        exponent = torch.arange(half, device=timesteps.device, dtype=torch.float64) / half
        angles = timesteps.double()[..., None] * 10000.0**-exponent
        features = torch.cat([angles.cos(), angles.sin()], -1)
        return self.time_embedding(features.to(self.time_embedding[0].weight.dtype))

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text: Tensor,
        frames: Tensor,
        pattern: Pattern,
        *,
        grid_scale: int = 1,
    ) -> Tensor:
        """The velocity of `latents` [B, F, channels, h, w], of the same shape.

        timesteps [B, F], 0..1000; text [B, text_len, dim] of encode_text; frames [F], each
        frame's position in time.
        """
        x = self.patch_embedding(latents.transpose(1, 2)).movedim(1, -1)  # [B, F, H, W, dim]
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # the residual stream
        e = self._time(timesteps).to(x.dtype)
        time = self.time_projection(e).unflatten(-1, (6, -1)).to(x.dtype)
        head_dim = self.config.dim // self.config.num_heads
        angles = rotary_angles(head_dim, frames, x.shape[2], x.shape[3], grid_scale)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(
                    block,
                    x,
                    time,
                    text,
                    angles,
                    pattern,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                x = block(x, time, text, angles, pattern)
        return self._unpatch(self.head(x, e), latents.shape)

    def _unpatch(self, x: Tensor, shape: torch.Size) -> Tensor:
        """[B, F, H, W, patch row * patch column * channel] -> [B, F, channels, h, w], float32."""
        _, ph, pw = self.config.patch_size
        x = x.unflatten(-1, (ph, pw, -1)).permute(0, 1, 6, 2, 4, 3, 5)
        out = x.reshape(*shape[:2], self.config.out_dim, *shape[3:])
        return out.to(torch.promote_types(out.dtype, torch.float32))


@dataclass(frozen=True)
class Bidirectional:
    """Every frame sees every other."""

    attention: Attention

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attention(q, k, v)


@dataclass(frozen=True)
class TeacherForced:
    """The clean frames of all chunks but the last, then the noisy frames of all `frames` frames.

    A clean chunk sees the window of clean chunks that ends with it; a noisy chunk sees the clean
    chunks before it and itself: for every chunk just what it sees at inference, all in one pass.
    """

    attention: Attention
    frames: int
    chunk: int
    window: int  # frames a query sees, its own chunk included

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, out = self.frames - self.chunk, []  # n: clean frames
        for start in range(0, n, self.chunk):
            end = start + self.chunk
            seen = slice(max(0, end - self.window), end)
            out.append(self.attention(q[:, start:end], k[:, seen], v[:, seen]))
        for start in range(0, self.frames, self.chunk):
            own = slice(n + start, n + start + self.chunk)
            past = slice(max(0, start + self.chunk - self.window), start)
            keys, values = (torch.cat([x[:, past], x[:, own]], 1) for x in (k, v))
            out.append(self.attention(q[:, own], keys, values))
        return torch.cat(out, 1)
