"""Captions say what they mention and nothing else; prompts are ready for a batch."""

import pytest

from monarchrt_train.world import (
    caption,
    held_out,
    labels,
    prompts,
    read_prompts,
    sample_scene,
    vocabulary,
    write_prompts,
)
from monarchrt_train.world.__main__ import main
from monarchrt_train.world.captions import (
    BACKGROUND_WORDS,
    CAMERA_WORDS,
    COLOR_WORDS,
    DIRECTION_WORDS,
    MOTION_ADJECTIVES,
    MOTION_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    SPEED_WORDS,
    words,
)

# What a text must hold to say a value, and what says it.
SAID_BY = {
    "color": COLOR_WORDS,
    "shape": SHAPE_WORDS,
    "size": SIZE_WORDS,
    "speed": SPEED_WORDS,
    "direction": DIRECTION_WORDS,
    "motion": {
        m: (*(f for forms in rows for f in forms), MOTION_ADJECTIVES[m])
        for m, rows in MOTION_WORDS.items()
    },
}


def said(text: str, table: dict, value: str) -> bool:
    """Whether the text has one of the phrases for this value, as whole words."""
    plain = " " + " ".join(words(text)) + " "
    return any(f" {' '.join(words(phrase))} " in plain for phrase in table[value])


def one_object_captions(count: int):
    for seed in range(count):
        scene = sample_scene(seed, count=1)
        yield scene, caption(scene, seed % 7)


def test_mentions_are_in_the_text_and_other_attributes_are_not():
    for scene, c in one_object_captions(1000):
        text = c.text
        for phrases in BACKGROUND_WORDS.values():  # "green hills", "white clouds" are no things
            for phrase in phrases:
                text = text.replace(phrase, "somewhere")
        for phrases in CAMERA_WORDS.values():
            for phrase in sorted(phrases, key=len, reverse=True):
                text = text.replace(phrase, "somehow")
        thing = c.mentions["objects"][0]
        for name, table in SAID_BY.items():
            for value in table:
                if thing.get(name) == value:
                    assert said(text, table, value), (c, value)
                elif name not in thing:
                    assert not said(text, table, value), (c, value)
        for name, table in (("background", BACKGROUND_WORDS), ("camera", CAMERA_WORDS)):
            for value in table:
                assert said(c.text, table, value) == (c.mentions.get(name) == value)
        truth = labels(scene)
        assert thing.items() <= truth["objects"][0].items()
        assert c.mentions["count"] == 1


def test_every_object_of_several_is_named():
    for seed in range(300):
        scene = sample_scene(seed, count=3)
        c = caption(scene, seed)
        truth = labels(scene)
        assert c.mentions["count"] == 3
        for thing, label in zip(c.mentions["objects"], truth["objects"], strict=True):
            assert thing.items() <= label.items()
            assert "color" in thing or "shape" in thing
            if "color" in thing:
                assert said(c.text, COLOR_WORDS, thing["color"])


def test_everything_is_left_out_at_times_and_said_at_times():
    mentioned = [c.mentions for _, c in one_object_captions(400)]
    for name in ("color", "shape", "size", "motion", "direction", "speed"):
        assert 0 < sum(name in m["objects"][0] for m in mentioned) < 400
    for name in ("background", "camera"):
        assert 0 < sum(name in m for m in mentioned) < 400


def test_captions_are_seeded_and_vary():
    scene = sample_scene(3)
    assert caption(scene, 1) == caption(scene, 1)
    assert len({caption(scene, seed).text for seed in range(20)}) > 15


def test_the_vocabulary_is_what_captions_use():
    used = {w for seed in range(2500) for w in words(caption(sample_scene(seed), seed).text)}
    assert used == set(vocabulary())
    assert len(used) < 150


def test_prompts_ask_for_held_out_triples_in_full():
    pairs = prompts("held_out", n=50, seed=2)
    assert pairs == prompts("held_out", n=50, seed=2)
    assert pairs != prompts("held_out", n=50, seed=3)
    for _, asks in pairs:
        assert asks["background"]
        for thing in asks["objects"]:
            assert held_out(thing["color"], thing["shape"], thing["motion"])


def test_prompt_files_hold_what_was_written(tmp_path):
    pairs = prompts(n=20)
    write_prompts(tmp_path / "p.jsonl", pairs)
    assert read_prompts(tmp_path / "p.jsonl") == pairs
    lines = (tmp_path / "p.txt").read_text().splitlines()
    assert lines == [text for text, _ in pairs]
    assert not any(line.startswith("#") or not line.strip() for line in lines)


@pytest.mark.parametrize("name", ["s.png", "frames", "v.rgb"])
def test_the_command_writes_pictures(tmp_path, capsys, name):
    out = tmp_path / name
    flag = "--sheet" if name == "s.png" else "--video"
    size = ["--size", "24x40", "--frames", "3", "--clips", "2", "--columns", "2"]
    main([flag, str(out), *size])
    assert capsys.readouterr().out.startswith("1: ")
    if name == "v.rgb":
        assert out.stat().st_size == 3 * 24 * 40 * 3
    else:
        files = [out] if name == "s.png" else sorted(out.iterdir())
        assert len(files) == (1 if name == "s.png" else 3)
        assert all(f.read_bytes().startswith(b"\x89PNG\r\n") for f in files)
