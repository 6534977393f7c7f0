"""How far Monarch and the baselines are from dense attention, on activations of a real run.

The model generates with dense attention. In its last chunk, where the window is full, the queries,
keys and values of each layer also go through every other method, and what comes out is compared.
So an error does not add to that of the next layer: this is of each layer alone.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from monarchrt_eval import report
from monarchrt_eval.patterns import Grid, choose_radial, choose_window, keep_largest
from monarchrt_train.attention import dense, monarch
from monarchrt_train.config import CHUNK_FRAMES
from monarchrt_train.package import Model, import_package
from monarchrt_train.rollout import KvCache, draw_noise, generate
from monarchrt_train.taehv import PIXELS_PER_LATENT
from monarchrt_train.world import prompts

METHODS = ("monarch", "topk", "window", "radial")
QUERY_STRIDE = 15  # every so many tokens one is compared; shares no factor but 1 with 52 columns


def approximate(
    q: Tensor, k: Tensor, v: Tensor, queries: Tensor, density: float
) -> dict[str, Tensor]:
    """Of each method the outputs [len(queries), heads, d].

    q [1, F, H, W, heads, d], k and v with more frames; `queries` are token numbers in q.
    """
    grid = Grid(q.shape[1], k.shape[1], *q.shape[2:4])
    some = q[0].flatten(0, 2)[queries].transpose(0, 1)  # [heads, n, d]
    keys, values = (x[0].flatten(0, 2).transpose(0, 1) for x in (k, v))
    scores = some @ keys.transpose(1, 2) / q.shape[-1] ** 0.5  # [heads, n, keys]

    def over(keep: Tensor) -> Tensor:
        weights = scores.masked_fill(~keep, -torch.inf).softmax(-1)
        return (weights @ values).transpose(0, 1)

    return {
        "monarch": monarch(q, k, v)[0].flatten(0, 2)[queries],
        "topk": over(keep_largest(scores, density)),
        "window": over(choose_window(grid, density).keeps(grid, queries)),
        "radial": over(choose_radial(grid, density).keeps(grid, queries)),
    }


class Comparison(KvCache):
    """Attends densely, and from chunk `first` on sums up how far the other methods are off."""

    def __init__(self, layers: int, window: int, first_frame: int, density: float):
        super().__init__(dense, layers, window)
        self.first_frame, self.density = first_frame, density
        self.layer = 0
        self.errors: dict[str, Tensor] = {}  # squared norms [layers, heads]
        self.norms: Tensor | None = None
        self.attention = self._compare

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.layer = layer
        return super().__call__(layer, q, k, v)

    def _compare(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = dense(q, k, v)
        if self.frames_seen < self.first_frame:
            return out
        queries = torch.arange(0, q.shape[1] * q.shape[2] * q.shape[3], QUERY_STRIDE)
        exact = out[0].flatten(0, 2)[queries]
        if self.norms is None:
            self.norms = torch.zeros(len(self._past), q.shape[4])
            self.errors = {name: torch.zeros_like(self.norms) for name in METHODS}
        self.norms[self.layer] += exact.square().sum((0, 2))
        for name, made in approximate(q, k, v, queries, self.density).items():
            self.errors[name][self.layer] += (made - exact).square().sum((0, 2))
        return out


@torch.no_grad()
def compare(model: Model, prompt: str, seed: int, density: float) -> Comparison:
    """Runs the chunks that fill the window, and one more pass over the last for the cache."""
    settings, transformer = model.generation, model.video.transformer
    rows, cols = settings.height // PIXELS_PER_LATENT, settings.width // PIXELS_PER_LATENT
    chunks = settings.window_frames // CHUNK_FRAMES
    noise, fresh = draw_noise(
        (1, CHUNK_FRAMES, transformer.config.in_dim, rows, cols),
        chunks,
        len(settings.steps),
        torch.Generator().manual_seed(seed),
    )
    cache = Comparison(
        transformer.config.num_layers,
        settings.window_frames,
        (chunks - 1) * CHUNK_FRAMES,
        density,
    )
    text = model.video.encode(model.tokenizer, [prompt])
    generate(transformer, text, noise, fresh, cache, steps=settings.steps, shift=settings.shift)
    return cache


def measure(
    package: Path, clips: int, seed: int, density: float, tell: Callable[[str], None]
) -> dict:
    """Relative L2 errors of each method: [layers][heads] over all clips, and [layers]."""
    model = import_package(package)
    errors: dict[str, Tensor] = {}
    norms = torch.zeros(())
    for i, (text, _) in enumerate(prompts("held_out", clips, seed)):
        one = compare(model, text, seed + i, density)
        norms = norms + one.norms
        errors = {name: errors.get(name, 0) + x for name, x in one.errors.items()}
        tell(f"{i + 1} of {clips} clips")
    return {
        "model": str(package),
        "clips": clips,
        "density": density,
        "heads": {name: (x / norms).sqrt().tolist() for name, x in errors.items()},
        "layers": {name: (x.sum(1) / norms.sum(1)).sqrt().tolist() for name, x in errors.items()},
    }


def markdown(result: dict) -> str:
    """A line for each layer: of each method the error, and its smallest and largest head's."""
    rows = []
    for layer in range(len(result["layers"]["monarch"])):
        row = [str(layer)]
        for name in METHODS:
            heads = result["heads"][name][layer]
            whole = result["layers"][name][layer]
            row.append(f"{whole:.3f} ({min(heads):.3f} to {max(heads):.3f})")
        rows.append(row)
    return report.lines(["layer", *METHODS], rows)
