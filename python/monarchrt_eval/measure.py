"""What is measured of a clip, and what many clips amount to."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from monarchrt_eval import features
from monarchrt_eval.bootstrap import Estimate, mean, ratio
from monarchrt_eval.checker import ATTRIBUTES, OF_FOUND, compare, compare_found, observe
from monarchrt_eval.features import FeatureNetwork
from monarchrt_eval.temporal import Steadiness, steadiness
from monarchrt_train.world import Scene, render

# Files of this package that only say what to do with what was measured.
REPORTING = ("__main__.py", "bootstrap.py", "confusion.py", "drift.py", "fidelity.py")
REPORTING += ("frechet.py", "patterns.py", "report.py", "sheet.py", "stage.py", "table.py")
REPORTING += ("torch_clips.py", "validate.py", "workers.py")


@dataclass(frozen=True)
class Measured:
    """Of one clip."""

    observed: dict  # what the checker sees
    steadiness: Steadiness
    features: np.ndarray  # [windows, d], or empty without a network


def measure(frames: np.ndarray, network: FeatureNetwork | None) -> Measured:
    """Of frames uint8 [T, H, W, 3]."""
    rows = np.empty(0)
    if network is not None:
        rows = features.embed(network, torch.from_numpy(frames)).double().numpy()
    return Measured(observe(frames), steadiness(frames), rows)


class Measurer:
    """Measures clips and keeps the results in a folder, by everything that they depend on.

    That is the pixels, the network's weights (None: no features) and the code of this package.
    """

    def __init__(self, network_file: Path | None, folder: Path):
        self.network = None if network_file is None else features.load(network_file)
        self._folder = folder
        digest = hashlib.sha256(b"" if network_file is None else network_file.read_bytes())
        package = Path(__file__).parent
        for path in sorted(package.rglob("*.py"), key=str):
            if path.name not in REPORTING:
                digest.update(path.read_bytes())
        self._start = digest.digest()

    def __call__(self, frames: np.ndarray) -> Measured:
        """Of frames uint8 [T, H, W, 3]."""
        digest = hashlib.sha256(self._start + repr(frames.shape).encode())
        digest.update(frames)
        path = self._folder / f"{digest.hexdigest()}.json"
        if not path.exists():
            made = measure(frames, self.network)
            self._folder.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(".part")
            whole.write_text(json.dumps({**asdict(made), "features": made.features.tolist()}))
            whole.replace(path)
        kept = json.loads(path.read_text())
        return Measured(
            kept["observed"], Steadiness(**kept["steadiness"]), np.array(kept["features"])
        )


def real_clip(scene: Scene, size: tuple[int, int], frames: int) -> np.ndarray:
    """uint8 [T, H, W, 3]: the scene as the world draws it."""
    return render([scene], size, frames)[0].permute(0, 2, 3, 1).contiguous().numpy()


Counts = dict[str, tuple[int, int]]  # (right, asked) of each attribute


def counts(pairs: Iterable[tuple[dict, dict]]) -> Counts:
    """Of pairs of what was asked for and what was observed, all together; with "all" of them, and
    apart from that "NAME, found" of `compare_found`."""
    found = {name: f"{name}, found" for name in OF_FOUND}
    total = {name: [0, 0] for name in (*ATTRIBUTES, *found.values(), "all")}
    for asked, observed in pairs:
        for name, hits in compare(asked, observed).items():
            for key in (name, "all"):
                total[key][0] += sum(hits)
                total[key][1] += len(hits)
        for name, hits in compare_found(asked, observed).items():
            total[found[name]][0] += sum(hits)
            total[found[name]][1] += len(hits)
    return {name: (right, asked) for name, (right, asked) in total.items()}


def adherence(clips: list[Counts], seed: int) -> dict[str, Estimate | None]:
    """Of each attribute, and of all together, the share that shows; None of what nobody asked."""
    rows = {name: np.array([c[name] for c in clips], float) for name in clips[0]}
    return {name: ratio(row[:, 0], row[:, 1], seed) for name, row in rows.items()}


def by_things(asks: list[dict], clips: list[Counts], seed: int) -> dict[str, dict]:
    """The adherence of the clips that were asked for one thing, for two, and so on."""
    numbers = [len(asked["objects"]) for asked in asks]
    return {
        f"{number} thing{'s' * (number > 1)}": adherence(
            [c for c, n in zip(clips, numbers, strict=True) if n == number], seed
        )
        for number in sorted(set(numbers))
    }


def steady(clips: list[Steadiness], seed: int) -> dict[str, Estimate]:
    """The mean of each number."""
    return {
        f.name: mean(np.array([getattr(c, f.name) for c in clips]), seed)
        for f in fields(Steadiness)
    }
