"""The baselines in PyTorch against the figures of docs/attention.md; fidelity on a tiny model."""

import pytest
import torch

from monarchrt_eval import fidelity
from monarchrt_eval.patterns import Grid, Radial, Window, choose_radial, choose_window, keep_largest
from monarchrt_train.attention import dense
from monarchrt_train.config import Generation, ModelConfig
from monarchrt_train.package import random_model
from monarchrt_train.taehv import TaehvConfig
from monarchrt_train.umt5 import Umt5Config
from monarchrt_train.wan import WanConfig

# Of density 0.053, from docs/attention.md: what the engine chooses and reaches.
CHOSEN = [
    (Grid(3, 21, 30, 52), Window(6, 5, 11), 0.0500, 150, 0.0529),
    (Grid(3, 9, 30, 52), Window(2, 5, 9), 0.0492, 80, 0.0530),
    (Grid(3, 3, 30, 52), Window(0, 6, 11), 0.0507, 47, 0.0520),
    (Grid(3, 12, 45, 80), Window(3, 8, 16), 0.0528, 226, 0.0529),
]


@pytest.mark.parametrize(("grid", "window", "reached", "base", "radial_reached"), CHOSEN)
def test_patterns_are_those_of_the_engine(grid, window, reached, base, radial_reached):
    assert choose_window(grid, 0.053) == window
    assert window.pairs(grid) / grid.all_pairs() == pytest.approx(reached, abs=6e-5)
    radial = choose_radial(grid, 0.053)
    assert radial == Radial(base)
    assert radial.pairs(grid) / grid.all_pairs() == pytest.approx(radial_reached, abs=6e-5)


def test_masks_keep_as_many_pairs_as_planned():
    grid = Grid(2, 6, 4, 5)
    queries = torch.arange(2 * 20)
    for pattern in (Window(1, 2, 1), Radial(3), Radial(1), Radial(9)):
        assert int(pattern.keeps(grid, queries).sum()) == pattern.pairs(grid)
    assert choose_window(grid, 1.0).keeps(grid, queries).all()
    assert choose_radial(grid, 1.0).keeps(grid, queries).all()
    kept = keep_largest(torch.tensor([[0.1, 3, 2, -1], [5, 4, 3, 2.0]]), 0.5)
    assert kept.tolist() == [[False, True, True, False], [True, True, False, False]]


def test_everything_kept_is_dense():
    q, k, v = (
        torch.randn(1, n, 1, 6, 2, 8, generator=torch.Generator().manual_seed(n)) for n in (2, 4, 4)
    )
    queries = torch.arange(12)
    exact = dense(q, k, v)[0].flatten(0, 2)
    made = fidelity.approximate(q, k, v, queries, 1.0)  # Monarch is exact with one row, too
    assert made.keys() == set(fidelity.METHODS)
    for out in made.values():
        torch.testing.assert_close(out, exact)
    few = fidelity.approximate(q, k, v, queries, 0.2)
    assert all((few[n] - exact).norm() > 0.01 for n in ("topk", "window", "radial"))


def test_fidelity_of_a_tiny_model():
    config = ModelConfig(
        Umt5Config(vocabulary=320, dim=16, dim_attn=16, dim_ffn=16, heads=2, layers=1, buckets=8),
        WanConfig(
            dim=24,
            ffn_dim=16,
            num_heads=2,
            num_layers=2,
            text_dim=16,
            freq_dim=8,
            in_dim=4,
            out_dim=4,
            text_len=8,
        ),
        TaehvConfig(4, (8, 8, 8, 8), (8, 8, 8, 8)),
    )
    generation = Generation(width=64, height=48, steps=(1000, 500), window_frames=6)
    captions = [f"a {c} ball" for c in ("red", "green", "blue", "yellow", "violet", "turquoise")]
    model = random_model(config, generation, captions * 20, seed=1)
    one = fidelity.compare(model, "a red ball", seed=1, density=0.2)
    assert one.norms.shape == (2, 2)
    assert (one.norms > 0).all()
    for name in fidelity.METHODS:
        assert (one.errors[name] > 0).all(), name
    assert (one.errors["topk"] < one.norms).all()
