"""Drift: whether the end of a long rollout is as good as its beginning.

Seconds 15 to 20 against seconds 0 to 5 of the same video, as the checker and the steadiness see
them; with the same of real video, because a scene may look different later on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monarchrt_eval import report
from monarchrt_eval.bootstrap import Estimate, difference
from monarchrt_eval.checker import observe
from monarchrt_eval.clips import Engine, made, read
from monarchrt_eval.measure import Counts, adherence, counts, real_clip, steady
from monarchrt_eval.sheet import Strip, draw_sheet
from monarchrt_eval.table import SPLIT
from monarchrt_eval.temporal import Steadiness, steadiness
from monarchrt_train.world import Scene, prompt_scenes, prompts, write_prompts
from monarchrt_train.world.__main__ import write_png

FRAMES = 321  # 20 s: 80 latent frames after the first one
PARTS = {"0-5 s": (0, 81), "15-20 s": (240, 321)}


@dataclass(frozen=True)
class Part:
    """Of one part of one clip."""

    counts: Counts
    steadiness: Steadiness


def _parts(asked: dict, frames: np.ndarray) -> dict[str, Part]:
    return {
        name: Part(counts([(asked, observe(frames[a:b]))]), steadiness(frames[a:b]))
        for name, (a, b) in PARTS.items()
    }


def measure(engine: Engine, methods: tuple[str, ...], clips: int, out: Path, generate: bool) -> str:
    """Writes drift.json, drift_sheet.png and, as it returns it, drift.md."""
    out.mkdir(parents=True, exist_ok=True)
    seed = engine.seed
    pairs, scenes = prompts(SPLIT, clips, seed), prompt_scenes(SPLIT, clips, seed)
    write_prompts(out / "drift.jsonl", pairs)
    strips: dict[int, list[Strip]] = {}
    rows: report.Rows = {}
    change: dict[str, Estimate] = {}
    for method in ("real", *methods):
        each = []
        for i, frames in _clips(engine, method, scenes, out, generate):
            each.append(_parts(pairs[i][1], frames))
            strips.setdefault(i, []).append(Strip(method, frames))
        if not each:
            continue
        for part in PARTS:
            rows[f"{method}, {part}"] = {
                "adherence": adherence([clip[part].counts for clip in each], seed),
                "steadiness": steady([clip[part].steadiness for clip in each], seed),
            }
        first, last = (np.array([c[p].counts["all"] for c in each], float) for p in PARTS)
        change[method] = difference(first, last, seed)
    text = report.adherence(rows) + "\n" + report.steadiness(rows) + "\n"
    text += report.lines(["", "change %"], [[k, report.cell(v, 0, 100)] for k, v in change.items()])
    settings = {"model": str(engine.model), "frames": engine.frames, "seed": seed}
    report.write(out, "drift", {"settings": settings, "rows": rows, "change": change}, text)
    sheet = draw_sheet([(pairs[i][0], strips[i]) for i in sorted(strips)])
    write_png(out / "drift_sheet.png", sheet)
    return text


def _clips(
    engine: Engine, method: str, scenes: list[Scene], out: Path, generate: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and frames [T, H, W, 3] of each clip that is there, or can be made."""
    if method == "real":
        for i, scene in enumerate(scenes):
            yield i, real_clip(scene, engine.size(), engine.frames)
        return
    folder = out / f"drift-{method}"
    if generate:
        engine.generate(method, out / "drift.txt", folder)
    for i, path in made(folder, len(scenes)).items():
        yield i, read(path, engine.size(), engine.frames)
