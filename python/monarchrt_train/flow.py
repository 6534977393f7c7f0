"""Stage 3: text encoder and transformer by flow matching, chunk by chunk.

python -m monarchrt_train.flow --config FILE --work DIR --minutes 8

Every chunk of a clip gets its own noise level and sees the clean chunks before it, exactly as at
inference (teacher forcing); half of the histories carry a little noise that the model is not told
of, as its own will. Phases grow the picture and the clip.
"""

from __future__ import annotations

import hashlib
import time

import torch
from torch import Tensor

from monarchrt_train.attention import Attention
from monarchrt_train.autoencoder import load_autoencoder
from monarchrt_train.clips import ClipSource, LatentSource, Pool
from monarchrt_train.config import CHUNK_FRAMES, Config, FlowPhase, View
from monarchrt_train.learner import Learner
from monarchrt_train.model import TextToVideo
from monarchrt_train.package import TOKENIZER_FILE
from monarchrt_train.parallel import Share, share
from monarchrt_train.probe import PlaceProbe
from monarchrt_train.prompts import END, Tokenizer
from monarchrt_train.run import Run
from monarchrt_train.schedule import add_noise, warp
from monarchrt_train.sources import training_source, validation_source
from monarchrt_train.taehv import FRAMES_PER_LATENT
from monarchrt_train.views import view
from monarchrt_train.wan import TeacherForced, WanTransformer

TAKEN = "text_encoder"  # in the notes of a checkpoint: the digest of the one of `text` it took
PIXELS_AT_ONCE = 256 << 20  # of video, made together when the pool is filled
FRESH_STEPS = 16  # new clips come for so many steps at once: few are as slow to paint as many
HELD_OUT_CLIPS, HELD_OUT_AT_ONCE = 32, 8


def per_frame(chunks: Tensor) -> Tensor:
    """[B, chunks] -> [B, frames]."""
    return chunks.repeat_interleave(CHUNK_FRAMES, 1)


def chunk_frames(frames: int) -> int:
    """Those of a chunk: a clip of one frame, a picture, is a chunk of its own."""
    return min(CHUNK_FRAMES, frames)


def velocities(
    model: WanTransformer,
    history: Tensor,
    noisy: Tensor,
    sigma: Tensor,
    text: Tensor,
    *,
    window: int,
    attention: Attention,
    grid_scale: int,
) -> Tensor:
    """The velocity of every noisy chunk after the clean chunks before it.

    history, noisy [B, F, C, h, w]; sigma [B, F] -> like noisy. The history's last chunk is unused.
    """
    frames = noisy.shape[1]
    chunk = chunk_frames(frames)
    past = frames - chunk
    own = torch.arange(frames, device=noisy.device)
    positions = torch.cat([own[:past], own])
    times = torch.cat([torch.zeros_like(sigma[:, :past]), 1000 * sigma], 1)
    pattern = TeacherForced(attention, frames, chunk, window)
    both = torch.cat([history[:, :past], noisy], 1)
    return model(both, times, text, positions, pattern, grid_scale=grid_scale)[:, past:]


def flow_loss(
    model: WanTransformer,
    latents: Tensor,
    text: Tensor,
    generator: torch.Generator,
    *,
    config: Config,
    attention: Attention,
    grid_scale: int,
) -> Tensor:
    """Mean squared error of the velocity, [B]. latents float [B, F, C, h, w]."""
    batch, frames = latents.shape[:2]
    chunks = (batch, frames // chunk_frames(frames))

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=latents.device)

    def normal() -> Tensor:
        return torch.randn(latents.shape, generator=generator, device=latents.device)

    sigma = per_frame(warp(uniform(*chunks), config.generation.shift))[:, :frames]
    noise = normal()
    half = (uniform(batch, 1) < 0.5).float()
    untold = per_frame(config.flow.history_noise * uniform(*chunks) * half)[:, :frames]
    history = add_noise(latents, normal(), untold)
    noisy = add_noise(latents, noise, sigma)
    got = velocities(
        model,
        history,
        noisy,
        sigma,
        text,
        window=config.generation.window_frames,
        attention=attention,
        grid_scale=grid_scale,
    )
    return (got.float() - (noise - latents)).square().flatten(1).mean(1)


def drop_text(rows: dict[str, Tensor], share: float, generator: torch.Generator) -> None:
    """Makes a share of the prompts empty: what guidance compares with."""
    lengths = rows["lengths"]
    dropped = torch.rand(lengths.shape, generator=generator, device=lengths.device) < share
    rows["lengths"] = torch.where(dropped, 1, lengths)
    rows["ids"] = torch.where(dropped[:, None], 0, rows["ids"])
    rows["ids"][:, 0] = torch.where(dropped, END, rows["ids"][:, 0])


def encode(model: TextToVideo, rows: dict[str, Tensor]) -> Tensor:
    return model.transformer.encode_text(model.text_encoder(rows["ids"], rows["lengths"]))


def load_tokenizer(run: Run) -> Tokenizer:
    return Tokenizer(run.made(TOKENIZER_FILE, "tokenizer").read_bytes())


def new_model(run: Run, tokenizer: Tokenizer) -> TextToVideo:
    if len(tokenizer) > run.config.model.text.vocabulary:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} pieces, need at most text.vocabulary "
            f"{run.config.model.text.vocabulary}"
        )
    return TextToVideo(run.config.model).to(run.device)


def text_encoder_of(run: Run, stage: str) -> dict[str, Tensor]:
    """Averaged weights of the text encoder in a stage's checkpoint; empty if there is none."""
    saved, prefix = run.checkpoint(stage), "text_encoder."
    weights = saved.weights("ema", "weights") if saved else {}
    return {k.removeprefix(prefix): x for k, x in weights.items() if k.startswith(prefix)}


def digest(tensors: dict[str, Tensor]) -> str:
    """Of weights, the same for a copy of them in bfloat16."""
    out = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        out.update(name.encode())
        out.update(x.to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    return out.hexdigest()


class Supply:
    """Encoded clips of one length, in a pool."""

    def __init__(
        self,
        run: Run,
        latents: LatentSource,
        latent_frames: int,
        size: int,
        labels: bool,
        first_seed: int = 0,
    ):
        self.pool = Pool(size, first_seed)
        self._run, self._latents, self._frames = run, latents, latent_frames
        height, width = latents.size
        pixels = FRAMES_PER_LATENT * latent_frames * height * width
        self._at_once = max(1, PIXELS_AT_ONCE // pixels)
        self._labels = labels

    def render(self, seed: int, count: int) -> None:
        with self._run.precision():
            self.pool.put(self._latents.rows(range(seed, seed + count), self._frames, self._labels))

    def fill(self, seed: int, count: int, seconds: float) -> None:
        """Renders `count` clips, or fewer if the time is over before."""
        end = time.monotonic() + seconds
        for start in range(0, count, self._at_once):
            self.render(seed + start, min(self._at_once, count - start))
            if time.monotonic() > end:
                break


class Trainer:
    def __init__(self, run: Run, source: ClipSource, held_out: ClipSource):
        self.run, self.config, self.stage = run, run.config, run.config.flow
        self.source, self.held_out = Share(source), held_out
        self.tokenizer = load_tokenizer(run)
        self.autoencoder = load_autoencoder(run)
        self.model = new_model(run, self.tokenizer)
        self.model.text_encoder.requires_grad_(self.stage.train_text_encoder)
        self.learner = self._learner()
        saved = run.checkpoint()
        self.step = saved.step if saved else 0
        if saved:
            self.learner.restore(saved)
        self.notes = dict(saved.notes) if saved else {}
        if not saved or self.stage.take_text_encoder:
            self._take_text_encoder()
        self.attention = self.stage.attention
        if run.compile:
            self.model.transformer.compile_blocks()
            self.attention = self.attention.compiled()

    def _learner(self) -> Learner:
        run, stage, transformer = self.run, self.stage, self.model.transformer
        wanted = stage.probe_weight > 0
        self.probe = PlaceProbe(transformer.config.dim).to(run.device) if wanted else None
        learner = Learner(
            self.model, stage.optimizer, stage.ema_decay, run.spent, helper=self.probe
        )
        if self.probe is not None:  # not before: the average is a copy of the model
            self.probe.watch(transformer.blocks[stage.probe_block - 1])
        return learner

    def _take_text_encoder(self) -> None:
        """That of the stage `text`, if it has run; each once, because it learns on here."""
        encoder = text_encoder_of(self.run, "text")
        name = digest(encoder)
        if encoder and self.notes.get(TAKEN) != name:
            for model in (self.model, self.learner.ema):
                model.text_encoder.load_state_dict(encoder)
            self.notes[TAKEN] = name

    def latent_source(self, source: ClipSource, phase: FlowPhase) -> LatentSource:
        text_len = self.config.model.transformer.text_len
        size = self.config.generation.size(phase.grid_scale)
        return LatentSource(source, self.autoencoder, self.tokenizer, text_len, size)

    def loss(self, model: TextToVideo, rows: dict[str, Tensor], phase: FlowPhase, generator):
        """[B]."""
        with self.run.precision():
            return flow_loss(
                model.transformer,
                rows["latents"].float(),
                encode(model, rows),
                generator,
                config=self.config,
                attention=self.attention,
                grid_scale=phase.grid_scale,
            )

    def supply(self, phase: FlowPhase) -> Supply:
        """A pool with the clips that are due at this step.

        With as many clips in it as there is room for, and fresh ones, it is that of a run that came
        here without a break. Without fresh ones every start has clips of its own.
        """
        first, fresh, latent_frames = share(phase.first), share(phase.fresh), phase.latent_frames
        due = fresh * (self.step - self.step % FRESH_STEPS) if fresh else first * self.step
        latents = self.latent_source(self.source, phase)
        labels = self.probe is not None or bool(phase.views)
        seed, size = phase.first_seed + due, share(phase.pool)
        out = Supply(self.run, latents, latent_frames, size, labels, seed)
        out.fill(seed, first, 60 * phase.fill_minutes)
        self.run.report(self.step, {"clips": len(out.pool), "clips_wanted": first})
        return out

    def train(self, phase: FlowPhase) -> None:
        """Until the phase's last step or the deadline."""
        run, first, fresh = self.run, share(phase.first), share(phase.fresh)
        self.model.transformer.recompute = phase.recompute
        clips, start = self.supply(phase), self.step
        turns = [View(phase.batch)] + [x for x in phase.views for _ in range(x.steps)]
        for step in run.steps(self.step, phase.until_step):
            if fresh and (step % FRESH_STEPS == 0 or step == start):
                due = fresh * (step - step % FRESH_STEPS)
                clips.render(phase.first_seed + first + due, fresh * FRESH_STEPS)
            generator = run.generator(step)
            wanted = turns[step % len(turns)]
            rows = view(clips.pool.draw(share(wanted.batch), generator), wanted, generator)
            values = self.learn(phase, step, rows, generator)
            kind = {0: "", 1: "picture_"}.get(wanted.frames, "first_")
            kind += "box_" if wanted.box else ""
            values = {kind + name: value for name, value in values.items()}
            run.log(step, values | {"draws": clips.pool.drawn / clips.pool.made})
            self.step = step + 1
            if run.time_to_save():
                self.save()

    def learn(
        self, phase: FlowPhase, step: int, rows: dict[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A step of the optimizers. -> what to log."""
        drop_text(rows, self.stage.text_dropout, generator)
        loss = self.loss(self.model, rows, phase, generator).mean()
        values = {"loss": loss.detach()}
        if self.probe is not None:
            with self.run.precision():
                told = self.probe.loss(rows["labels"]).mean()
            loss = loss + self.stage.probe_weight * told
            values["probe"] = told.detach()
        return values | {"gradient": self.learner.update(loss, step)}

    def save(self) -> None:
        self.run.save(self.step, self.learner.parts(), self.notes)

    @torch.no_grad()
    def validate(self, phase: FlowPhase) -> None:
        """The loss of the averaged weights on held-out clips: the same noise every time.

        Also how much larger it is with the prompt of another clip: what the model makes of prompts.
        """
        latents = self.latent_source(self.held_out, phase)
        losses: dict[str, list[Tensor]] = {"held_out_loss": [], "prompt_gain": []}
        for start in range(0, HELD_OUT_CLIPS, HELD_OUT_AT_ONCE):
            seeds = range(start, start + HELD_OUT_AT_ONCE)
            with self.run.precision():
                rows = latents.rows(seeds, phase.latent_frames)
            told = [rows, rows | {name: rows[name].roll(1, 0) for name in ("ids", "lengths")}]
            own, other = (
                self.loss(
                    self.learner.ema,
                    some,
                    phase,
                    torch.Generator(self.run.device).manual_seed(start),
                )
                for some in told
            )
            losses["held_out_loss"].append(own)
            losses["prompt_gain"].append(other - own)
        values = {name: torch.cat(x).mean() for name, x in losses.items()}
        self.run.report(self.step, values)


def main(
    argv: list[str] | None = None,
    source: ClipSource | None = None,
    held_out: ClipSource | None = None,
) -> None:
    run = Run("flow", __doc__.splitlines()[0], argv)
    trainer = Trainer(run, source or training_source(), held_out or validation_source())
    phases = [x for x in run.config.flow.phases if x.until_step > trainer.step]
    for phase in phases:
        trainer.train(phase)
        if trainer.step < phase.until_step:
            break
    trainer.save()
    if phases:
        trainer.validate(phase)


if __name__ == "__main__":
    main()
