"""The UMT5 text encoder, in the names and the arithmetic of the engine (src/model/umt5)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6
# Of position biases at the start: for each place away, and for the other side, in places.
SLOPE, WRONG_SIDE, LOWEST_BIAS = 0.7, 2.0, -8.0


@dataclass(frozen=True)
class Umt5Config:
    vocabulary: int
    dim: int = 256
    dim_attn: int = 256
    dim_ffn: int = 512
    heads: int = 4
    layers: int = 3
    buckets: int = 32


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32."""

    def __init__(self, dim: int, eps: float = EPS):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return functional.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


def relative_buckets(length: int, buckets: int, device: torch.device) -> Tensor:
    """[query, key] -> bucket of the relative position, int64."""
    position = torch.arange(length, device=device)
    r = position[None] - position[:, None]
    half = buckets // 2
    exact = half // 2
    far = (r.abs().clamp(min=1).float() / exact).log() / log(128 / exact) * (half - exact)
    far = (exact + far.floor().long()).clamp(max=half - 1)
    return torch.where(r.abs() < exact, r.abs(), far) + (r > 0).long() * half


def bucket_distances(buckets: int) -> Tensor:
    """The smallest distance of each bucket, float [buckets]; negative before the query."""
    half = buckets // 2
    exact = half // 2
    n = torch.arange(half, dtype=torch.float32)
    away = torch.where(n < exact, n, exact * (128 / exact) ** ((n - exact) / (half - exact)))
    return torch.cat([-away, away])


class SelfAttention(nn.Module):
    def __init__(self, c: Umt5Config):
        super().__init__()
        self.heads = c.heads
        self.q = nn.Linear(c.dim, c.dim_attn, bias=False)
        self.k = nn.Linear(c.dim, c.dim_attn, bias=False)
        self.v = nn.Linear(c.dim, c.dim_attn, bias=False)
        self.o = nn.Linear(c.dim_attn, c.dim, bias=False)
        # Scores are not scaled, so queries are smaller than elsewhere, and so are their steps.
        self.q.weight.rate = (c.dim_attn // c.heads) ** -0.5

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, L, dim], bias [B, heads, L, L] with -inf at padding keys -> [B, L, dim]."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype), scale=1.0
        )
        return self.o(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, c: Umt5Config):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(c.dim, c.dim_ffn, bias=False), nn.GELU("tanh"))
        self.fc1 = nn.Linear(c.dim, c.dim_ffn, bias=False)
        self.fc2 = nn.Linear(c.dim_ffn, c.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) * self.gate(x))


class PositionBias(nn.Module):
    def __init__(self, c: Umt5Config):
        super().__init__()
        self.embedding = nn.Embedding(c.buckets, c.heads)

    def forward(self, buckets: Tensor) -> Tensor:
        """[L, L] -> [1, heads, L, L]."""
        return self.embedding(buckets).permute(2, 0, 1).unsqueeze(0)


class Block(nn.Module):
    def __init__(self, c: Umt5Config):
        super().__init__()
        self.norm1 = RMSNorm(c.dim)
        self.attn = SelfAttention(c)
        self.norm2 = RMSNorm(c.dim)
        self.ffn = FeedForward(c)
        self.pos_embedding = PositionBias(c)

    def forward(self, x: Tensor, buckets: Tensor, masked: Tensor) -> Tensor:
        bias = self.pos_embedding(buckets) + masked
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class Umt5Encoder(nn.Module):
    """Token ids to one row per token; rows past the text are 0."""

    def __init__(self, config: Umt5Config):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim)
        self._initialise()

    def _initialise(self) -> None:
        c = self.config
        nn.init.normal_(self.token_embedding.weight)
        for block in self.blocks:
            for weight in (block.attn.k.weight, block.attn.v.weight, block.ffn.fc1.weight):
                nn.init.normal_(weight, std=c.dim**-0.5)
            nn.init.normal_(block.ffn.gate[0].weight, std=c.dim**-0.5)
            nn.init.normal_(block.attn.o.weight, std=c.dim_attn**-0.5)
            nn.init.normal_(block.ffn.fc2.weight, std=c.dim_ffn**-0.5)
        self.look_around()

    @torch.no_grad()
    def look_around(self) -> None:
        """Position biases by which heads in turn look before, after, around and anywhere, and
        queries so small that the biases count.

        Small biases would have to grow by hundreds of times a step of AdamW before an encoder
        knows which word stands beside which, and large queries drown them; until then it reads
        captions as bags of words.
        """
        c = self.config
        distance = bucket_distances(self.config.buckets)
        aside = distance.abs() + WRONG_SIDE
        looks = (
            torch.where(distance < 0, -distance, aside),
            torch.where(distance > 0, distance, aside),
            distance.abs() / 2,
            torch.zeros_like(distance),
        )
        for block in self.blocks:
            nn.init.normal_(block.attn.q.weight, std=(c.dim * c.dim_attn / c.heads) ** -0.5)
            for head, bias in enumerate(block.pos_embedding.embedding.weight.T):
                bias.copy_((-SLOPE * looks[head % len(looks)]).clamp(min=LOWEST_BIAS))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids int64 [B, L], lengths int64 [B] (the end of text counts) -> float [B, L, dim]."""
        length = ids.shape[1]
        buckets = relative_buckets(length, self.config.buckets, ids.device)
        there = torch.arange(length, device=ids.device)[None] < lengths[:, None]  # [B, L]
        masked = torch.zeros(there.shape, device=ids.device).masked_fill(~there, float("-inf"))
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x, buckets, masked[:, None, None].to(x.dtype))
        return self.norm(x) * there[..., None]
