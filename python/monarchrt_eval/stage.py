"""How well a stage of the training follows prompts, before there is a package.

`flow` is sampled by Euler's method with guidance, the distilled stages as the engine does it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from monarchrt_eval import report
from monarchrt_eval.bootstrap import Estimate
from monarchrt_eval.checker import observe
from monarchrt_eval.measure import adherence, by_things, counts
from monarchrt_eval.sheet import Strip, draw_sheet
from monarchrt_eval.torch_clips import Sampler
from monarchrt_eval.workers import spread
from monarchrt_train import config as configuration
from monarchrt_train.package import trained_model
from monarchrt_train.world import prompts
from monarchrt_train.world.__main__ import write_png

EULER_STEPS = 24


@dataclass(frozen=True)
class Plan:
    config: Path
    work: Path
    stage: str
    out: Path
    clips: int
    frames: int
    seed: int
    device: str
    guidance: float
    workers: int
    split: str
    grid_scale: int
    sheet_prompts: int = 12


def _enlarge(clip: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The checker knows things by their size in the frame: all clips get the model's size."""
    if clip.shape[1:3] == size:
        return clip
    return np.stack([cv2.resize(x, size[::-1], interpolation=cv2.INTER_CUBIC) for x in clip])


def measure(plan: Plan, tell: Callable[[str], None]) -> dict[str, Estimate | None]:
    """Writes STAGE.md and STAGE.png."""
    model = trained_model(configuration.load(plan.config), plan.work, plan.stage)
    steps = EULER_STEPS if plan.stage == "flow" else 0
    sampler = Sampler(
        model,
        torch.device(plan.device),
        plan.seed,
        batch=16,
        euler_steps=steps,
        guidance=plan.guidance,
        grid_scale=plan.grid_scale,
    )
    pairs = prompts(plan.split, plan.clips, plan.seed)
    strips: list[tuple[str, list[Strip]]] = []

    def frames() -> Iterator[np.ndarray]:
        texts = [text for text, _ in pairs]
        for i, small in sampler.clips(model.attention, texts, plan.frames):
            clip = _enlarge(small, model.generation.size())
            if i < plan.sheet_prompts:
                strips.append((pairs[i][0], [Strip(plan.stage, clip)]))
            yield clip

    plan.out.mkdir(parents=True, exist_ok=True)
    seen = spread(observe, frames(), plan.workers)
    each = [counts([(asks, what)]) for (_, asks), what in zip(pairs, seen, strict=True)]
    parts = by_things([asks for _, asks in pairs], each, plan.seed)
    row = {"adherence": adherence(each, plan.seed), "by_things": parts}
    text = report.adherence({plan.stage: row}) + "\n" + report.by_things({plan.stage: row})
    report.write(plan.out, plan.stage, {"plan": str(plan), "row": row}, text)
    write_png(plan.out / f"{plan.stage}.png", draw_sheet(strips))
    tell(text)
    return row["adherence"]
