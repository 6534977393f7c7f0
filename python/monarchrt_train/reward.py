"""Stage 3b: a reward model. It says of latents what they show.

python -m monarchrt_train.reward --config FILE --work DIR --minutes 3

Few steps are learnt from a teacher that knows a shape only so well. The reward model learns from
real clips alone, which have it right; then `distill` asks it how likely the generator's answer
shows what the prompt says, and its gradient says what to change (as Xu et al. 2023, "ImageReward",
and Li et al. 2024, "T2V-Turbo", do with models of human taste). It reads latents with noise up to
`noise`, so its gradient is of more than one place.

What it must tell of the thing of each colour: whether it is there, shape, size, motion, direction,
speed; of the scene: background, camera, number of things. And of every cell which shape, colour and
motion its middle shows. A share of its clips has flaws (world.flaws), so that it does not take two
red things, a half red one or a cross of eight arms for what was asked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from monarchrt_train.autoencoder import load_autoencoder
from monarchrt_train.clips import ClipSource, LatentSource
from monarchrt_train.config import View
from monarchrt_train.flow import Supply, load_tokenizer
from monarchrt_train.labels import ABSENT, FLAW, NO, OF_A_THING, OF_THE_SCENE, YES
from monarchrt_train.learner import Learner
from monarchrt_train.parallel import Share, share
from monarchrt_train.probe import CLASSES, cells_loss
from monarchrt_train.run import Run
from monarchrt_train.schedule import add_noise
from monarchrt_train.sources import FlawedWorld
from monarchrt_train.views import SEEN, TOLD, view
from monarchrt_train.world.scene import COLORS

GROUPS = 8  # of the normalisation
CELLS = 10.0  # that lengths are measured in
PLACE = 6  # numbers that tell where a colour is and how large
FIRST_SEED = 300_000_000  # of its clips: others than the flow's
HELD_OUT_CLIPS, HELD_OUT_AT_ONCE = 128, 16


class Block(nn.Module):
    """Convolutions in space, then over each frame and its neighbours in time."""

    def __init__(self, width: int):
        super().__init__()
        self.space = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.time = nn.Sequential(
            nn.GroupNorm(GROUPS, 3 * width), nn.GELU(), nn.Conv2d(3 * width, width, 1)
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[B * frames, width, h, w] -> the same."""
        x = x + self.space(x)
        clips = x.unflatten(0, (-1, frames))
        none = torch.zeros_like(clips[:, :1])
        before = torch.cat([none, clips[:, :-1]], 1)
        after = torch.cat([clips[:, 1:], none], 1)
        return x + self.time(torch.cat([before, clips, after], 2).flatten(0, 1))


class OverTime(nn.Module):
    """Rows of each frame -> one row, by attention over frames."""

    def __init__(self, inputs: int, dim: int):
        super().__init__()
        self.read = nn.Linear(inputs, dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, 4, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(dim)
        turns = torch.exp(torch.arange(0, dim, 2) * (-math.log(100.0) / dim))
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, frames, inputs] -> [B, dim]."""
        angle = torch.arange(rows.shape[1], device=rows.device)[:, None] * self.turns
        x = self.read(rows) + torch.cat([angle.sin(), angle.cos()], -1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).mean(1)


class RewardModel(nn.Module):
    """`channels` of the latents; `width` of the convolutions at full size."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.fine = Block(width)
        self.down = nn.ModuleList(
            nn.Conv2d(n * width, 2 * width, 3, stride=2, padding=1) for n in (1, 2)
        )
        self.coarse = nn.ModuleList(Block(2 * width) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(2))
        self.last = Block(width)
        self.cells = nn.Conv2d(width, sum(CLASSES), 1)
        self.of_a_thing = OverTime(width + PLACE, 2 * width)
        self.of_the_scene = OverTime(2 * width, 2 * width)
        answers = {"there": (NO, YES, FLAW), **OF_A_THING, **OF_THE_SCENE}
        self.heads = nn.ModuleDict({n: nn.Linear(2 * width, len(v)) for n, v in answers.items()})

    def forward(self, latents: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """[B, F, C, h, w] -> logits by the names of labels.targets, [B, colours, values] or
        [B, values]; those of the cells [B, F, h, w, sum(CLASSES)]."""
        frames, size = latents.shape[1], latents.shape[-2:]
        x = self.fine(self.stem(latents.flatten(0, 1)), frames)
        levels = [x]
        for down, block in zip(self.down, self.coarse, strict=True):
            levels.append(block(down(levels[-1]), frames))
        for up, level in zip(self.up, levels[1:], strict=True):
            x = x + functional.interpolate(up(level), size=size, mode="nearest")
        x = self.last(x, frames)
        cells = self.cells(x).permute(0, 2, 3, 1).float()
        with torch.autocast(x.device.type, enabled=False):  # small differences of large numbers
            rows = self._by_color(x.float(), cells, frames)
        things = self.of_a_thing(rows)
        scene = self.of_the_scene(levels[-1].mean((2, 3)).unflatten(0, (-1, frames)))
        things = things.unflatten(0, (-1, len(COLORS)))
        said = {n: head(scene if n in OF_THE_SCENE else things) for n, head in self.heads.items()}
        return said, cells.unflatten(0, (-1, frames))

    @staticmethod
    def _by_color(x: Tensor, cells: Tensor, frames: int) -> Tensor:
        """x [B * F, width, h, w], cells [B * F, h, w, ...] -> [B * colours, F, width + PLACE]: the
        mean of x over the cells of each colour, how many there are, their centre and spread."""
        share = cells.split(CLASSES, -1)[1].softmax(-1)[..., 1:].flatten(1, 2)  # [BF, hw, colours]
        height, width = x.shape[-2:]
        row = torch.arange(height, device=x.device)[:, None].expand(height, width) / CELLS
        column = torch.arange(width, device=x.device).expand(height, width) / CELLS
        places = torch.stack([row, column, row * row, row * column, column * column])
        seen = torch.cat([x, places.expand(len(x), -1, -1, -1)], 1).flatten(2)
        count = share.sum(1)[..., None]
        mean = torch.einsum("bcn,bnk->bkc", seen, share) / (count + 0.5)
        what, first, second = mean.split((x.shape[1], 2, 3), -1)
        r, c = first.unbind(-1)
        spread = second - torch.stack([r * r, r * c, c * c], -1)
        rows = torch.cat([what, (count + 0.5).log(), first, spread], -1)
        return rows.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)


def likelihood(said: dict[str, Tensor], want: dict[str, Tensor]) -> Tensor:
    """Of everything wanted, in nats: [B], at most 0.

    What is said of a thing counts as much as the thing is there.
    """
    there = said["there"].float().softmax(-1)[..., YES].detach()
    total = torch.zeros(len(there), device=there.device)
    for name, x in want.items():
        logits = said[name].float()
        shape = logits.shape[:-1]
        each = functional.cross_entropy(
            logits.flatten(0, -2), x.flatten(), ignore_index=ABSENT, reduction="none"
        ).view(shape)
        if name in OF_A_THING:
            each = each * there
        total = total - (each if each.dim() == 1 else each.sum(1))
    return total


class Reward:
    """A reward model that is learnt, asked for its opinion with gradients."""

    def __init__(self, model: RewardModel, noise: float):
        self._model, self._noise = model.eval().requires_grad_(False), noise

    def loss(self, answer: Tensor, asked: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """How unlikely the answers [B, F, C, h, w] show what was asked for: [B], in nats."""
        said, _ = self._model(disturb(answer, self._noise, generator))
        return -likelihood(said, asked)


def disturb(latents: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """With noise, of a sigma of its own for each clip, up to `most`."""
    device, count = latents.device, latents.shape[:2]
    sigma = most * torch.rand((len(latents), 1), generator=generator, device=device)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    return add_noise(latents, noise, sigma.expand(count))


def load_reward(run: Run) -> Reward:
    """What the stage `reward` has learnt."""
    saved = run.checkpoint("reward")
    if saved is None:
        raise SystemExit(f"{run.work} has no reward/checkpoint: run monarchrt_train.reward first")
    model = new_model(run)
    model.load_state_dict(saved.weights("ema", "weights"))
    return Reward(model, run.config.reward.noise)


def new_model(run: Run) -> RewardModel:
    channels = run.config.model.transformer.in_dim
    model = RewardModel(channels, run.config.reward.width).to(run.device)
    return model.to(memory_format=torch.channels_last)


def wanted(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model must say of a view: of a thing that is cut nothing, of one that is not in it
    that it is not there; of a flaw that may not be in it nothing."""
    want = {n.removeprefix("want_"): x.long() for n, x in rows.items() if n.startswith("want_")}
    flaw = want["there"]  # where that is FLAW or FLAW_IN_TIME
    if "share" not in rows:
        want["there"] = flaw.clamp(max=FLAW)
        return want
    share_, things = rows["share"], rows["things"].long()
    color = functional.one_hot(things, 1 + len(COLORS)).float()  # place 0: no thing
    of_color = torch.einsum("bt,btc->bc", share_, color)[:, 1:]
    here = color.sum(1)[:, 1:] > 0
    for name in OF_A_THING:
        want[name] = torch.where(of_color >= TOLD, want[name], ABSENT)
    there = torch.where(of_color >= TOLD, YES, torch.where(of_color <= SEEN, NO, ABSENT))
    there = torch.where(here, there, want["there"])
    all_here = ((share_ == 1) | (things == 0)).all(1)[:, None]
    seen = torch.where((flaw == FLAW) & all_here, FLAW, ABSENT)
    want["there"] = torch.where(flaw >= FLAW, seen, there)
    whole = ((share_ >= TOLD) | (things == 0)).all(1)
    want["count"] = torch.where(whole, want["count"], ABSENT)
    return want


def right(said: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each attribute how many answers are right, and how many there should be; and of `flaw`s
    how many are seen."""
    out = {
        name: ((said[name].argmax(-1) == x)[x != ABSENT].sum(), (x != ABSENT).sum())
        for name, x in want.items()
    }
    flaw = want["there"] == FLAW
    return out | {"flaw": ((said["there"].argmax(-1) == FLAW)[flaw].sum(), flaw.sum())}


class Trainer:
    def __init__(self, run: Run, source: ClipSource, held_out: ClipSource):
        self.run, self.stage = run, run.config.reward
        self.source, self.held_out = Share(source), held_out
        self.autoencoder, self.tokenizer = load_autoencoder(run), load_tokenizer(run)
        self.model = new_model(run)
        self.learner = Learner(self.model, self.stage.optimizer, self.stage.ema_decay, run.spent)
        saved = run.checkpoint()
        self.step = saved.step if saved else 0
        if saved:
            self.learner.restore(saved)

    def latents(self, source: ClipSource) -> LatentSource:
        text_len = self.run.config.model.transformer.text_len
        size = self.run.config.generation.size()
        return LatentSource(source, self.autoencoder, self.tokenizer, text_len, size)

    def supply(self) -> Supply:
        """A pool of clips: others at each start."""
        stage, frames = self.stage, self.stage.latent_frames
        count = share(stage.pool)
        out = Supply(self.run, self.latents(self.source), frames, count, labels=True)
        out.fill(FIRST_SEED + stage.pool * self.step, count, 60 * stage.fill_minutes)
        self.run.report(self.step, {"clips": len(out.pool)})
        return out

    def train(self) -> None:
        run, stage = self.run, self.stage
        pool = self.supply().pool
        turns = [View(stage.batch)] + [x for x in stage.views for _ in range(x.steps)]
        for step in run.steps(self.step, stage.steps):
            generator = run.generator(step)
            turn = turns[step % len(turns)]
            rows = view(pool.draw(share(turn.batch), generator), turn, generator)
            with run.precision():
                noisy = disturb(rows["latents"].float(), stage.noise, generator)
                said, cells = self.model(noisy)
                unlikely = -likelihood(said, wanted(rows)).mean()
                places = cells_loss(cells, rows["labels"]).mean()
            norm = self.learner.update(unlikely + places, step)
            values = {"loss": unlikely.detach(), "cells": places.detach(), "gradient": norm}
            kind = ("box_" if turn.box else "") + (f"{turn.frames}_" if turn.frames else "")
            run.log(step, {kind + name: x for name, x in values.items()})
            self.step = step + 1
            if run.time_to_save():
                run.save(self.step, self.learner.parts())
        run.save(self.step, self.learner.parts())

    @torch.no_grad()
    def validate(self) -> None:
        """The share of right answers of the averaged weights, of whole clips without noise."""
        latents = self.latents(self.held_out)
        hits: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for first in range(0, HELD_OUT_CLIPS, HELD_OUT_AT_ONCE):
            seeds = range(first, first + HELD_OUT_AT_ONCE)
            with self.run.precision():
                rows = latents.rows(seeds, self.stage.latent_frames, labels=True)
                said, _ = self.learner.ema(rows["latents"].float())
            for name, pair in right(said, wanted(rows)).items():
                hits.setdefault(name, []).append(pair)
        shares = {
            f"right_{name}": sum(x for x, _ in pairs) / sum(n for _, n in pairs)
            for name, pairs in hits.items()
            if any(n > 0 for _, n in pairs)
        }
        self.run.report(self.step, shares)


def main(
    argv: list[str] | None = None,
    source: ClipSource | None = None,
    held_out: ClipSource | None = None,
) -> None:
    run = Run("reward", __doc__.splitlines()[0], argv)
    share = run.config.reward.flawed
    trainer = Trainer(
        run, source or FlawedWorld("train", share), held_out or FlawedWorld("val", share)
    )
    trainer.train()
    trainer.validate()


if __name__ == "__main__":
    main()
