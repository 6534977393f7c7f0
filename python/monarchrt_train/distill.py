"""Stages 4 and 5: the four steps of the sampler, dense and then with Monarch attention.

python -m monarchrt_train.distill --config FILE --work DIR --minutes 8
python -m monarchrt_train.monarch --config FILE --work DIR --minutes 8

Self-Forcing with distribution matching, one chunk given the chunks before it (README.md says why).
An iteration:
1. Roll out with the KV cache, exactly as at inference and without gradients. All inputs of all
   denoising steps are kept.
2. Pick one denoising step. One parallel pass over clean and noisy chunks (flow.velocities) repeats
   the generator's answer at that step for all chunks, with gradients: memory is that of one
   training step, whatever the number of chunks and steps.
3. Noise that answer; teacher and critic denoise it, both given the generated history. The
   difference of their answers is the gradient of the generator's output.
4. The critic learns the generator's answers by flow matching, several times for each rollout.

With `trajectory_weight` the answer is also drawn to the end of the teacher's flow from the same
input, with guidance: one answer to one input, so not a mean of many, and sharp where little noise
is left.

With `reward_weight` it is also drawn to what shows the prompt, by reward.py.

With `match_weight` the answer is also drawn to that of the stage before on the same input. That is
how Monarch attention is learnt: the dense few-step model gives one answer to one input, so nothing
is averaged, and a gradient of little noise costs no critic.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from monarchrt_train.attention import Attention
from monarchrt_train.checkpoint import Checkpoint
from monarchrt_train.clips import ClipSource
from monarchrt_train.config import CHUNK_FRAMES, Config, DistillPhase, DistillStage
from monarchrt_train.flow import load_tokenizer, new_model, per_frame, velocities
from monarchrt_train.labels import Mentions, asked
from monarchrt_train.learner import Learner
from monarchrt_train.parallel import Share, share
from monarchrt_train.reward import load_reward
from monarchrt_train.rollout import KvCache, draw_noise, generate
from monarchrt_train.run import Run
from monarchrt_train.schedule import TABLE_SIZE, add_noise, sampler_sigmas, to_clean, warp
from monarchrt_train.sources import training_source
from monarchrt_train.taehv import PIXELS_PER_LATENT
from monarchrt_train.wan import WanTransformer

LOWEST, HIGHEST = 0.02, 0.98  # even shares of noise at which the scores are compared
MOST_DRAWN = 1.0  # norm of the reward's gradient in an answer
UNLIKELY = 12.0  # nats from which on it has that norm


@dataclass
class Generated:
    """A batch of rollouts."""

    prompts: Tensor  # rows of the text encoder, [B, text_len, text_dim]
    history: Tensor  # clean latents [B, F, C, h, w]
    inputs: list[Tensor]  # of each denoising step, [B, F, C, h, w]
    answers: list[Tensor]  # of each denoising step: what the generator took to be clean
    asked: dict[str, Tensor]  # what the prompts ask for: labels.asked


class Scorer:
    """The models and settings that a gradient step needs."""

    def __init__(self, config: Config, stage: DistillStage, attention: Attention, empty: Tensor):
        self.shift = config.generation.shift
        self.window = config.generation.window_frames
        self.stage, self.attention = stage, attention
        self.grid_scale = 1
        self.empty = empty  # rows of the text encoder for no prompt

    def velocity(
        self, model: WanTransformer, g: Generated, noisy: Tensor, sigma: Tensor, text: Tensor
    ) -> Tensor:
        """The velocities of all chunks, given the generated history, in float32."""
        v = velocities(
            model,
            g.history,
            noisy,
            sigma,
            text,
            window=self.window,
            attention=self.attention,
            grid_scale=self.grid_scale,
        )
        return v.float()

    def clean(
        self, model: WanTransformer, g: Generated, noisy: Tensor, sigma: Tensor, text: Tensor
    ) -> Tensor:
        """What `model` takes for the clean chunks, given the generated history."""
        return to_clean(noisy, self.velocity(model, g, noisy, sigma, text), sigma)

    def disturb(self, answer: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """-> the answer with noise, a noise level for each chunk [B, F], the noise."""
        shape = (answer.shape[0], answer.shape[1] // CHUNK_FRAMES)
        u = torch.rand(shape, generator=generator, device=answer.device)
        sigma = per_frame(warp(LOWEST + (HIGHEST - LOWEST) * u, self.shift))
        noise = torch.randn(answer.shape, generator=generator, device=answer.device)
        return add_noise(answer, noise, sigma), sigma, noise

    def guided(self, teacher: WanTransformer, g: Generated, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The teacher's velocities, with guidance."""
        v = self.velocity(teacher, g, noisy, sigma, teacher.encode_text(g.prompts))
        if self.stage.guidance == 1:
            return v
        text = teacher.encode_text(self.empty.expand_as(g.prompts))
        without = self.velocity(teacher, g, noisy, sigma, text)
        return without + self.stage.guidance * (v - without)

    @torch.no_grad()
    def direction(
        self,
        teacher: WanTransformer,
        critic: WanTransformer,
        g: Generated,
        answer: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """The gradient of the divergence in the generator's answer, of mean size about 1."""
        noisy, sigma, _ = self.disturb(answer, generator)
        real = to_clean(noisy, self.guided(teacher, g, noisy, sigma), sigma)
        fake = self.clean(critic, g, noisy, sigma, critic.encode_text(g.prompts))
        size = (answer - real).abs().mean((1, 2, 3, 4), keepdim=True)
        return torch.nan_to_num((fake - real) / size.clamp(min=1e-4))

    @torch.no_grad()
    def end_of_flow(
        self, teacher: WanTransformer, g: Generated, noisy: Tensor, noise_share: float
    ) -> Tensor:
        """Where the teacher's flow leads from chunks with an even share of noise, as in a step of
        the sampler / 1000. Euler's method, its steps even in that share."""
        count = max(1, round(self.stage.trajectory_steps * noise_share))
        shares = torch.linspace(noise_share, 0, count + 1, device=noisy.device)
        levels = warp(shares, self.shift)
        for now, then in itertools.pairwise(levels):
            v = self.guided(teacher, g, noisy, now.expand(noisy.shape[:2]))
            noisy = noisy + (then - now) * v
        return noisy

    def critic_loss(
        self, critic: WanTransformer, g: Generated, answer: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Flow matching on the generator's answers."""
        noisy, sigma, noise = self.disturb(answer, generator)
        got = self.velocity(critic, g, noisy, sigma, critic.encode_text(g.prompts))
        return functional.mse_loss(got, noise - answer)


def transformer_of(saved: Checkpoint) -> dict[str, Tensor]:
    """Averaged weights of the transformer."""
    prefix = "transformer."
    return {k.removeprefix(prefix): x for k, x in saved.parts["ema"].items() if prefix in k}


class Trainer:
    def __init__(self, run: Run, stage: DistillStage, before: str, source: ClipSource):
        self.run, self.stage, self.source = run, stage, Share(source)
        self.tokenizer = load_tokenizer(run)
        self.config = run.config
        flow = run.checkpoint("flow")
        saved = run.checkpoint() or run.checkpoint(before)
        if flow is None or saved is None:
            raise FileNotFoundError(f"{run.work} has no checkpoint of flow and {before}")
        model = new_model(run, self.tokenizer).requires_grad_(False)
        model.load_state_dict(flow.weights("ema", "weights"))
        self.text_encoder, self.teacher = model.text_encoder, model.transformer
        self.generator = copy.deepcopy(self.teacher).requires_grad_(True)
        critic = copy.deepcopy(self.teacher).requires_grad_(True)
        self.example = self._example(before) if stage.match_weight > 0 else None
        self.reward = load_reward(run) if stage.reward_weight > 0 else None
        self.learner = Learner(self.generator, stage.optimizer, stage.ema_decay, run.spent)
        self.critic = Learner(critic, stage.critic, spent=run.spent)
        self.step = 0
        if run.checkpoint() is not None:
            self.step = saved.step
            self._restore(saved)
        elif before != "flow":  # from the averaged weights, with the critic as it is
            kept = ("ema", "critic")
            parts = {name: x for name, x in saved.parts.items() if name in kept}
            self._restore(Checkpoint(0, parts))
        self.attention = stage.attention
        scorer_attention = stage.scorer_attention
        if run.compile:
            self.attention = self.attention.compiled()
            scorer_attention = scorer_attention.compiled()
            for transformer in (self.generator, critic, self.teacher, self.example):
                if transformer is not None:
                    transformer.compile_blocks()
        empty = self.encode([""])
        self.scorer = Scorer(run.config, stage, scorer_attention, empty)
        self.own = Scorer(run.config, stage, self.attention, empty)
        sigmas = sampler_sigmas(run.config.generation.steps, run.config.generation.shift)
        self.sigmas = sigmas.float().to(run.device)

    def _example(self, before: str) -> WanTransformer:
        """The averaged generator of the stage before."""
        example = copy.deepcopy(self.teacher)
        example.load_state_dict(transformer_of(self.run.checkpoint(before)))
        return example

    def _restore(self, saved: Checkpoint) -> None:
        ema = transformer_of(saved)
        self.learner.restore(Checkpoint(saved.step, saved.parts | {"ema": ema}))
        if "critic" in saved.parts:
            self.critic.restore(saved, "critic", "critic")

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """-> rows of the text encoder, [B, text_len, text_dim]."""
        text_len = self.config.model.transformer.text_len
        ids, lengths = self.tokenizer.batch(prompts, text_len)
        with self.run.precision():
            rows = self.text_encoder(ids.to(self.run.device), lengths.to(self.run.device))
        return functional.pad(rows, (0, 0, 0, text_len - rows.shape[1]))

    def prompts(
        self, phase: DistillPhase, seeds: Sequence[int]
    ) -> tuple[list[str], list[Mentions]]:
        """And what they say. In a box there is room for one thing."""
        if not phase.box:
            return self.source.captions(seeds), self.source.mentions(seeds)
        told = self.source.partly(seeds)
        one = [(1 << seed % len(x.things)) - 1 for seed, x in zip(seeds, told, strict=True)]
        captions = [x.captions[n] for n, x in zip(one, told, strict=True)]
        return captions, [x.mentions[n] for n, x in zip(one, told, strict=True)]

    @torch.no_grad()
    def rollout(self, phase: DistillPhase, step: int, generator: torch.Generator) -> Generated:
        settings, batch = self.config.generation, share(phase.batch)
        seeds = range(batch * step, batch * (step + 1))
        captions, mentions = self.prompts(phase, seeds)
        prompts = self.encode(captions)
        size = phase.box or [x // PIXELS_PER_LATENT for x in settings.size(phase.grid_scale)]
        channels = self.config.model.transformer.in_dim
        shape = (batch, CHUNK_FRAMES, channels, *size)
        chunks = phase.latent_frames // CHUNK_FRAMES
        noise, fresh = draw_noise(shape, chunks, len(settings.steps), generator)
        layers = self.config.model.transformer.num_layers
        cache = KvCache(self.attention, layers, settings.window_frames)
        text = self.generator.encode_text(prompts)
        made = generate(
            self.generator,
            text,
            noise,
            fresh,
            cache,
            steps=settings.steps,
            shift=settings.shift,
            grid_scale=phase.grid_scale,
        )
        steps = range(len(settings.steps))
        return Generated(
            prompts=prompts,
            history=torch.cat(made.latents, 1),
            inputs=[torch.cat([chunk[s] for chunk in made.inputs], 1) for s in steps],
            answers=[torch.cat([chunk[s] for chunk in made.answers], 1) for s in steps],
            asked={name: x.to(self.run.device) for name, x in asked(mentions).items()},
        )

    def pick(self, generator: torch.Generator) -> int:
        count = len(self.sigmas)
        return int(torch.randint(count, (), generator=generator, device=generator.device))

    def generator_loss(
        self, g: Generated, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """At one of the denoising steps; and what to log."""
        s = self.pick(generator)
        noisy = g.inputs[s]
        sigma = self.sigmas[s].expand(noisy.shape[:2])
        text = self.generator.encode_text(g.prompts)
        answer = self.own.clean(self.generator, g, noisy, sigma, text)
        loss, values = answer.new_zeros(()), {}
        if self.stage.divergence_weight > 0:
            divergence, values["divergence"] = self.divergence(g, answer, generator)
            loss = loss + self.stage.divergence_weight * divergence
        if self.stage.trajectory_weight > 0:
            noise_share = self.config.generation.steps[s] / TABLE_SIZE
            end = self.scorer.end_of_flow(self.teacher, g, noisy, noise_share)
            trajectory = functional.mse_loss(answer, end)
            values["trajectory"] = trajectory.detach()
            loss = loss + self.stage.trajectory_weight * trajectory
        if self.reward is not None:
            drawn, values["unlikely"] = self.drawn(g, answer, generator)
            loss = loss + self.stage.reward_weight * drawn
        if self.example is not None:
            with torch.no_grad():
                text = self.example.encode_text(g.prompts)
                wanted = self.scorer.clean(self.example, g, noisy, sigma, text)
            distance = functional.mse_loss(answer, wanted)
            values["distance"] = distance.detach()
            loss = loss + self.stage.match_weight * distance
        return loss, values

    def divergence(
        self, g: Generated, answer: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss whose gradient is that of the divergence, and the divergence's size."""
        direction = self.scorer.direction(
            self.teacher, self.critic.module, g, answer.detach(), generator
        )
        loss = 0.5 * functional.mse_loss(answer, (answer - direction).detach())
        return loss, direction.abs().mean()

    def drawn(
        self, g: Generated, answer: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss whose gradient is that of the reward, in the scale of a divergence's of mean
        size 1; and how unlikely the answers are, in nats.

        A clip that lacks a thing may have a hundred times the gradient of one that is nearly right,
        and next to none if nothing in it has the thing's colour. So each clip's has a norm of
        MOST_DRAWN at most, and at least as much of that as the clip is unlikely.
        """
        at = answer.detach().requires_grad_()
        unlikely = self.reward.loss(at, g.asked, generator)
        (gradient,) = torch.autograd.grad(unlikely.sum(), at)
        norm = gradient.flatten(1).norm(dim=1)
        least = MOST_DRAWN * (unlikely.detach() / UNLIKELY).clamp(max=1)
        wanted = norm.maximum(least).clamp(max=MOST_DRAWN)
        gradient = gradient * (wanted / norm.clamp(min=1e-6)).view(-1, 1, 1, 1, 1)
        scale = answer[0].numel() ** -0.5
        return scale * (answer * gradient).flatten(1).sum(1).mean(), unlikely.detach().mean()

    def iterate(self, phase: DistillPhase, step: int) -> dict[str, Tensor]:
        run, values = self.run, {}
        generator = run.generator(step)
        with run.precision():
            g = self.rollout(phase, step, generator)
        if step >= self.stage.critic_only_steps:
            for _ in range(self.stage.generator_updates):
                with run.precision():
                    loss, values = self.generator_loss(g, generator)
                values["gradient"] = self.learner.update(loss, step)
        for _ in range(self.stage.critic_updates if self.stage.divergence_weight > 0 else 0):
            with run.precision():
                answer = g.answers[self.pick(generator)]
                loss = self.scorer.critic_loss(self.critic.module, g, answer, generator)
            values["critic_gradient"] = self.critic.update(loss, step)
            values["critic_loss"] = loss.detach()
        values["spread"] = g.history.std()
        return values

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The averaged weights are a whole model, text encoder included."""
        parts = self.learner.parts() | self.critic.parts("critic")
        ema = {f"transformer.{name}": x for name, x in parts["ema"].items()}
        text = {f"text_encoder.{name}": x for name, x in self.text_encoder.state_dict().items()}
        return parts | {"ema": ema | text}

    def train(self) -> None:
        """Until the last step or the deadline."""
        for phase in self.stage.phases:
            self.scorer.grid_scale = self.own.grid_scale = phase.grid_scale
            for transformer in (self.generator, self.critic.module):
                transformer.recompute = phase.recompute
            for step in self.run.steps(self.step, phase.until_step):
                values = self.iterate(phase, step)
                self.run.log(step, values)
                self.step = step + 1
                if self.run.time_to_save():
                    self.run.save(self.step, self.parts())
        self.run.save(self.step, self.parts())


def main(argv: list[str] | None = None, source: ClipSource | None = None) -> None:
    run = Run("distill", __doc__.splitlines()[0], argv)
    stage = run.config.distill
    source = source or training_source(stage.counts, stage.motions)
    Trainer(run, stage, "flow", source).train()


if __name__ == "__main__":
    main()
