"""Videos of a package made by PyTorch, as one picture: a row of frames for each prompt.

python -m monarchrt_train.sample PACKAGE --prompts FILE --out sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from monarchrt_train.attention import Attention
from monarchrt_train.config import CHUNK_FRAMES
from monarchrt_train.package import Model, import_package
from monarchrt_train.rollout import KvCache, draw_noise, generate
from monarchrt_train.taehv import PIXELS_PER_LATENT
from monarchrt_train.world.__main__ import write_png

COLUMNS = 8


@torch.no_grad()
def make_video(
    model: Model, prompt: str, chunks: int, attention: Attention, generator: torch.Generator
) -> Tensor:
    """-> [frames, 3, height, width] in 0..1."""
    settings, transformer = model.generation, model.video.transformer
    rows, cols = settings.height // PIXELS_PER_LATENT, settings.width // PIXELS_PER_LATENT
    shape = (1, CHUNK_FRAMES, transformer.config.in_dim, rows, cols)
    noise, fresh = draw_noise(shape, chunks, len(settings.steps), generator)
    text = model.video.encode(model.tokenizer, [prompt])
    cache = KvCache(attention, transformer.config.num_layers, settings.window_frames)
    made = generate(
        transformer, text, noise, fresh, cache, steps=settings.steps, shift=settings.shift
    )
    return model.autoencoder.decode(torch.cat(made.latents, 1))[0].float().clamp(0, 1)


def sheet(videos: list[Tensor]) -> Tensor:
    """uint8 [rows * height, COLUMNS * width, 3]."""
    rows = []
    for video in videos:
        at = torch.linspace(0, len(video) - 1, COLUMNS).round().long()
        rows.append(torch.cat(list(video[at].cpu()), 2))
    return (torch.cat(rows, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--prompts", required=True, type=Path, help="one a line")
    parser.add_argument("--chunks", type=int, default=7)
    parser.add_argument("--attention", choices=("dense", "monarch"), help="default: the package's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args(argv)
    model = import_package(args.package)
    model.video.to(args.device)
    model.autoencoder.to(args.device)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    videos = []
    with torch.autocast(
        torch.device(args.device).type, torch.bfloat16, enabled=args.device != "cpu"
    ):
        for prompt in args.prompts.read_text().splitlines():
            attention = Attention(args.attention or model.attention)
            videos.append(make_video(model, prompt, args.chunks, attention, generator))
    write_png(args.out, sheet(videos).numpy())


if __name__ == "__main__":
    main()
