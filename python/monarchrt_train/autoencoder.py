"""Stage 2: the autoencoder. Writes WORK/autoencoder.safetensors and reports PSNR and SSIM.

python -m monarchrt_train.autoencoder --config FILE --work DIR --minutes 8

Latents are scaled to mean 0 and variance 1 per channel while training, and a little noise is added
to them: the transformer's are not exact. At the end the scale goes into the encoder's last
convolution, because the engine knows no statistics for TAEHV. With `train_encoder` false all that
is over: the decoder learns on, from the latents as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from monarchrt_train.checkpoint import Checkpoint
from monarchrt_train.clips import ClipSource, Pool, to_float
from monarchrt_train.config import AutoencoderStage, Config
from monarchrt_train.learner import Learner
from monarchrt_train.metrics import psnr, ssim
from monarchrt_train.parallel import Share, rank, share
from monarchrt_train.run import Run
from monarchrt_train.sources import training_source, validation_source
from monarchrt_train.taehv import Taehv, fold_statistics

WEIGHTS_FILE = "autoencoder.safetensors"
CHANNEL = (0, 1, 3, 4)  # the axes of latents [B, n, C, h, w] but the channels'
CLIPS_AT_ONCE = 4  # when encoding whole pictures
CELL = 8  # pixels, a side: where things are is known to that
ANYWHERE = 1e-6  # weight of a cell without a thing, where one with a thing weighs 1


def normalise(latents: Tensor) -> Tensor:
    """To mean 0 and variance 1 of each channel, over the batch."""
    x = latents.float()
    variance, mean = torch.var_mean(x, CHANNEL, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-6)


def loss(
    model: Taehv, video: Tensor, stage: AutoencoderStage, step: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The loss, and the mean squared error in it.

    Squares first: small things on a plain ground have no pull on absolute differences until they
    are there. These, of pixels and of neighbours in space and time, come in over `sharpen_steps`.
    """
    if stage.train_encoder:
        latents = normalise(model.encode(video))
    else:
        with torch.no_grad():
            latents = model.encode(video).float()
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    difference = model.decode(latents + stage.latent_noise * noise).float() - video
    squared = difference.square().mean()
    edges = sum(difference.diff(dim=axis).abs().mean() for axis in (1, 3, 4))
    sharp = difference.abs().mean() + stage.edge_weight * edges
    share = min(1.0, step / stage.sharpen_steps)
    return stage.squared_weight * squared + share * sharp, squared.detach()


def cut(rows: dict[str, Tensor], stage: AutoencoderStage, generator: torch.Generator) -> Tensor:
    """Clips of a pool (`rows_of`) -> float boxes of them in 0..1 [B, frames, 3, crop, crop]."""
    clips, things = rows["clips"], rows["things"]
    batch, device = len(clips), generator.device
    extents = (clips.shape[1], *clips.shape[3:])
    size = (stage.frames, stage.crop or extents[1], stage.crop or extents[2])
    cell = torch.multinomial(things.flatten(1) + ANYWHERE, 1, generator=generator)[:, 0]
    middle = torch.stack([cell // things.shape[2], cell % things.shape[2]], 1) * CELL + CELL // 2
    u = torch.rand((batch, 4), generator=generator, device=device)
    room = torch.tensor([e - n for e, n in zip(extents, size, strict=True)], device=device)
    first = (u[:, :3] * (room + 1)).long()  # anywhere
    box = torch.tensor(size[1:], device=device)
    beside = (middle - box * (0.25 + 0.5 * u[:, 1:3])).long().clamp(min=0).minimum(room[1:])
    around = u[:, 3:] < stage.around_things
    first[:, 1:] = torch.where(around, beside, first[:, 1:])
    return to_float(
        torch.stack(
            [
                clip[t : t + size[0], :, y : y + size[1], x : x + size[2]]
                for clip, (t, y, x) in zip(clips, first.tolist(), strict=True)
            ]
        )
    )


def rows_of(
    source: ClipSource,
    seeds: Sequence[int],
    frames: int,
    size: tuple[int, int],
    device: torch.device,
    first_frame: int,
) -> dict[str, Tensor]:
    """clips uint8 [B, frames, 3, height, width]; things [B, height / 8, width / 8], 1 where one is
    in the middle frame."""
    clips = source.clips(seeds, frames, size, device, first_frame)
    grid = (size[0] // CELL, size[1] // CELL)
    labels = source.labels(seeds, [first_frame + frames // 2], grid, device)
    return {"clips": clips, "things": (labels[:, 0, 0] > 0).float()}


@torch.no_grad()
def folded(model: Taehv, video: Tensor) -> Taehv:
    """A copy whose latents have mean 0 and variance 1 on `video`."""
    model = copy.deepcopy(model)
    latents = torch.cat([model.encode(x).float() for x in video.split(CLIPS_AT_ONCE)])
    variance, mean = torch.var_mean(latents, CHANNEL)
    fold_statistics(model.encoder, mean, (variance + 1e-6).sqrt())
    return model


@torch.no_grad()
def report(model: Taehv, source: ClipSource, config: Config, device: torch.device) -> dict:
    """PSNR and SSIM on held-out clips, means and the worst clip."""
    count = config.autoencoder.held_out_clips
    scores: dict[str, list[Tensor]] = {"psnr": [], "ssim": []}
    for seed in range(count):
        frames, size = config.autoencoder.frames, config.generation.size()
        video = to_float(source.clips([seed], frames, size, device))
        got = model.decode(model.encode(video)).clamp(0, 1)
        scores["psnr"].append(psnr(got, video))
        scores["ssim"].append(ssim(got, video))
    values = {name: torch.cat(x) for name, x in scores.items()}
    means = {f"held_out_{name}": x.mean() for name, x in values.items()}
    return {**means, "held_out_psnr_min": values["psnr"].min()}


def load_autoencoder(run: Run) -> Taehv:
    """What this stage wrote, on the device."""
    model = Taehv(run.config.model.autoencoder)
    weights = load_file(run.made(WEIGHTS_FILE, "autoencoder"))
    model.load_state_dict({name: x.float() for name, x in weights.items()})
    model.to(run.device, memory_format=torch.channels_last)
    return model.requires_grad_(False).eval()


def _finish(run: Run, model: Taehv, clips: Tensor, held_out: ClipSource, step: int) -> None:
    """Writes the file that the next stages read."""
    whole = to_float(clips[:, : run.config.autoencoder.frames])
    with run.precision():
        done = folded(model, whole) if run.config.autoencoder.train_encoder else model
        run.report(step, report(done, held_out, run.config, run.device))
    weights = {name: x.cpu().contiguous() for name, x in done.state_dict().items()}
    save_file(weights, run.work / WEIGHTS_FILE)


def _finished(run: Run) -> Checkpoint | None:
    """What an earlier run has written, to go on from without its checkpoint."""
    path = run.work / WEIGHTS_FILE
    return Checkpoint(0, {"weights": load_file(path)}) if path.exists() else None


def main(
    argv: list[str] | None = None,
    source: ClipSource | None = None,
    held_out: ClipSource | None = None,
) -> None:
    run = Run("autoencoder", __doc__.splitlines()[0], argv)
    stage = run.config.autoencoder
    source = Share(source or training_source())
    held_out = held_out or validation_source()
    model = Taehv(run.config.model.autoencoder)
    model.to(run.device, memory_format=torch.channels_last)
    model.encoder.requires_grad_(stage.train_encoder)
    learner = Learner(model, stage.optimizer, stage.ema_decay, run.spent)
    saved = run.checkpoint() or _finished(run)
    if saved:
        learner.restore(saved)
    done = saved.step if saved else 0
    if run.compile:
        model.encode = torch.compile(model.encode, dynamic=False)
        model.decode = torch.compile(model.decode, dynamic=False)

    pool = Pool(share(stage.pool))
    first, fresh = share(stage.first), share(stage.fresh)

    def render(seed: int, count: int) -> None:
        start = seed % (stage.first_frame_max + 1)
        seeds, size = range(seed, seed + count), run.config.generation.size()
        pool.put(rows_of(source, seeds, stage.clip_frames, size, run.device, start))

    for start in range(0, first, CLIPS_AT_ONCE):
        render((fresh or first) * done + start, min(CLIPS_AT_ONCE, first - start))
    for step in run.steps(done, stage.steps):
        generator = run.generator(step)
        if fresh:
            render(first + fresh * step, fresh)
        video = cut(pool.draw(share(stage.batch), generator), stage, generator)
        with run.precision():
            value, squared = loss(model, video, stage, step, generator)
        norm = learner.update(value, step)
        psnr_now = -10 * squared.log10()
        run.log(step, {"loss": value.detach(), "psnr": psnr_now, "gradient": norm})
        done = step + 1
        if run.time_to_save():
            run.save(done, learner.parts())
    run.save(done, learner.parts())
    if not rank():
        sample = pool.draw(min(len(pool), 64), run.generator(done))["clips"]
        _finish(run, learner.ema, sample, held_out, done)


if __name__ == "__main__":
    main()
