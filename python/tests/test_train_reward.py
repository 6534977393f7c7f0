"""The reward model: what it is asked and must tell of a view, and that a generator heeds it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_train_stages import CONFIG, HELD_OUT, SQUARES, arguments, mean, series

from monarchrt_train import autoencoder, checkpoint, distill, flow, reward, tokenizer
from monarchrt_train.config import DistillPhase, load
from monarchrt_train.labels import (
    ABSENT,
    FLAW,
    FLAW_IN_TIME,
    OF_A_THING,
    OF_THE_SCENE,
    YES,
    asked,
)
from monarchrt_train.probe import CLASSES
from monarchrt_train.reward import PLACE, RewardModel, likelihood, right, wanted
from monarchrt_train.run import Run
from monarchrt_train.sources import training_source
from monarchrt_train.world.scene import COLORS, SHAPES

RED, BLUE = COLORS.index("red"), COLORS.index("blue")


def test_a_prompt_asks_for_what_it_says_only() -> None:
    star = {"color": "red", "shape": "star"}
    got = asked([{"count": 1, "objects": [star]}, {"count": 2, "objects": [star, {"size": "big"}]}])
    assert got["there"][0].tolist() == [int(color == "red") for color in COLORS]
    assert got["shape"][0, RED] == SHAPES.index("star")
    assert got["shape"][0, BLUE] == got["size"][0, RED] == got["background"][0] == ABSENT
    assert got["count"].tolist() == [0, 1]
    # The second thing may have any colour: none need be missing.
    assert got["there"][1].tolist() == [1 if color == "red" else ABSENT for color in COLORS]


def test_sources_tell_what_they_show_and_say() -> None:
    seeds = range(40)
    source = training_source()
    shown, said = source.shown(seeds), source.mentions(seeds)
    for all_of_it, some in zip(shown, said, strict=True):
        assert some["count"] == all_of_it["count"] == len(some["objects"])
        for thing, of_it in zip(all_of_it["objects"], some["objects"], strict=True):
            assert of_it.items() <= thing.items()
    for told, some in zip(source.partly(seeds), said, strict=True):
        assert told.mentions[-1] == some
        assert [len(x["objects"]) for x in told.mentions] == [
            n.bit_count() for n in range(1, len(told.mentions) + 1)
        ]


def test_of_a_view_it_tells_what_is_in_it() -> None:
    rows = {
        "things": torch.tensor([[1 + RED, 1 + BLUE, 0]]).repeat(3, 1).to(torch.uint8),
        # Whole and cut; whole and gone; whole both.
        "share": torch.tensor([[1.0, 0.3, 0.0], [0.8, 0.0, 0.0], [1.0, 0.9, 0.0]]),
        "want_there": torch.zeros(3, len(COLORS), dtype=torch.int8),
        "want_count": torch.ones(3, dtype=torch.int8),
        "want_camera": torch.ones(3, dtype=torch.int8),
        **{f"want_{n}": torch.ones(3, len(COLORS), dtype=torch.int8) for n in OF_A_THING},
    }
    rows["want_there"][:, [RED, BLUE]] = 1
    got = wanted(rows)
    assert got["there"][:, RED].tolist() == [1, 1, 1]
    assert got["there"][:, BLUE].tolist() == [ABSENT, 0, 1]
    assert got["there"].sum(1).tolist() == [1 + ABSENT, 1, 2]
    for name in OF_A_THING:
        assert got[name][:, RED].tolist() == [1, 1, 1]
        assert got[name][:, BLUE].tolist() == [ABSENT, ABSENT, 1]
    assert got["count"].tolist() == [ABSENT, ABSENT, 1]
    assert got["camera"].tolist() == [1, 1, 1]
    del rows["share"]
    assert torch.equal(wanted(rows)["there"], rows["want_there"].long())


def test_a_flaw_is_asked_for_where_it_shows() -> None:
    rows = {
        "things": torch.tensor([[1 + RED, 1 + BLUE, 0]]).repeat(3, 1).to(torch.uint8),
        "share": torch.tensor([[1.0, 1.0, 0.0], [0.9, 1.0, 0.0], [1.0, 1.0, 0.0]]),
        "want_there": torch.zeros(3, len(COLORS), dtype=torch.int8),
        "want_count": torch.ones(3, dtype=torch.int8),
        **{f"want_{n}": torch.ones(3, len(COLORS), dtype=torch.int8) for n in OF_A_THING},
    }
    rows["want_there"][:, BLUE] = YES
    rows["want_there"][:, RED] = torch.tensor([FLAW, FLAW, FLAW_IN_TIME])
    got = wanted(rows)["there"]
    assert got[:, RED].tolist() == [FLAW, ABSENT, ABSENT]  # all of it; cut by a box; other frames?
    assert got[:, BLUE].tolist() == [YES] * 3
    del rows["share"]  # whole clips
    got = wanted(rows)["there"]
    assert got[:, RED].tolist() == [FLAW] * 3
    said = {"there": torch.zeros(3, len(COLORS), 3)}
    said["there"][0, :, FLAW] = 1
    said["there"][1:, :, YES] = 1
    hits, asked_for = right(said, {"there": got})["flaw"]
    assert (int(hits), int(asked_for)) == (1, 3)


def test_likelihood_is_that_of_everything_wanted() -> None:
    generator = torch.Generator().manual_seed(1)
    answers = {"there": "nyf", **OF_A_THING, **OF_THE_SCENE}
    said = {
        n: torch.randn(
            2, *([] if n in OF_THE_SCENE else [len(COLORS)]), len(v), generator=generator
        )
        for n, v in answers.items()
    }
    want = asked([{"count": 1, "objects": [{"color": "red", "shape": "star"}]}] * 2)
    chances = {name: x.softmax(-1) for name, x in said.items()}
    no, there, _ = chances["there"].unbind(-1)
    expected = chances["count"][:, 0].log()
    for n in range(len(COLORS)):
        expected = expected + (there[:, n] if n == RED else no[:, n]).log()
    star = chances["shape"][:, RED, SHAPES.index("star")].log()
    torch.testing.assert_close(likelihood(said, want), expected + there[:, RED] * star)


def test_it_measures_each_colour() -> None:
    cells = torch.zeros(1, 6, 9, sum(CLASSES))
    colour = cells.split(CLASSES, -1)[1]
    colour[..., 0] = 50  # nothing anywhere
    colour[0, 2:4, 3:7, 0] = 0
    colour[0, 2:4, 3:7, 1 + RED] = 50
    x = torch.arange(54.0).view(1, 1, 6, 9)
    rows = RewardModel._by_color(x, cells, 1)
    assert rows.shape == (len(COLORS), 1, 1 + PLACE)
    share = 8 / 8.5  # half a cell counts as nothing
    what, count, row, column, *_ = rows[RED, 0].tolist()
    assert what == pytest.approx(share * float(x[0, 0, 2:4, 3:7].mean()), rel=1e-4)
    assert count == pytest.approx(torch.tensor(8.5).log().item(), rel=1e-4)
    assert (row, column) == pytest.approx((share * 0.25, share * 0.45), rel=1e-4)
    assert rows[BLUE, 0, 1] == pytest.approx(torch.tensor(0.5).log().item(), rel=1e-4)


def test_any_number_of_frames_and_any_box() -> None:
    torch.manual_seed(1)
    model = RewardModel(4, 16)
    for shape in ((2, 9, 4, 6, 10), (1, 3, 4, 5, 7), (3, 1, 4, 4, 4)):
        said, cells = model(torch.randn(shape))
        assert cells.shape == (*shape[:2], *shape[-2:], sum(CLASSES))
        assert said["shape"].shape == (shape[0], len(COLORS), len(SHAPES))
        assert said["count"].shape == (shape[0], len(OF_THE_SCENE["count"]))
    # What comes later tells of the present.
    latents = torch.randn(1, 3, 4, 6, 6, requires_grad=True)
    model(latents)[0]["motion"].square().sum().backward()
    assert all(x.abs().sum() > 0 for x in latents.grad[0])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages before distillation have run."""
    work = tmp_path_factory.mktemp("reward")
    tokenizer.main(arguments(work), SQUARES)
    autoencoder.main(arguments(work), SQUARES, HELD_OUT)
    flow.main(arguments(work), SQUARES, HELD_OUT)
    reward.main(arguments(work), SQUARES, HELD_OUT)
    return work


def test_it_learns_and_is_resumed(work: Path, tmp_path: Path) -> None:
    for names in (("loss", "box_3_loss"), ("cells", "box_3_cells")):
        for name in names:
            values = series(work, "reward", name)
            assert len(values) == 30
            assert mean(values[-6:]) < 0.6 * mean(values[:3])
    (right,) = series(work, "reward", "right_there")
    assert right > 0.85
    copy = tmp_path / "again"
    shutil.copytree(work, copy)
    (copy / "reward" / "log.jsonl").unlink()
    trainer = reward.Trainer(Run("reward", "", arguments(copy)), SQUARES, HELD_OUT)
    assert trainer.step == 60
    trainer.train()  # nothing is left to do
    assert series(copy, "reward", "loss") == []


@torch.no_grad()
def unlikely(trainer: distill.Trainer) -> float:
    """Of what the generator makes of 64 prompts, in nats, over all denoising steps."""
    generator = torch.Generator().manual_seed(1)
    phase = DistillPhase(until_step=1, batch=64, latent_frames=3)
    made = trainer.rollout(phase, 100, generator)
    losses = [trainer.reward.loss(x, made.asked, generator).mean() for x in made.answers]
    return float(torch.stack(losses).mean())


def test_the_generator_heeds_it(work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    config = json.loads(CONFIG.read_text())
    config["distill"] |= {"divergence_weight": 0, "trajectory_weight": 0, "critic_only_steps": 0}
    config["distill"] |= {"generator_updates": 2, "reward_weight": 3}
    config["distill"]["optimizer"]["learning_rate"] = 1e-3
    config["distill"]["phases"] = [{"until_step": 40, "batch": 8, "latent_frames": 3}]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    flags = [*arguments(folder), f"--config={path}"]
    trainer = distill.Trainer(Run("distill", "", flags), load(path).distill, "flow", SQUARES)
    before = unlikely(trainer)
    trainer.train()
    saved = checkpoint.load(folder / "distill" / "checkpoint").parts["weights_optimizer"]
    assert {int(x) for name, x in saved.items() if name.endswith(".step")} == {2 * 40}
    assert unlikely(trainer) < 0.95 * before  # the same prompts and noise


def test_each_clip_draws_as_much_as_it_is_unlikely(work: Path, tmp_path: Path) -> None:
    """Gradients in the reward's direction, of norm 1 at most whatever the clip lacks, and at least
    a twelfth for each nat."""
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    config = json.loads(CONFIG.read_text())
    config["distill"]["reward_weight"] = 1
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    run = Run("distill", "", [*arguments(folder), f"--config={path}"])
    trainer = distill.Trainer(run, run.config.distill, "flow", SQUARES)
    made = trainer.rollout(DistillPhase(1, batch=8, latent_frames=3), 0, run.generator(0))
    flat = made.answers[-1].flatten(1)

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient that the generator gets, and the reward's own."""
        answer = made.answers[-1].clone().requires_grad_()
        loss, value = trainer.drawn(made, answer, torch.Generator().manual_seed(1))
        (got,) = torch.autograd.grad(loss, answer)
        own = trainer.reward.loss(answer, made.asked, torch.Generator().manual_seed(1))
        torch.testing.assert_close(value, own.mean().detach())
        (gradient,) = torch.autograd.grad(own.sum(), answer)
        return got.flatten(1), gradient.flatten(1)

    _, own = drawn()
    usual = 2 / own.norm(dim=1).median()  # some clips' gradients are above 1 now, others' below
    loss = trainer.reward.loss
    per_clip = flat.shape[1] ** -0.5 / len(flat)
    for scale, nats in ((usual, 0.0), (usual, 6.0), (1e-3 * usual, 6.0), (1e-3 * usual, 99.0)):
        # The constant makes all clips less likely, and is in no gradient.
        trainer.reward.loss = lambda *x, s=scale, n=nats: s * loss(*x) + n
        got, own = drawn()
        norms = own.norm(dim=1, keepdim=True)
        generator = torch.Generator().manual_seed(1)
        unlikely = trainer.reward.loss(made.answers[-1], made.asked, generator)
        least = (unlikely / 12).clamp(max=1)[:, None]
        assert (norms > 1).any() or (norms < least).all()
        torch.testing.assert_close(got, per_clip * own / norms * norms.maximum(least).clamp(max=1))


def test_without_a_reward_model_it_says_so(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work, tmp_path / "work", ignore=shutil.ignore_patterns("reward"))
    config = json.loads(CONFIG.read_text())
    config["distill"]["reward_weight"] = 1
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(SystemExit, match="has no reward/checkpoint"):
        distill.main([*arguments(tmp_path / "work"), f"--config={path}"], SQUARES)
