"""The whole evaluation with a binary that stands in for the engine, and the feature network."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from monarchrt_eval import clips, features
from monarchrt_eval.__main__ import main
from monarchrt_eval.clips import Engine, read
from monarchrt_eval.measure import real_clip
from monarchrt_eval.table import through_autoencoder
from monarchrt_train.world import labels, prompt_scenes, sample_scene

cv2.setNumThreads(1)
DEMO = Path(__file__).parents[2] / "models" / "demo"
HEIGHT, WIDTH = 60, 104
CLIPS, FRAMES, DRIFT_FRAMES = 2, 21, 24

# With dense attention it makes the videos that lie in the model's folder, with others grey ones.
ENGINE = f"""#!{sys.executable} -S
import pathlib, sys
value = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = pathlib.Path(value["--out-dir"])
folder.mkdir()
frame = {HEIGHT} * {WIDTH} * 3
for i, _ in enumerate(open(value["--prompts"]), 1):
    video = pathlib.Path(value["--model"], f"{{i:04d}}.rgb").read_bytes()
    if value["--attention"] != "dense":
        video = bytes([99]) * len(video)
    (folder / f"{{i:04d}}.rgb").write_bytes(video[: int(value["--frames"]) * frame])
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    settings = {"generation": {"width": WIDTH, "height": HEIGHT}}
    (folder / "model.json").write_text(json.dumps(settings))
    for i, scene in enumerate(prompt_scenes("held_out", CLIPS, 1), 1):
        clip = real_clip(scene, (HEIGHT, WIDTH), DRIFT_FRAMES)
        (folder / f"{i:04d}.rgb").write_bytes(clip.tobytes())
    (tmp_path / "engine").write_text(ENGINE)
    (tmp_path / "engine").chmod(0o755)
    torch.manual_seed(1)
    features.save(tmp_path / "net.pt", features.FeatureNetwork(), {})
    return folder


def run(command, model, *more):
    """What the command leaves in its JSON file."""
    top = model.parent
    where = ["--model", model, "--binary", top / "engine", "--out", top / "out"]
    main([command, *map(str, where), "--clips", str(CLIPS), *more])
    return json.loads((top / "out" / f"{command}.json").read_text())


def table(model, *more):
    net = str(model.parent / "net.pt")
    small = ["--frames", str(FRAMES), "--reference", "4", "--no-autoencoder"]
    return run("table", model, "--features", net, *small, *more)


def test_the_table_from_one_command(model):
    result = table(model, "--methods", "dense,window")
    rows = result["rows"]
    assert list(rows) == ["real", "dense", "shuffled", "window"]
    assert rows["dense"] == rows["real"]  # the same pixels
    right = {name: row["adherence"]["all"]["value"] for name, row in rows.items()}
    assert right["real"] > 0.8
    assert max(right["window"], right["shuffled"]) < right["real"]
    assert rows["window"]["frechet"]["value"] > rows["real"]["frechet"]["value"]
    assert rows["window"]["steadiness"]["flicker"]["value"] == 0
    assert rows["window"]["adherence"]["all"]["clips"] == CLIPS
    (change,) = result["against_dense"].values()
    want = right["window"] - right["dense"]
    assert change["all"]["value"] == pytest.approx(want)
    assert (
        f"| window less dense | {CLIPS} | {100 * want:.1f} ("
        in (model.parent / "out" / "table.md").read_text()
    )
    out = model.parent / "out"
    assert f"| window | {CLIPS} |" in (out / "table.md").read_text()
    assert "| window, 1 thing | " in (out / "table.md").read_text()
    assert "| real | motion | " in (out / "table.md").read_text()
    sheet = cv2.imread(str(out / "sheet.png"))
    assert sheet.shape[0] > CLIPS * 3 * 96
    (out / "dense" / "0002.rgb").unlink()
    less = table(model, "--methods", "dense", "--no-generate")
    assert less["rows"]["dense"]["adherence"]["all"]["clips"] == CLIPS - 1
    assert less["rows"]["real"] == rows["real"]
    assert len(list((out / "measured").iterdir())) == CLIPS + 1  # dense as real; window all alike
    plain = table(model, "--methods", "dense", "--no-generate", "--no-frechet")
    assert plain["rows"]["dense"].keys() == {"adherence", "by_things", "confusion", "steadiness"}
    assert plain["rows"]["real"]["adherence"] == rows["real"]["adherence"]


def test_drift_compares_the_end_with_the_beginning(model, monkeypatch):
    monkeypatch.setattr("monarchrt_eval.drift.FRAMES", DRIFT_FRAMES)
    monkeypatch.setattr("monarchrt_eval.drift.PARTS", {"first": (0, 12), "last": (12, 24)})
    result = run("drift", model, "--methods", "dense")
    assert list(result["rows"]) == ["real, first", "real, last", "dense, first", "dense, last"]
    assert result["change"]["dense"] == result["change"]["real"]
    first, last = (result["rows"][f"dense, {p}"]["adherence"]["all"] for p in ("first", "last"))
    assert first["clips"] == last["clips"] == CLIPS
    assert (model.parent / "out" / "drift_sheet.png").exists()


def test_the_autoencoder_row_shows_the_same_clip():
    clip = real_clip(prompt_scenes("held_out", 1, 1)[0], (HEIGHT, WIDTH), 14)  # no whole latents
    source = through_autoencoder(DEMO, lambda: iter([(7, clip)]))
    ((index, again),) = source()
    assert index == 7
    assert again.shape == clip.shape
    assert again.dtype == np.uint8
    error = np.mean((again.astype(float) - clip) ** 2)
    assert 10 * np.log10(255**2 / error) > 22  # it was trained on larger frames: 34 dB at 240x416


def test_a_missing_binary_is_one_line(model, tmp_path, capsys):
    arguments = ["table", "--model", str(model), "--binary", "/no/such", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("monarchrt_eval: ")
    assert "/no/such" in error
    assert error.count("\n") == 1


def test_raw_frames_of_another_size_are_refused(tmp_path):
    (tmp_path / "0001.rgb").write_bytes(bytes(2 * 4 * 6 * 3))
    assert read(tmp_path / "0001.rgb", (4, 6), 2).shape == (2, 4, 6, 3)
    with pytest.raises(ValueError, match="no frames of 7x5"):
        read(tmp_path / "0001.rgb", (5, 7), 2)
    with pytest.raises(ValueError, match="has 2 frames, need 3"):
        read(tmp_path / "0001.rgb", (4, 6), 3)


def test_the_network_learns_and_shrinks_clips():
    settings = features.Training(steps=10, batch=4, pool=4, learning_rate=1e-2)
    lines = []
    scenes = [sample_scene(features.FIRST_SEED + 1_000_000 + i, "train") for i in range(4)]
    wanted, clips = features.targets(scenes), features.draw(scenes)
    assert wanted["background"].sum(1).eq(1).all()
    there = {thing["color"] for thing in labels(scenes[0])["objects"]}
    assert int(wanted["color"][0].sum()) == len(there)
    assert all(hits.all() for hits in features.right(wanted, wanted).values())
    turned = features.right({name: -rows for name, rows in wanted.items()}, wanted)
    assert not turned["background"].any()
    torch.manual_seed(settings.seed)
    before = features.loss(features.FeatureNetwork().eval()(clips), wanted)
    network = features.train(settings, lines.append)
    with torch.no_grad():
        assert features.loss(network(clips), wanted) < 0.9 * before
    video = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (45, 120, 208, 3), np.uint8))
    assert features.shrink(video).shape == (2, features.SEEN, 3, *features.SIZE)
    assert features.embed(network, video).shape == (2, features.FEATURES)
    with pytest.raises(ValueError, match="need 21"):
        features.shrink(video[:20])


def test_methods_choose_attention_and_weights(model, monkeypatch):
    calls = []
    monkeypatch.setattr(clips.subprocess, "run", lambda command, check: calls.append(command))
    engine = Engine(Path("binary"), model, FRAMES, 1, dense_weights=Path("dense.safetensors"))
    for method in ("dense", "monarch", "free-91.4-2"):
        engine.generate(method, Path("prompts.txt"), Path(method))
    dense, monarch, free = (" ".join(call) for call in calls)
    weights = "--checkpoint dense.safetensors"
    assert "--attention dense" in dense
    assert "--attention monarch" in monarch
    assert "--attention monarch --tiles 1,2,1 --iterations 2" in free
    assert [weights in x for x in (dense, monarch, free)] == [True, False, True]
    with pytest.raises(SystemExit):
        table(model, "--methods", "free-50-1")
