"""The table of docs/quality.md: prompt adherence, Fréchet distance and steadiness, row by row.

Rows: real video of the prompts' scenes, the same through the model's autoencoder (both say what is
the best one can get), the model with each method of attention, and the first method's clips
against the prompts of other clips (what luck gives).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from monarchrt_eval import confusion, features, frechet, report
from monarchrt_eval.bootstrap import Estimate, difference
from monarchrt_eval.clips import Engine, made, read
from monarchrt_eval.features import FeatureNetwork
from monarchrt_eval.measure import (
    Counts,
    Measured,
    Measurer,
    adherence,
    by_things,
    counts,
    real_clip,
    steady,
)
from monarchrt_eval.sheet import Strip, draw_sheet
from monarchrt_eval.workers import spread
from monarchrt_train.package import import_package
from monarchrt_train.world import prompt_scenes, prompts, sample_scene, write_prompts
from monarchrt_train.world.__main__ import write_png

SPLIT = "held_out"
REFERENCE_FIRST_SEED = 700_000_000  # of the real clips of the Fréchet distance

Tell = Callable[[str], None]
Source = Callable[[], Iterator[tuple[int, np.ndarray]]]  # index and frames [T, H, W, 3] of clips


@dataclass(frozen=True)
class Plan:
    engine: Engine
    out: Path
    network_file: Path | None  # None: no Fréchet distances
    methods: tuple[str, ...]
    clips: int
    reference: int  # real clips of the Fréchet distance
    generate: bool = True  # else only what is there is measured
    autoencoder: bool = True  # a row of real video through it
    sheet_prompts: int = 4
    workers: int = 1  # processes that measure


def reference_features(plan: Plan, network: FeatureNetwork) -> np.ndarray:
    """[clips, windows, d] of real clips; kept in a file, because drawing them takes minutes."""
    size, frames = plan.engine.size(), plan.engine.frames
    digest = hashlib.sha256(plan.network_file.read_bytes()).hexdigest()[:12]
    name = f"reference-{digest}-{plan.reference}x{frames}-{size[1]}x{size[0]}.npy"
    path = plan.out / name
    if not path.exists():
        rows = []
        for i in range(plan.reference):
            clip = real_clip(sample_scene(REFERENCE_FIRST_SEED + i, SPLIT), size, frames)
            rows.append(features.embed(network, torch.from_numpy(clip)).double().numpy())
        np.save(path, np.stack(rows))
    return np.load(path)


def _whole_latents(frames: np.ndarray) -> np.ndarray:
    """Frames and edges are repeated up to 4 n + 1 frames and multiples of 8 pixels."""
    count, height, width, _ = frames.shape
    return np.pad(frames, ((0, (1 - count) % 4), (0, -height % 8), (0, -width % 8), (0, 0)), "edge")


def through_autoencoder(model: Path, clips: Source) -> Source:
    """The clips, encoded and decoded again by the autoencoder of a package."""

    def source() -> Iterator[tuple[int, np.ndarray]]:
        autoencoder = import_package(model).autoencoder
        for i, frames in clips():
            video = torch.from_numpy(_whole_latents(frames)).permute(0, 3, 1, 2)[None].float() / 255
            with torch.no_grad():
                again = autoencoder.decode(autoencoder.encode(video))[0].clamp(0, 1)
            count, height, width, _ = frames.shape
            pixels = (255 * again).round().to(torch.uint8).permute(0, 2, 3, 1)
            yield i, pixels[:count, :height, :width].contiguous().numpy()

    return source


def _sources(plan: Plan) -> dict[str, Source]:
    """The clips of each row."""
    size, frames = plan.engine.size(), plan.engine.frames

    def real() -> Iterator[tuple[int, np.ndarray]]:
        for i, scene in enumerate(prompt_scenes(SPLIT, plan.clips, plan.engine.seed)):
            yield i, real_clip(scene, size, frames)

    def generated(method: str) -> Source:
        def source() -> Iterator[tuple[int, np.ndarray]]:
            for i, path in made(plan.out / method, plan.clips).items():
                yield i, read(path, size, frames)

        return source

    rows = {"real": real}
    if plan.autoencoder:
        rows["real, autoencoder"] = through_autoencoder(plan.engine.model, real)
    return rows | {method: generated(method) for method in plan.methods}


def _row(
    asks: list[dict],
    each: dict[int, Counts],
    clips: dict[int, Measured],
    reference: np.ndarray | None,
    seed: int,
) -> dict[str, dict]:
    """All estimates of clips; asks, each (what it shows) and clips by index."""
    pairs = ((asks[i], clip.observed) for i, clip in clips.items())
    row = {
        "confusion": confusion.confusion(pairs),
        "adherence": adherence(list(each.values()), seed),
        "by_things": by_things([asks[i] for i in each], list(each.values()), seed),
        "steadiness": steady([clip.steadiness for clip in clips.values()], seed),
    }
    if len(clips) > 1 and reference is not None:
        embedded = np.stack([clip.features for clip in clips.values()])
        row["frechet"] = frechet.estimate(embedded, reference, seed)
    return row


def adherence_change(
    before: dict[int, Counts], after: dict[int, Counts], seed: int
) -> dict[str, Estimate | None]:
    """How much more of each attribute `after` shows, of the clips that both have, clip by clip."""
    both = sorted(before.keys() & after.keys())
    out: dict[str, Estimate | None] = {}
    for name in before[both[0]]:
        looks = [np.array([row[i][name] for i in both], float) for row in (before, after)]
        asked = all(look[:, 1].sum() > 0 for look in looks)
        out[name] = difference(*looks, seed) if asked else None
    return out


def against_dense(each: dict[str, dict[int, Counts]], seed: int) -> dict[str, dict]:
    """How much more than with dense attention the other methods show; empty without that row."""
    dense = each.get("dense", {})
    others = {name: row for name, row in each.items() if name != "dense" and dense.keys() & row}
    return {
        f"{name} less dense": adherence_change(dense, row, seed) for name, row in others.items()
    }


def shuffled(asks: list[dict], clips: dict[int, Measured], seed: int) -> dict[str, dict]:
    """The adherence of each clip to the prompts of all others."""
    each = [
        counts((other, clip.observed) for j, other in enumerate(asks) if j != i)
        for i, clip in clips.items()
    ]
    return {"adherence": adherence(each, seed)}


def make_table(plan: Plan, tell: Tell) -> str:
    """Makes what is missing and measures. Writes table.json, sheet.png, table.md; returns that."""
    seed = plan.engine.seed
    plan.out.mkdir(parents=True, exist_ok=True)
    pairs = prompts(SPLIT, plan.clips, seed)
    write_prompts(plan.out / "prompts.jsonl", pairs)
    if plan.generate:
        for method in plan.methods:
            plan.engine.generate(method, plan.out / "prompts.txt", plan.out / method)
    asks = [asked for _, asked in pairs]
    measure = Measurer(plan.network_file, plan.out / "measured")
    reference = None
    if measure.network is not None:
        reference = reference_features(plan, measure.network)
        tell(f"{len(reference)} real clips to compare with")
    rows: dict[str, dict] = {}
    shown: dict[str, dict[int, Counts]] = {}  # of each method
    strips: dict[int, list[Strip]] = {}
    for name, source in _sources(plan).items():
        indices: list[int] = []

        def frames(name: str = name, source: Source = source, to: list = indices) -> Iterator:
            for i, clip in source():
                to.append(i)
                if i < plan.sheet_prompts:
                    strips.setdefault(i, []).append(Strip(name, clip))
                yield clip

        measured = list(spread(measure, frames(), plan.workers))
        clips: dict[int, Measured] = dict(zip(indices, measured, strict=True))
        if not clips:
            continue
        each = {i: counts([(asks[i], clip.observed)]) for i, clip in clips.items()}
        rows[name] = _row(asks, each, clips, reference, seed)
        if name in plan.methods:
            shown[name] = each
            if "shuffled" not in rows:
                rows["shuffled"] = shuffled(asks, clips, seed)
        changes = against_dense(shown, seed)
        # After each row, so that a run that is stopped leaves what it has.
        tables = (report.adherence, report.steadiness, report.by_things, confusion.table)
        text = "\n".join([*(table(rows) for table in tables), report.differences(changes)])
        content = {"settings": _settings(plan), "rows": rows, "against_dense": changes}
        report.write(plan.out, "table", content, text)
        sheet = draw_sheet([(pairs[i][0], strips[i]) for i in sorted(strips)])
        write_png(plan.out / "sheet.png", sheet)
        tell(f"{name}: {len(clips)} clips")
    return text


def _settings(plan: Plan) -> dict:
    engine = plan.engine
    keys = ("methods", "clips", "reference")
    return {
        "model": str(engine.model),
        "frames": engine.frames,
        "seed": engine.seed,
        "density": engine.density,
        "size": engine.size(),
        **{key: getattr(plan, key) for key in keys},
    }
