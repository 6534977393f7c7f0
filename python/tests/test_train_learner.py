"""The optimizers of the training."""

from __future__ import annotations

import pytest
import torch

from monarchrt_train.config import Optimizer
from monarchrt_train.learner import Learner
from monarchrt_train.muon import Muon


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    torch.manual_seed(3)
    learner = Learner(torch.nn.Linear(2, 2), Optimizer(warmup_steps=1))
    x = torch.ones(1, 2)
    learner.update(learner.module(x).sum(), 0)
    before = {name: value.clone() for name, value in learner.module.state_dict().items()}
    moments = {key: x.clone() for key, x in learner.parts()["weights_optimizer"].items()}
    norm = learner.update(learner.module(x * float("inf")).sum(), 1)
    assert not norm.isfinite()
    for name, value in learner.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    for key, value in learner.parts()["weights_optimizer"].items():
        assert torch.equal(value, moments[key]), key
    learner.update(learner.module(x).sum(), 2)
    assert not torch.equal(learner.module.weight, before["weight"])


def test_muon_has_a_learning_rate_of_its_own() -> None:
    """The first step of a square matrix is that of its sign in all directions."""

    def moved(**settings: float) -> tuple[float, float]:
        torch.manual_seed(3)
        module = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([torch.nn.Linear(64, 64)])})
        linear = module["blocks"][0]
        before = linear.weight.detach().clone(), linear.bias.detach().clone()
        options = Optimizer(warmup_steps=1, weight_decay=0, muon=True, **settings)
        Learner(module, options).update(linear(torch.randn(99, 64)).square().sum(), 0)
        weight, bias = (x.detach() - y for x, y in zip(linear.parameters(), before, strict=True))
        return float(weight.square().mean().sqrt()), float(bias.square().mean().sqrt())

    alike, usual = moved(learning_rate=1e-3), moved(learning_rate=1e-3, muon_learning_rate=0.0125)
    assert alike[1] == usual[1] == pytest.approx(1e-3, rel=0.01)  # AdamW's first step
    assert alike[0] == pytest.approx(0.2e-3, rel=0.2)
    assert usual[0] == pytest.approx(0.02 / 64**0.5, rel=0.2)  # Muon's own 0.02


def test_muon_is_that_of_torch() -> None:
    """Whose products are in bfloat16, these on a CPU in float32."""
    shapes = [(6, 6), (6, 6), (12, 6), (6, 12), (6, 6)]
    generator = torch.Generator().manual_seed(1)
    start = [torch.randn(x, generator=generator) for x in shapes]
    ours, theirs = ([torch.nn.Parameter(x.clone()) for x in start] for _ in range(2))
    mine = Muon([{"params": ours[:3]}, {"params": ours[3:]}], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for x, y in zip(ours, theirs, strict=True):
            x.grad = torch.randn(x.shape, generator=generator)
            y.grad = x.grad.clone()
        mine.step()
        other.step()
    for x, y, z in zip(ours, theirs, start, strict=True):
        assert (x - y).norm() < 0.02 * (y - z).norm()
        state = mine.state[x]["momentum_buffer"], other.state[y]["momentum_buffer"]
        torch.testing.assert_close(*state)
    ours[0].grad = None  # one without a gradient stays
    before = ours[0].detach().clone()
    mine.step()
    assert torch.equal(ours[0], before)
