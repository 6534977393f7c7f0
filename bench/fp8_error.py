#!/usr/bin/env python3
"""What Linears in FP8 (e4m3) or int8 would cost: relative L2 of the latents of a demo rollout.

    python bench/fp8_error.py [PACKAGE]

Of the matrices of the transformer's blocks: a scale for each output channel, and for each token of
their input. Everything else, and the sums, in float32. Needs the package of python/.
"""

import pathlib
import sys

import torch

from monarchrt_train.attention import Attention
from monarchrt_train.config import CHUNK_FRAMES
from monarchrt_train.package import import_package
from monarchrt_train.rollout import KvCache, draw_noise, generate
from monarchrt_train.taehv import PIXELS_PER_LATENT

DEMO = pathlib.Path(__file__).resolve().parents[1] / "models" / "demo"
E4M3_MAX = 448


def through_fp8(x):
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / E4M3_MAX
    return (x / scale).to(torch.float8_e4m3fn).float() * scale


def through_int8(x):
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (x / scale).round() * scale


def latents(model, through=None, wanted=lambda name: True, inputs=True):
    """Of two chunks, with the wanted matrices rounded by `through`, and their inputs."""
    settings, transformer = model.generation, model.video.transformer
    rows, cols = settings.height // PIXELS_PER_LATENT, settings.width // PIXELS_PER_LATENT
    shape = (1, CHUNK_FRAMES, model.config.transformer.in_dim, rows, cols)
    noise, fresh = draw_noise(shape, 2, len(settings.steps), torch.Generator().manual_seed(1))
    ids, lengths = model.tokenizer.batch(["a red ball bounces"], model.config.transformer.text_len)
    matrices = [module for name, module in transformer.named_modules()
                if isinstance(module, torch.nn.Linear) and "blocks" in name and wanted(name)]
    whole, hooks = [], []
    for matrix in matrices if through else []:
        whole.append((matrix, matrix.weight.data))
        matrix.weight.data = through(matrix.weight.data)
        if inputs:
            hooks.append(matrix.register_forward_pre_hook(lambda _, x: (through(x[0]),)))
    with torch.no_grad():
        text = transformer.encode_text(model.video.text_encoder(ids, lengths))
        cache = KvCache(Attention(model.attention), model.config.transformer.num_layers,
                        settings.window_frames)
        rollout = generate(transformer, text, noise, fresh, cache, steps=settings.steps,
                           shift=settings.shift)
    for hook in hooks:
        hook.remove()
    for matrix, weight in whole:
        matrix.weight.data = weight
    return torch.cat(rollout.latents, 1)


def main():
    model = import_package(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
    want = latents(model)
    for label, options in {
            "FP8": {"through": through_fp8},
            "FP8, feed-forward only": {"through": through_fp8, "wanted": lambda n: ".ffn." in n},
            "FP8 weights, inputs as they are": {"through": through_fp8, "inputs": False},
            "int8": {"through": through_int8}}.items():
        error = (latents(model, **options) - want).norm() / want.norm()
        print(f"{label:32} {100 * error:.2f} %")


if __name__ == "__main__":
    main()
