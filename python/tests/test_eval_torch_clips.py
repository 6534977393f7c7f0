"""Clips by PyTorch: the baselines attend to what is measured, the files are like the engine's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from monarchrt_eval import stage, torch_clips
from monarchrt_eval.__main__ import main
from monarchrt_eval.clips import made, read
from monarchrt_eval.fidelity import approximate
from monarchrt_eval.workers import spread
from monarchrt_train import checkpoint, config, package
from monarchrt_train.attention import Attention
from monarchrt_train.model import TextToVideo
from monarchrt_train.rollout import KvCache, integrate
from monarchrt_train.wan import WanConfig, WanTransformer

CONFIG = Path(package.__file__).parent / "configs" / "smoke.json"


@pytest.mark.parametrize("method", ["topk", "window", "radial"])
def test_baselines_attend_as_measured(method: str) -> None:
    torch.manual_seed(1)
    q = torch.randn(2, 3, 6, 8, 2, 16)
    k, v = torch.randn(2, 2, 6, 6, 8, 2, 16)
    out = torch_clips.attention(method, 0.1)(q, k, v)
    for clip in range(2):
        one = (x[clip : clip + 1] for x in (q, k, v))
        want = approximate(*one, torch.arange(3 * 6 * 8), 0.1)[method]
        got = out[clip].flatten(0, 2)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_untrained_monarch_has_its_tiles_and_steps() -> None:
    torch.manual_seed(1)
    q = torch.randn(1, 3, 6, 8, 2, 16)
    k, v = torch.randn(2, 1, 6, 6, 8, 2, 16)
    got = torch_clips.attention("free-91.4-3")(q, k, v)
    want = Attention("monarch", (1, 2, 1), 3)(q, k, v)
    torch.testing.assert_close(got, want)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the stages leave it, with random weights."""
    folder = tmp_path_factory.mktemp("work")
    settings = config.load(CONFIG)
    captions = [f"a {color} ball" for color in ("red", "green", "blue")]
    model = package.random_model(settings.model, settings.generation, captions, 1)
    package.export_package(folder / "package", model)
    (folder / package.TOKENIZER_FILE).write_bytes(model.tokenizer.model)
    (folder / "package" / "autoencoder.safetensors").rename(folder / "autoencoder.safetensors")
    (folder / "package" / "autoencoder.safetensors").symlink_to(folder / "autoencoder.safetensors")
    saved = checkpoint.Checkpoint(1, {"ema": TextToVideo(settings.model).state_dict()})
    checkpoint.save(folder / "flow" / "checkpoint", saved)
    return folder


def test_clips_do_not_depend_on_the_batch(work: Path, tmp_path: Path) -> None:
    for batch in (1, 3):
        command = ["clips", "--model", str(work / "package"), "--out", str(tmp_path / str(batch))]
        command += ["--clips=3", "--frames=9", f"--batch={batch}", "--methods=dense,window"]
        main([*command, "--device=cpu"])
    for method in ("dense", "window"):
        one, three = (made(tmp_path / str(batch) / method, 3) for batch in (1, 3))
        assert len(one) == 3
        for i, path in one.items():
            a, b = (read(p, (32, 48), 9).astype(int) for p in (path, three[i]))
            assert np.abs(a - b).max() <= 1


def test_a_clip_is_there_when_it_is_whole(tmp_path: Path) -> None:
    class Stops:
        """A sampler whose second clip cannot be written."""

        def clips(self, *_):
            yield 0, np.zeros((1, 2, 3, 3), np.uint8)
            yield 1, Broken()

    class Broken:
        def tofile(self, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        torch_clips.write(Stops(), "dense", ["", ""], 1, tmp_path)
    assert list(made(tmp_path, 2)) == [0]
    assert read(tmp_path / "0001.rgb", (2, 3), 1).shape == (1, 2, 3, 3)


def test_a_stage_is_measured(work: Path, tmp_path: Path) -> None:
    command = ["stage", "--config", str(CONFIG), "--work", str(work), "--stage=flow"]
    main([*command, "--out", str(tmp_path), "--clips=2", "--frames=9", "--device=cpu"])
    assert "| flow | 2 |" in (tmp_path / "flow.md").read_text()
    assert (tmp_path / "flow.png").stat().st_size > 1000
    assert stage.EULER_STEPS > 4


def test_euler_follows_a_straight_flow() -> None:
    """Noise minus a constant is the velocity of that constant, which one step already reaches."""

    class Says(WanTransformer):
        def forward(self, latents, timesteps, text, frames, pattern, *, grid_scale=1):
            sigma = (timesteps / 1000).clamp(min=1e-6)[..., None, None, None]
            return (latents - text.mean((1, 2))[:, None, None, None, None]) / sigma

    text = torch.cat([torch.full((2, 3, 4), 2.0), torch.full((2, 3, 4), 1.0)])
    noise = [torch.randn(2, 3, 16, 2, 2) for _ in range(2)]
    cache = KvCache(Attention(), 1, 6)
    levels = torch.linspace(1, 0, 5)
    model = Says(WanConfig(dim=24, num_layers=1, num_heads=2))
    parts = integrate(model, text, noise, cache, levels=levels, shift=5.0, guidance=3.0)
    for part in parts:
        torch.testing.assert_close(part, torch.full_like(part, 1 + 3 * (2 - 1)))
    assert cache.frames_seen == 6


def test_several_processes_keep_the_order() -> None:
    assert list(spread(abs, iter([-1, 2, -3]), 2)) == [1, 2, 3]
    assert list(spread(abs, iter([-1, 2, -3]), 1)) == [1, 2, 3]
