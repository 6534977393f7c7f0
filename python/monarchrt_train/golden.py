"""Cases for `monarchrt verify`: what PyTorch generates with a package, as tensors.

python -m monarchrt_train.golden PACKAGE --prompt TEXT --out PACKAGE/run_0.safetensors
The file goes into the package's folder, or verify does not find its model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from monarchrt_train.attention import Attention
from monarchrt_train.config import CHUNK_FRAMES
from monarchrt_train.package import Model, import_package
from monarchrt_train.rollout import KvCache, draw_noise, generate
from monarchrt_train.schedule import sampler_sigmas
from monarchrt_train.taehv import PIXELS_PER_LATENT


def write_run(
    path: Path, model: Model, prompt: str, *, chunks: int, attention: Attention, seed: int
) -> None:
    """Prompt to ids, text embedding, latents and video, in float32 on the CPU."""
    settings = model.generation
    rows, cols = settings.height // PIXELS_PER_LATENT, settings.width // PIXELS_PER_LATENT
    shape = (1, CHUNK_FRAMES, model.config.transformer.in_dim, rows, cols)
    noise, fresh = draw_noise(
        shape, chunks, len(settings.steps), torch.Generator().manual_seed(seed)
    )
    text_len = model.config.transformer.text_len
    ids, lengths = model.tokenizer.batch([prompt], text_len)
    padded = torch.zeros(text_len, dtype=torch.int32)
    padded[: lengths[0]] = ids[0]
    with torch.no_grad():
        rows_of_text = model.video.text_encoder(ids, lengths)
        text = model.video.transformer.encode_text(rows_of_text)
        cache = KvCache(attention, model.config.transformer.num_layers, settings.window_frames)
        rollout = generate(
            model.video.transformer,
            text,
            noise,
            fresh,
            cache,
            steps=settings.steps,
            shift=settings.shift,
        )
        latents = torch.cat(rollout.latents, 1)
        video = model.autoencoder.decode(latents)[0].clamp(0, 1)
    context = torch.zeros(text_len, rows_of_text.shape[2])
    context[: lengths[0]] = rows_of_text[0]
    tiling = None
    if attention.mode == "monarch":
        names = ("f_tied", "h_reduce", "w_reduce", "num_iters")
        tiling = dict(zip(names, (*attention.tiles, attention.iterations), strict=True))
    metadata = {
        "prompt": prompt,
        "denoising_step_list": json.dumps(settings.steps),
        "timestep_shift": str(settings.shift),
        "num_frame_per_block": str(CHUNK_FRAMES),
        "local_attn_size": str(settings.window_frames),
        "sink_size": "0",
        "monarch": json.dumps(tiling),
    }
    tensors = {
        "ids": padded,
        "context": context,
        "noise": torch.cat(noise, 1)[0],
        "renoise": torch.cat([x for chunk in fresh for x in chunk]),
        "timesteps": (1000 * sampler_sigmas(settings.steps, settings.shift)).float(),
        "latents": latents[0],
        "video": video.half(),
    }
    save_file({name: x.contiguous() for name, x in tensors.items()}, path, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--chunks", type=int, default=2)
    parser.add_argument("--attention", choices=("dense", "monarch"), help="default: the package's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", metavar="WxH", help="in pixels; default: the package's")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    model = import_package(args.package)
    if args.size:
        width, height = map(int, args.size.split("x"))
        sized = dataclasses.replace(model.generation, width=width, height=height)
        model = dataclasses.replace(model, generation=sized)
    attention = Attention(args.attention or model.attention)
    write_run(args.out, model, args.prompt, chunks=args.chunks, attention=attention, seed=args.seed)


if __name__ == "__main__":
    main()
