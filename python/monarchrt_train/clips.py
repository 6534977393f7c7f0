"""Where training videos come from, and pools of them on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from monarchrt_train.labels import Mentions, asked
from monarchrt_train.prompts import Tokenizer
from monarchrt_train.taehv import FRAMES_PER_LATENT, Taehv

THINGS_MAX = 3  # of a clip
# Of video: 3 GB on a CPU.
ENCODED_AT_ONCE = {"cpu": 8 << 20, "cuda": 64 << 20}


@dataclass(frozen=True)
class Told:
    """What a clip's captions would be if it had only some of its things."""

    things: tuple[int, ...]  # their numbers in the second plane of `labels`, THINGS_MAX at most
    captions: tuple[str, ...]  # n - 1: of the things whose bits the number n has
    mentions: tuple[Mentions, ...]  # what each of them says


class ClipSource(Protocol):
    """Videos with captions, made from seeds: the same seed, the same video and caption."""

    def captions(self, seeds: Sequence[int]) -> list[str]: ...

    def clips(
        self,
        seeds: Sequence[int],
        frames: int,
        size: tuple[int, int],
        device: torch.device,
        first_frame: int = 0,
    ) -> Tensor:
        """-> uint8 [B, frames, 3, height, width]. Every size shows the same picture."""
        ...

    def labels(
        self,
        seeds: Sequence[int],
        frames: Sequence[float],
        size: tuple[int, int],
        device: torch.device,
    ) -> Tensor:
        """What the cells of a grid show: world.label_maps."""
        ...

    def mentions(self, seeds: Sequence[int]) -> list[Mentions]:
        """What the captions say."""
        ...

    def shown(self, seeds: Sequence[int]) -> list[Mentions]:
        """All that could be said."""
        ...

    def partly(self, seeds: Sequence[int]) -> list[Told]:
        """Captions of some of the things of each clip, as if the others were not there."""
        ...


def video_frames(latent_frames: int) -> int:
    return FRAMES_PER_LATENT * (latent_frames - 1) + 1


def middle_frames(latent_frames: int) -> list[float]:
    """The frame of video in the middle of those of each latent frame."""
    later = range(1, latent_frames)
    return [0.0, *(FRAMES_PER_LATENT * (n - 0.5) + 0.5 for n in later)]


class Pool:
    """A ring of rows of tensors: the newest replace the oldest.

    first: where the ring begins. Pools that hold the same rows hold them at the same places if each
    began with the number of its first row, so they draw the same.
    """

    def __init__(self, size: int, first: int = 0):
        self.size, self._first, self._filled = size, first % size, 0
        self._next = self._first
        self.made, self.drawn = 0, 0  # rows, so far
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self._filled

    def put(self, rows: dict[str, Tensor]) -> None:
        count = len(next(iter(rows.values())))
        for name, value in rows.items():
            if name not in self._columns:
                self._columns[name] = value.new_empty(self.size, *value.shape[1:])
            at = (self._next + torch.arange(count, device=value.device)) % self.size
            self._columns[name][at] = value
        self._next = (self._next + count) % self.size
        self.made += count
        self._filled = min(self.size, self._filled + count)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        device = generator.device
        at = torch.randint(self._filled, (count,), generator=generator, device=device)
        if self._filled < self.size:
            at = (self._first + at) % self.size
        self.drawn += count
        return {name: column[at] for name, column in self._columns.items()}


def to_float(video: Tensor) -> Tensor:
    """uint8 pixels to 0..1."""
    return video.float() / 255


class LatentSource:
    """Encoded clips with their token ids."""

    def __init__(
        self,
        source: ClipSource,
        autoencoder: Taehv,
        tokenizer: Tokenizer,
        text_len: int,
        size: tuple[int, int],
    ):
        self._source, self._autoencoder, self._tokenizer = source, autoencoder, tokenizer
        self._text_len, self.size = text_len, size
        self._device = autoencoder.encoder[0].weight.device

    @torch.no_grad()
    def rows(
        self, seeds: Sequence[int], latent_frames: int, labels: bool = False
    ) -> dict[str, Tensor]:
        """latents [B, latent_frames, C, h, w], ids int64 [B, text_len], lengths [B], and if wanted
        labels uint8 [B, latent_frames, 3, h, w] of the source, the columns of `parts`, and what
        is shown: int8, `want_` and a name of labels.targets, where what has no answer is absent."""
        frames = video_frames(latent_frames)
        video = self._source.clips(seeds, frames, self.size, self._device)
        most = ENCODED_AT_ONCE["cpu" if self._device.type == "cpu" else "cuda"]
        at_once = max(1, most // (frames * math.prod(self.size)))
        parts = [self._autoencoder.encode(to_float(x)) for x in video.split(at_once)]
        latents = torch.cat(parts)
        rows = {"latents": latents.to(torch.bfloat16), **self.text(self._source.captions(seeds))}
        if labels:
            middle, grid = middle_frames(latent_frames), tuple(latents.shape[-2:])
            rows["labels"] = self._source.labels(seeds, middle, grid, self._device)
            rows |= self.parts(seeds)
            shown = asked(self._source.shown(seeds))
            rows |= {f"want_{name}": x.char().to(self._device) for name, x in shown.items()}
        return rows

    def parts(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """things uint8 [B, THINGS_MAX], 0 where none is; part_ids [B, 2 ** THINGS_MAX, text_len]
        and part_lengths: captions of the things whose bits the place has; empty at place 0."""
        told = self._source.partly(seeds)
        count = 2**THINGS_MAX
        captions = [("", *x.captions, *[""] * count)[:count] for x in told]
        text = self.text([caption for row in captions for caption in row])
        things = [(*x.things, *[0] * THINGS_MAX)[:THINGS_MAX] for x in told]
        return {
            "things": torch.tensor(things, dtype=torch.uint8, device=self._device),
            **{f"part_{name}": x.unflatten(0, (len(told), count)) for name, x in text.items()},
        }

    def text(self, captions: Sequence[str]) -> dict[str, Tensor]:
        ids, lengths = self._tokenizer.batch(captions, self._text_len)
        ids = functional.pad(ids, (0, self._text_len - ids.shape[1]))
        return {"ids": ids.to(self._device), "lengths": lengths.to(self._device)}


class Squares:
    """The smallest source there is, to try the stages with: one square moves on grey."""

    COLOURS: ClassVar = {"red": (230, 25, 25), "green": (25, 200, 50), "blue": (40, 50, 230)}
    WAYS: ClassVar = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}

    def __init__(self, first_seed: int = 0):
        self._first_seed = first_seed

    def _draw(self, seed: int) -> tuple[str, str, tuple[int, int]]:
        generator = torch.Generator().manual_seed(self._first_seed + seed)
        a, b, row, col = torch.randint(1 << 30, (4,), generator=generator).tolist()
        return list(self.COLOURS)[a % 3], list(self.WAYS)[b % 4], (row, col)

    def captions(self, seeds: Sequence[int]) -> list[str]:
        scenes = [self._draw(seed) for seed in seeds]
        return [f"a {colour} square moves {way}" for colour, way, _ in scenes]

    def mentions(self, seeds: Sequence[int]) -> list[Mentions]:
        colours = [self._draw(seed)[0] for seed in seeds]
        return [{"count": 1, "objects": [{"color": x, "shape": "square"}]} for x in colours]

    shown = mentions

    def partly(self, seeds: Sequence[int]) -> list[Told]:
        numbers = [1 + list(self.COLOURS).index(self._draw(seed)[0]) for seed in seeds]
        told = zip(numbers, self.captions(seeds), self.mentions(seeds), strict=True)
        return [Told((number,), (caption,), (said,)) for number, caption, said in told]

    def labels(
        self,
        seeds: Sequence[int],
        frames: Sequence[float],
        size: tuple[int, int],
        device: torch.device,
    ) -> Tensor:
        """The colour's number + 1 where the square is, in every plane."""
        scale = 8  # pixels of a cell, a side: enough to tell whether its middle is the square's
        pixels = tuple(scale * x for x in size)
        out = []
        for frame in frames:
            picture = self.clips(seeds, 1, pixels, device, round(frame))[:, 0]
            cells = picture[:, :, scale // 2 :: scale, scale // 2 :: scale].float()
            number = 1 + cells.argmax(1, keepdim=True).to(torch.uint8)
            grey = (cells == 128).all(1, keepdim=True)
            out.append(torch.where(grey, 0, number).expand(-1, 3, -1, -1))
        return torch.stack(out, 1)

    def clips(
        self,
        seeds: Sequence[int],
        frames: int,
        size: tuple[int, int],
        device: torch.device,
        first_frame: int = 0,
    ) -> Tensor:
        height, width = size
        side = height // 3
        video = torch.full((len(seeds), frames, 3, *size), 128, dtype=torch.uint8)
        for clip, seed in zip(video, seeds, strict=True):
            colour, way, (row, col) = self._draw(seed)
            down, right = self.WAYS[way]
            value = torch.tensor(self.COLOURS[colour], dtype=torch.uint8)[:, None, None]
            for frame, picture in enumerate(clip, first_frame):
                r = (row + down * frame) % (height - side)
                c = (col + right * frame) % (width - side)
                picture[:, r : r + side, c : c + side] = value
        return video.to(device)
