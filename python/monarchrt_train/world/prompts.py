"""Sets of prompts for evaluation, with the attributes that each asks for.

The JSONL file has one object a line: `index` from 1 (as the clips of `monarchrt generate
--prompts` are numbered), `text`, `asks` (the form of `scene.labels`). The text file has the same
prompts, one a line, for that command.
"""

import json
from pathlib import Path

from monarchrt_train.world.captions import caption
from monarchrt_train.world.scene import Scene, sample_scene


def prompt_scenes(
    split: str = "held_out", n: int = 100, seed: int = 0, count: int | None = None
) -> list[Scene]:
    """The scenes that `prompts` tells of; more of them begin with the same ones."""
    return [sample_scene(seed * 1_000_000 + i, split, count) for i in range(n)]


def prompts(
    split: str = "held_out", n: int = 100, seed: int = 0, count: int | None = None
) -> list[tuple[str, dict]]:
    """n texts and what they ask for; `count` fixes the number of objects."""
    captions = (caption(x, seed, full=True) for x in prompt_scenes(split, n, seed, count))
    return [(c.text, c.mentions) for c in captions]


def write_prompts(path: Path, pairs: list[tuple[str, dict]]) -> None:
    """Writes `path` (JSONL) and, beside it, the texts alone with the suffix .txt."""
    lines = [
        json.dumps({"index": i, "text": text, "asks": asks})
        for i, (text, asks) in enumerate(pairs, start=1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    path.with_suffix(".txt").write_text("".join(text + "\n" for text, _ in pairs))


def read_prompts(path: Path) -> list[tuple[str, dict]]:
    """What `write_prompts` wrote."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["text"], row["asks"]) for row in rows]
