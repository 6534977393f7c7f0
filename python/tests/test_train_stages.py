"""All stages at miniature size on a CPU: losses go down, runs resume, the package is right."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from monarchrt_train import (
    autoencoder,
    checkpoint,
    distill,
    flow,
    merge,
    monarch,
    package,
    recipe,
    text,
    tokenizer,
)
from monarchrt_train.attention import Attention
from monarchrt_train.clips import Squares
from monarchrt_train.config import Config, DistillPhase, FlowPhase, Part, from_dict, load
from monarchrt_train.golden import write_run
from monarchrt_train.run import Run
from monarchrt_train.sources import training_source
from monarchrt_train.wan import WanTransformer

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "python" / "monarchrt_train" / "configs" / "smoke.json"
BINARY = Path(os.environ.get("MONARCHRT", REPOSITORY / "build" / "cpu" / "apps" / "monarchrt"))
SQUARES, HELD_OUT = Squares(), Squares(1 << 40)


def arguments(work: Path, *more: str) -> list[str]:
    return [f"--config={CONFIG}", f"--work={work}", "--device=cpu", "--log-every=1", *more]


def log(work: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / stage / "log.jsonl").read_text().splitlines()]


def series(work: Path, stage: str, name: str) -> list[float]:
    return [line[name] for line in log(work, stage) if name in line]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages have run."""
    work = tmp_path_factory.mktemp("train")
    tokenizer.main(arguments(work), SQUARES)
    autoencoder.main(arguments(work), SQUARES, HELD_OUT)
    flow.main(arguments(work), SQUARES, HELD_OUT)
    distill.main(arguments(work), SQUARES)
    monarch.main(arguments(work), SQUARES)
    return work


def test_losses_go_down(work: Path) -> None:
    losses = series(work, "flow", "loss")
    assert len(losses) == 100
    assert mean(losses[-10:]) < 0.6 * mean(losses[:5])
    quality = series(work, "autoencoder", "psnr")
    assert len(quality) == 60
    assert mean(quality[-10:]) > mean(quality[:10]) + 0.7  # it starts with the best grey
    for stage, updates in (("distill", 10), ("monarch", 3)):
        assert len(series(work, stage, "divergence")) == updates
    assert len(series(work, "distill", "trajectory")) == 10


def test_the_text_encoder_learns_and_is_taken(work: Path, tmp_path: Path) -> None:
    for name in ("spiece.model", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    text.main(arguments(tmp_path))
    losses = series(tmp_path, "text", "loss")
    assert mean(losses[-5:]) < 0.85 * mean(losses[:3])
    (right,) = (line for line in log(tmp_path, "text") if "right_shape" in line)
    assert 0 < right["right_there"] <= 1
    config = json.loads(CONFIG.read_text())
    config["flow"]["take_text_encoder"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    want = checkpoint.load(tmp_path / "text" / "checkpoint").parts["ema"]
    take = f"--config={tmp_path / 'config.json'}"
    for flags in ([], [take]):  # the second time although the flow has an encoder
        trainer = flow.Trainer(Run("flow", "", [*arguments(tmp_path), *flags]), SQUARES, HELD_OUT)
        for model in (trainer.model, trainer.learner.ema):
            for name, x in model.text_encoder.state_dict().items():
                torch.testing.assert_close(x, want[f"text_encoder.{name}"], rtol=0, atol=0)
        shutil.copytree(work / "flow", tmp_path / "flow", dirs_exist_ok=True)
    trainer.model.text_encoder.norm.weight.data.fill_(7)  # it learns on
    trainer.learner.ema.text_encoder.norm.weight.data.fill_(7)
    trainer.save()
    for dtype in (None, torch.bfloat16):  # the encoder of `text` may come back as it was carried
        saved = checkpoint.load(tmp_path / "text" / "checkpoint")
        checkpoint.save(tmp_path / "text" / "checkpoint", saved, dtype)
        again = flow.Trainer(Run("flow", "", [*arguments(tmp_path), take]), SQUARES, HELD_OUT)
        assert again.model.text_encoder.norm.weight.eq(7).all()
    saved.parts["ema"]["text_encoder.norm.weight"] += 1  # another one is taken
    checkpoint.save(tmp_path / "text" / "checkpoint", saved)
    again = flow.Trainer(Run("flow", "", [*arguments(tmp_path), take]), SQUARES, HELD_OUT)
    assert not again.model.text_encoder.norm.weight.eq(7).any()


def test_the_tokens_learn_what_is_where(work: Path, tmp_path: Path) -> None:
    for name in ("spiece.model", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    config = json.loads(CONFIG.read_text())
    config["flow"] |= {"probe_weight": 0.1, "probe_block": 1}
    config["flow"]["phases"] = [
        {"until_step": 40, "batch": 4, "latent_frames": 3, "pool": 8, "first": 8, "fresh": 0}
    ]
    (tmp_path / "config.json").write_text(json.dumps(config))
    flow.main([*arguments(tmp_path), f"--config={tmp_path / 'config.json'}"], SQUARES, HELD_OUT)
    losses = series(tmp_path, "flow", "probe")
    assert len(losses) == 40
    assert mean(losses[-5:]) < 0.8 * mean(losses[:3])
    names = checkpoint.load(tmp_path / "flow" / "checkpoint").parts["ema"].keys()
    assert names == checkpoint.load(work / "flow" / "checkpoint").parts["ema"].keys()


def test_pictures_and_boxes_come_between_clips(work: Path, tmp_path: Path) -> None:
    for name in ("spiece.model", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    config = json.loads(CONFIG.read_text())
    phase = {"until_step": 48, "batch": 4, "latent_frames": 3, "pool": 8, "first": 8, "fresh": 0}
    phase["views"] = [
        {"batch": 8, "frames": 1, "box": [2, 3], "steps": 2},
        {"batch": 4, "box": [3, 4]},
    ]
    config["flow"]["phases"] = [phase]
    (tmp_path / "config.json").write_text(json.dumps(config))
    flow.main([*arguments(tmp_path), f"--config={tmp_path / 'config.json'}"], SQUARES, HELD_OUT)
    names = ("loss", "picture_box_loss", "box_loss")
    losses = [series(tmp_path, "flow", name) for name in names]
    assert [len(x) for x in losses] == [12, 24, 12]
    assert mean(losses[0][-4:]) < 0.9 * mean(losses[0][:4])


def pool_of(trainer: flow.Trainer, phase: FlowPhase) -> tuple[set[tuple], float]:
    """The captions in the pool that the trainer would start with, and how many clips it has."""
    supply = trainer.supply(phase)
    rows = supply.pool.draw(256, torch.Generator().manual_seed(1))
    return {tuple(x) for x in rows["latents"].flatten(1)[:, :4].tolist()}, len(supply.pool)


def test_a_pool_takes_no_longer_than_it_may(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(work, tmp_path, dirs_exist_ok=True)
    trainer = flow.Trainer(Run("flow", "", arguments(tmp_path)), SQUARES, HELD_OUT)
    monkeypatch.setattr(flow, "PIXELS_AT_ONCE", 2 * 12 * 32 * 48)
    phase = FlowPhase(9, latent_frames=3, pool=8, first=8, fresh=0)
    for minutes, clips in ((0.0, 2), (1.0, 8)):
        assert pool_of(trainer, dataclasses.replace(phase, fill_minutes=minutes))[1] == clips
        line = log(tmp_path, "flow")[-1]
        assert (line["clips"], line["clips_wanted"]) == (clips, 8)


def test_a_later_start_has_other_clips(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work, tmp_path, dirs_exist_ok=True)
    trainer = flow.Trainer(Run("flow", "", arguments(tmp_path)), SQUARES, HELD_OUT)
    for fresh in (0, 1):
        phase = FlowPhase(99, latent_frames=3, pool=8, first=8, fresh=fresh)
        pools = []
        for trainer.step in (0, 0, flow.FRESH_STEPS):
            pools.append(pool_of(trainer, phase)[0])
        assert pools[0] == pools[1]
        assert not pools[0] & pools[2]


def test_an_autoencoder_goes_on_from_its_file(work: Path, tmp_path: Path) -> None:
    for name in ("spiece.model", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    autoencoder.main(arguments(tmp_path, "--minutes=0"), SQUARES, HELD_OUT)
    reports = (log(folder, "autoencoder")[-1] for folder in (work, tmp_path))
    before, after = (x["held_out_psnr"] for x in reports)
    assert after == pytest.approx(before, abs=0.5)  # other clips make the statistics


def test_a_decoder_learns_on_alone(work: Path, tmp_path: Path) -> None:
    """The encoder stays bit for bit, so latents made before are still right."""
    shutil.copy(work / "spiece.model", tmp_path)
    before = load_file(work / "autoencoder.safetensors")
    before["decoder.22.bias"] += 0.2  # there is something to learn again
    save_file(before, tmp_path / "autoencoder.safetensors")
    content = json.loads(CONFIG.read_text())
    content["autoencoder"]["train_encoder"] = False
    (tmp_path / "config.json").write_text(json.dumps(content))
    flags = [*arguments(tmp_path), f"--config={tmp_path / 'config.json'}"]
    for more in (["--minutes=0"], []):
        autoencoder.main([*flags, *more], SQUARES, HELD_OUT)
    after = load_file(tmp_path / "autoencoder.safetensors")
    for name, x in before.items():
        assert torch.equal(x, after[name]) == name.startswith("encoder."), name
    old, new = series(tmp_path, "autoencoder", "held_out_psnr")
    assert new > old + 0.5


def test_the_flow_knows_clips_it_has_not_seen(work: Path, tmp_path: Path) -> None:
    """The same clips and noise for the trained model and for a new one."""
    for name in ("spiece.model", "autoencoder.safetensors"):
        shutil.copy(work / name, tmp_path)
    flow.main(arguments(tmp_path, "--minutes=0"), SQUARES, HELD_OUT)
    (new,), (trained,) = (series(folder, "flow", "held_out_loss") for folder in (tmp_path, work))
    assert trained < 0.6 * new


def test_an_autoencoder_that_starts_again_has_other_clips(work: Path, tmp_path: Path) -> None:
    """Without fresh clips each start has clips of its own."""
    seen: list[int] = []

    class Watched(Squares):
        def clips(self, seeds: Sequence[int], *rest: object) -> torch.Tensor:
            seen.extend(seeds)
            return super().clips(seeds, *rest)

    shutil.copy(work / "spiece.model", tmp_path)
    content = json.loads(CONFIG.read_text())
    starts = []
    for steps in (1, 2):
        content["autoencoder"] |= {"fresh": 0, "first": 8, "steps": steps, "held_out_clips": 1}
        (tmp_path / "config.json").write_text(json.dumps(content))
        autoencoder.main(
            [*arguments(tmp_path), f"--config={tmp_path / 'config.json'}"], Watched(), HELD_OUT
        )
        starts.append(set(seen))
        seen.clear()
    assert [len(x) for x in starts] == [8, 8]
    assert not starts[0] & starts[1]


def test_prompts_matter_more_and_more(work: Path) -> None:
    (gain,) = series(work, "flow", "prompt_gain")
    assert gain > 0


def test_autoencoder_report(work: Path) -> None:
    (report,) = (line for line in log(work, "autoencoder") if "held_out_psnr" in line)
    assert report["held_out_psnr"] > 10
    assert report["held_out_psnr"] >= report["held_out_psnr_min"]
    assert 0 < report["held_out_ssim"] <= 1


def test_engine_agrees_with_the_trained_model(work: Path, tmp_path: Path) -> None:
    config = load(CONFIG)
    folder = tmp_path / "package"
    package.main([f"--config={CONFIG}", f"--work={work}", "--stage=monarch", f"--out={folder}"])
    model = package.import_package(folder)
    assert model.generation == config.generation
    assert model.attention == "monarch"
    assert package.trained_model(config, work, "distill").attention == "dense"
    for prompt, attention in (("a red square moves up", "monarch"), ("", "dense")):
        path = folder / f"run_{attention}.safetensors"
        write_run(path, model, prompt, chunks=3, attention=Attention(attention), seed=5)
    if not BINARY.exists():
        pytest.skip(f"no {BINARY}")
    done = subprocess.run(
        [BINARY, "verify", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 tensors: 8 ok" in done.stdout


def test_a_stage_resumes_from_what_was_carried(work: Path, tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    (carried / "distill").mkdir(parents=True)
    for name in ("spiece.model", "autoencoder.safetensors"):
        (carried / name).write_bytes((work / name).read_bytes())
    for stage, parts in (("flow", ["ema"]), ("distill", ["ema", "critic"])):
        saved = checkpoint.load(work / stage / "checkpoint", parts)
        saved.step = min(saved.step, 11)
        checkpoint.save(carried / stage / "checkpoint", saved, torch.bfloat16)
    distill.main(arguments(carried), SQUARES)
    assert [line["step"] for line in log(carried, "distill")] == [11]
    assert checkpoint.load(carried / "distill" / "checkpoint").step == 12


@pytest.mark.parametrize("muon", [False, True])
def test_resuming_changes_nothing(work: Path, tmp_path: Path, muon: bool) -> None:
    """A run in two parts draws the same and ends with the same weights as one in one part, though
    it stops amid the warm-up and amid the steps that new clips are made for."""
    ends = []
    for name, limits in (("whole", (12,)), ("parts", (10, 12))):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("spiece.model", "autoencoder.safetensors"):
            (folder / file).write_bytes((work / file).read_bytes())
        for limit in limits:
            config = json.loads(CONFIG.read_text())
            config["flow"]["phases"] = [
                {
                    "until_step": limit,
                    "latent_frames": 3,
                    "batch": 2,
                    "pool": 12,
                    "first": 12,
                    "fresh": 1,
                }
            ]
            config["flow"]["optimizer"] |= {"warmup_steps": 11, "muon": muon}
            (folder / "config.json").write_text(json.dumps(config))
            more = [f"--config={folder / 'config.json'}"]
            flow.main([*arguments(folder), *more], SQUARES, HELD_OUT)
        ends.append(checkpoint.load(folder / "flow" / "checkpoint"))
    whole, parts = ends
    assert whole.step == parts.step == 12
    for part, tensors in whole.parts.items():
        for name, x in tensors.items():
            torch.testing.assert_close(parts.parts[part][name], x, rtol=0, atol=0, msg=name)


def test_a_stage_stops_in_time(work: Path, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes((work / "spiece.model").read_bytes())
    autoencoder.main(arguments(tmp_path, "--minutes=0"), SQUARES, HELD_OUT)
    assert checkpoint.load(tmp_path / "autoencoder" / "checkpoint").step == 0
    assert (tmp_path / "autoencoder.safetensors").exists()


def test_the_critic_learns_the_generator(work: Path) -> None:
    """On the same answers and noise it does better than the teacher it started from."""
    run = Run("distill", "", arguments(work))
    trainer = distill.Trainer(run, run.config.distill, "flow", SQUARES)
    phase = DistillPhase(1, latent_frames=6, batch=16)
    with torch.no_grad():
        g = trainer.rollout(phase, 1, run.generator(1))
        critic, teacher = (
            trainer.scorer.critic_loss(model, g, g.answers[-1], run.generator(2))
            for model in (trainer.critic.module, trainer.teacher)
        )
    assert critic < 0.98 * teacher


def test_the_parallel_pass_is_the_rollout(work: Path) -> None:
    """What the gradient is taken of is what the KV-cached rollout computed."""
    run = Run("distill", "", arguments(work))
    phase = DistillPhase(1, latent_frames=9, batch=2)  # the window of 6 forgets a chunk
    for stage in (run.config.distill, run.config.monarch):
        trainer = distill.Trainer(run, stage, "flow", SQUARES)
        g = trainer.rollout(phase, 1, run.generator(1))
        assert len(g.inputs) == 4
        text = trainer.generator.encode_text(g.prompts)
        for s, noisy in enumerate(g.inputs):
            sigma = trainer.sigmas[s].expand(noisy.shape[:2])
            answer = trainer.own.clean(trainer.generator, g, noisy, sigma, text)
            assert answer.requires_grad
            torch.testing.assert_close(answer.detach(), g.answers[s], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(g.answers[-1], g.history)


def test_monarch_learns_to_answer_as_the_dense_model_does(work: Path, tmp_path: Path) -> None:
    for name in ("spiece.model", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    for stage in ("flow", "distill"):
        shutil.copytree(work / stage, tmp_path / stage)
    config = json.loads(CONFIG.read_text())
    config["monarch"] |= {
        "match_weight": 1.0,
        "divergence_weight": 0.0,
        "optimizer": {"learning_rate": 3e-4, "warmup_steps": 5},
        "ema_decay": 0.9,
        "critic_only_steps": 0,
        "phases": [{"until_step": 60, "batch": 4, "latent_frames": 6}],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    flags = [*arguments(tmp_path), f"--config={tmp_path / 'config.json'}"]
    monarch.main(flags, SQUARES)
    assert len(series(tmp_path, "monarch", "distance")) == 60
    assert not series(tmp_path, "monarch", "critic_loss")
    run = Run("monarch", "", flags)
    trainer = distill.Trainer(run, run.config.monarch, "distill", SQUARES)
    g = trainer.rollout(DistillPhase(1, latent_frames=6, batch=16), 1, run.generator(1))

    @torch.no_grad()
    def distance(student: WanTransformer) -> float:
        """From the dense model, over all denoising steps."""
        text, total = student.encode_text(g.prompts), 0.0
        for s, noisy in enumerate(g.inputs):
            sigma = trainer.sigmas[s].expand(noisy.shape[:2])
            want = trainer.scorer.clean(trainer.example, g, noisy, sigma, text_before)
            got = trainer.own.clean(student, g, noisy, sigma, text)
            total += float((got - want).square().mean())
        return total

    text_before = trainer.example.encode_text(g.prompts)
    before, after = distance(trainer.example), distance(trainer.learner.ema)
    assert before > 0  # Monarch is not dense attention
    assert after < 0.8 * before, (before, after)


def test_the_log_has_means_of_what_came_since_its_last_line(tmp_path: Path) -> None:
    run = Run("flow", "", [*arguments(tmp_path), "--log-every=3"])
    for step in range(5):
        run.log(step, {"loss": step, ("even", "odd")[step % 2]: torch.tensor(1.0 + step)})
    run.report(5, {"held_out_loss": 7})
    wanted = [
        {"step": 0, "loss": 0, "even": 1},
        {"step": 3, "loss": 2, "even": 3, "odd": 3},
        {"step": 5, "held_out_loss": 7},
    ]
    lines = log(tmp_path, "flow")
    assert [{k: x for k, x in line.items() if k != "seconds"} for line in lines] == wanted


def test_rollouts_in_a_box_are_of_one_thing(work: Path) -> None:
    run = Run("distill", "", arguments(work))
    trainer = distill.Trainer(run, run.config.distill, "flow", training_source())
    phase = DistillPhase(1, latent_frames=6, batch=8, box=(3, 2))
    seeds, source = range(60), training_source()
    told, said = trainer.prompts(phase, seeds)
    chosen = []
    for caption, mentions, x in zip(told, said, source.partly(seeds), strict=True):
        alone = [x.captions[(1 << n) - 1] for n in range(len(x.things))]
        chosen.append(alone.index(caption))
        assert mentions == x.mentions[(1 << chosen[-1]) - 1]
        assert len(mentions["objects"]) == 1
    assert set(chosen) == {0, 1, 2}  # any of a clip's things
    whole = trainer.prompts(DistillPhase(1, batch=8), seeds)
    assert whole == (source.captions(seeds), source.mentions(seeds))
    g = trainer.rollout(phase, 1, run.generator(1))
    assert g.history.shape == (8, 6, 16, 3, 2)
    counts = training_source((1, 3)).mentions(range(6))
    assert [x["count"] for x in counts] == [1, 3] * 3
    moving = training_source((1, 2), ("spin", "", "zigzag")).shown(range(12))
    assert [x["objects"][0]["motion"] == "spin" for x in moving[::3]] == [True] * 4
    assert [x["objects"][0]["motion"] for x in moving[2::6]] == ["zigzag"] * 2
    with pytest.raises(ValueError, match="need rows and columns"):
        DistillPhase(1, box=(3,))


def test_a_recipe_runs_its_parts_and_keeps_what_they_learn(work: Path, tmp_path: Path) -> None:
    for name in ("spiece.model", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    content = json.loads(CONFIG.read_text())
    small = {"batch": 2, "latent_frames": 3}
    content["recipe"] = [
        {"stage": "flow", "share": 0.5, "phase": {**small, "pool": 4, "first": 2, "fresh": 0}},
        {"stage": "distill", "share": 0.5, "phase": small, "change": {"critic_only_steps": 0}},
    ]
    (tmp_path / "config.json").write_text(json.dumps(content))
    command = [f"--config={tmp_path / 'config.json'}", f"--work={tmp_path}", "--minutes=0.2"]
    command += [f"--keep={tmp_path / 'kept'}", "--processes=1"]
    recipe.main([*command, "--parts=1"])
    assert (tmp_path / "parts_done").read_text() == "1\n"
    assert not (tmp_path / "kept" / "distill").exists()
    recipe.main(command)
    for stage, parts in (("flow", {"ema"}), ("distill", {"ema", "critic"})):
        kept = checkpoint.load(tmp_path / "kept" / stage)
        assert kept.parts.keys() == parts
        assert checkpoint.load(tmp_path / stage / "checkpoint").step == kept.step
    assert (tmp_path / "parts_done").read_text() == "2\n"
    assert (tmp_path / "kept" / "spiece.model").exists()
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(SystemExit, match="2"):
        recipe.main(command)
    content["flow"]["optimizer"]["muon_learning_rate"] = 0.25
    part = Part("flow", 1, phase=small, learning_rate_factor=2)
    optimizer = recipe.part_config(content, part)["flow"]["optimizer"]
    assert (optimizer["learning_rate"], optimizer["muon_learning_rate"]) == (6e-3, 0.5)
    with pytest.raises(ValueError, match="recipe has no field minutes"):
        load_recipe(content | {"recipe": [{"stage": "flow", "share": 1, "minutes": 3}]})


def small(phase: dict) -> dict:
    """A phase of a recipe at the size of smoke.json."""
    sizes = {"batch": 2, "pool": 16, "first": 4, "fresh": 1, "box": [2, 3]}
    out = {name: sizes[name] if x and name in sizes else x for name, x in phase.items()}
    return out | {name: [small(x) for x in phase[name]] for name in ("views",) if name in phase}


def test_the_recipe_of_the_demo_runs(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its parts, from a flow that is carried, with the sizes of smoke.json on a CPU."""
    content = json.loads(CONFIG.read_text())
    content["recipe"] = json.loads(CONFIG.with_name("demo.json").read_text())["recipe"]
    for part in content["recipe"]:
        part["phase"] = small(part.get("phase", {}))
    content["distill"] |= {"critic_only_steps": 0, "reward_weight": 1}
    content["flow"] |= {"probe_weight": 0.05, "probe_block": 1, "train_text_encoder": False}
    content["flow"]["optimizer"]["muon"] = True
    (tmp_path / "config.json").write_text(json.dumps(content))
    for name in ("spiece.model", "autoencoder.safetensors"):
        shutil.copy(work / name, tmp_path)
    tokenizer.main(arguments(tmp_path))  # of the world's words, as are the clips of a recipe
    carried = checkpoint.load(work / "flow" / "checkpoint", ["ema"])
    checkpoint.save(tmp_path / "flow" / "checkpoint", carried, torch.bfloat16)

    def run(line: list[str], check: bool) -> subprocess.CompletedProcess:
        """Here, because many processes take long to start."""
        module = importlib.import_module(line[2])
        module.main([*(x for x in line[3:] if x != "--compile"), "--device=cpu", "--log-every=1"])
        return subprocess.CompletedProcess(line, 0)

    def steps(self: Run, first: int, last: int) -> range:
        """A few, however busy the machine is."""
        return range(first, min(last, first + 6))

    monkeypatch.setattr(recipe.subprocess, "run", run)
    monkeypatch.setattr(Run, "steps", steps)
    command = [f"--config={tmp_path / 'config.json'}", f"--work={tmp_path}", "--minutes=9"]
    recipe.main([*command, f"--keep={tmp_path / 'kept'}", "--processes=1"])
    assert (tmp_path / "parts_done").read_text() == f"{len(content['recipe'])}\n"
    for name in ("loss", "box_loss", "first_loss", "probe"):
        assert series(tmp_path, "flow", name)
    assert flow.TAKEN in checkpoint.load(tmp_path / "kept" / "flow").notes
    learnt, used = (
        checkpoint.load(tmp_path / stage / "checkpoint").parts["ema"] for stage in ("text", "flow")
    )
    for name, x in used.items():  # the encoder is that of the text stage, and stays it
        assert not name.startswith("text_encoder.") or torch.equal(x, learnt[name]), name
    for stage in ("text", "reward", "distill", "monarch"):
        assert checkpoint.load(tmp_path / "kept" / stage).step > 0
    assert series(tmp_path, "distill", "unlikely")
    package.trained_model(load(CONFIG), tmp_path, "monarch")


def test_a_second_try_has_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, lines = [0.0], []

    def fail(line: list[str], check: bool) -> subprocess.CompletedProcess:
        lines.append(line)
        clock[0] += 90
        return subprocess.CompletedProcess(line, 1)

    monkeypatch.setattr(recipe.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(recipe.subprocess, "run", fail)
    args = argparse.Namespace(work=tmp_path, minutes=10, processes=1, no_compile=False)
    part = Part("flow", 0.4, phase={"batch": 2}, compile=True)
    assert not recipe.run_part(0, part, args, json.loads(CONFIG.read_text()))
    assert ["--minutes=4.0" in lines[0], "--minutes=2.5" in lines[1]] == [True, True]
    assert ["--compile" in line for line in lines] == [True, False]


def test_a_change_of_weights_is_added_to_another_model(work: Path, tmp_path: Path) -> None:
    new = checkpoint.load(work / "flow" / "checkpoint", ["ema"])
    names = [name for name in new.parts["ema"] if name.startswith("transformer.")]
    old = {name: x + 1 for name, x in new.parts["ema"].items()}
    checkpoint.save(tmp_path / "old", checkpoint.Checkpoint(1, {"ema": old}))
    few = {name.removeprefix("transformer."): old[name] + 0.5 for name in names}
    save_file(few, tmp_path / "few.safetensors")
    flags = [str(work / "flow" / "checkpoint"), f"--plus={tmp_path / 'few.safetensors'}"]
    flags += [f"--minus={tmp_path / 'old'}", "--scale=2"]
    merge.main([*flags, f"--out={tmp_path / 'monarch' / 'checkpoint'}"])
    for file in ("spiece.model", "autoencoder.safetensors"):
        shutil.copy(work / file, tmp_path)
    model = package.trained_model(load(CONFIG), tmp_path, "monarch").video
    for name, x in model.state_dict().items():
        want = new.parts["ema"][name] + (1 if name in names else 0)
        torch.testing.assert_close(x, want, rtol=0, atol=1e-6, msg=name)
    merge.main([*flags, f"--out={tmp_path / 'one.safetensors'}"])
    one = load_file(tmp_path / "one.safetensors")
    assert one.keys() == few.keys()
    for name, x in one.items():
        assert torch.equal(x, model.transformer.state_dict()[name].bfloat16())
    del few[next(iter(few))]
    save_file(few, tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match="need the same tensors"):
        merge.main([*flags, f"--out={tmp_path / 'two'}"])


def test_a_stage_says_which_one_comes_before(work: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no spiece\.model: run monarchrt_train\.tokenizer first"):
        text.main(arguments(tmp_path))
    shutil.copy(work / "spiece.model", tmp_path)
    with pytest.raises(SystemExit, match=r"run monarchrt_train\.autoencoder first"):
        flow.main(arguments(tmp_path), SQUARES, HELD_OUT)


def load_recipe(content: dict) -> Config:
    return from_dict(Config, content)
