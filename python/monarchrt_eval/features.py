"""A small video network that knows the world's labels; its last layer gives features of a clip.

It is trained here, on clips that the generator never saw, and has no part in training that. It
sees SEEN of SPAN frames at a quarter of the size. What it must tell: of the background, the camera
and the number of things which one; of colours, shapes, sizes and motions which ones are there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from monarchrt_train.world import Scene, labels, render, sample_scene
from monarchrt_train.world.scene import BACKGROUNDS, CAMERAS, COLORS, COUNTS, MOTIONS, SHAPES, SIZES

SIZE = (60, 104)
STRIDE, SEEN = 2, 11
SPAN = STRIDE * (SEEN - 1) + 1  # frames, 1.25 s
FEATURES = 32
# Seeds of the split "train" from here on are the network's, far from those of the generator.
FIRST_SEED = 1_000_000_000
ACCURACY_FIRST_SEED = 800_000_000

ONE_OF = {"background": BACKGROUNDS, "camera": tuple(CAMERAS), "count": tuple(COUNTS)}
SOME_OF = {"color": COLORS, "shape": SHAPES, "size": tuple(SIZES), "motion": MOTIONS}


class FeatureNetwork(nn.Module):
    """Convolutions over space and over time in turn (Tran et al. 2018, arXiv 1711.11248).

    Then the mean and the maximum over all places, FEATURES numbers, and a head for each label.
    """

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, size: tuple, stride: tuple) -> list[nn.Module]:
            padding = tuple(n // 2 for n in size)
            conv = nn.Conv3d(inputs, outputs, size, stride, padding, bias=False)
            return [conv, nn.BatchNorm3d(outputs), nn.ReLU()]

        def space(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return layer(inputs, outputs, (1, 3, 3), (1, stride, stride))

        def time(width: int) -> list[nn.Module]:
            return layer(width, width, (3, 1, 1), (2, 1, 1))

        self.body = nn.Sequential(
            *layer(3, 32, (1, 5, 5), (1, 4, 4)),
            *time(32),
            *space(32, 48, 1),
            *space(48, 64, 2),
            *time(64),
            *space(64, 96, 2),
        )
        self.features = nn.Linear(2 * 96, FEATURES)
        names = {**ONE_OF, **SOME_OF}
        self.heads = nn.ModuleDict({k: nn.Linear(FEATURES, len(v)) for k, v in names.items()})

    def embed(self, clips: Tensor) -> Tensor:
        """uint8 [B, SEEN, 3, *SIZE] -> [B, FEATURES]."""
        x = self.body(clips.float().transpose(1, 2) / 127.5 - 1)
        pooled = torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], 1)
        return functional.relu(self.features(pooled))

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """-> of each label the scores [B, names]."""
        features = self.embed(clips)
        return {name: head(features) for name, head in self.heads.items()}


def targets(scenes: list[Scene]) -> dict[str, Tensor]:
    """Of each label what is there, 0 or 1: [B, names]."""
    known = [labels(scene) for scene in scenes]
    rows: dict[str, list[list[float]]] = {}
    for name, values in ONE_OF.items():
        rows[name] = [[float(k[name] == v) for v in values] for k in known]
    for name, values in SOME_OF.items():
        there = [{thing[name] for thing in k["objects"]} for k in known]
        rows[name] = [[float(v in t) for v in values] for t in there]
    return {name: torch.tensor(row) for name, row in rows.items()}


def loss(scores: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of each label, added up."""
    total = torch.zeros((), device=next(iter(scores.values())).device)
    for name, row in scores.items():
        if name in ONE_OF:
            total = total + functional.cross_entropy(row, wanted[name])
        else:
            each = functional.binary_cross_entropy_with_logits(row, wanted[name], reduction="none")
            total = total + each.sum(1).mean()
    return total


def right(scores: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """bool [B] for each label: whether the n highest scores are those of the n that are there."""
    result = {}
    for name, row in scores.items():
        there = wanted[name] > 0.5
        rank = row.argsort(1, descending=True).argsort(1)
        result[name] = ((rank < there.sum(1, keepdim=True)) == there).all(1)
    return result


def shrink(frames: Tensor) -> Tensor:
    """Frames uint8 [T, H, W, 3] -> uint8 [windows, SEEN, 3, *SIZE], of T // SPAN windows."""
    windows = len(frames) // SPAN
    if windows == 0:
        raise ValueError(f"[features] got {len(frames)} frames, need {SPAN} or more")
    picked = frames[: windows * SPAN].unflatten(0, (windows, SPAN))[:, ::STRIDE].flatten(0, 1)
    small = functional.interpolate(picked.permute(0, 3, 1, 2).float(), size=SIZE, mode="area")
    return small.round().to(torch.uint8).unflatten(0, (windows, SEEN))


@torch.no_grad()
def embed(network: FeatureNetwork, frames: Tensor) -> Tensor:
    """Frames uint8 [T, H, W, 3] -> [windows, FEATURES]."""
    return network.embed(shrink(frames))


@dataclass(frozen=True)
class Training:
    steps: int = 1500
    batch: int = 32
    pool: int = 4096  # clips that are drawn once and used several times
    learning_rate: float = 3e-3
    seed: int = 1


def draw(scenes: list[Scene], device: str = "cpu") -> Tensor:
    """uint8 [B, SEEN, 3, *SIZE]."""
    return render(scenes, SIZE, SPAN, device)[:, ::STRIDE].contiguous()


def _pool(settings: Training, device: str) -> tuple[Tensor, dict[str, Tensor]]:
    first = FIRST_SEED + 1_000_000 * settings.seed
    scenes = [sample_scene(first + i, "train") for i in range(settings.pool)]
    clips = torch.cat([draw(scenes[i : i + 16], device) for i in range(0, len(scenes), 16)])
    return clips, {name: rows.to(device) for name, rows in targets(scenes).items()}


def train(settings: Training, tell: Callable[[str], None], device: str = "cpu") -> FeatureNetwork:
    """The network in evaluation mode. The same settings give the same clips and first weights."""
    torch.manual_seed(settings.seed)
    network = FeatureNetwork().to(device)
    clips, wanted = _pool(settings, device)
    tell(f"{len(clips)} clips drawn, {sum(p.numel() for p in network.parameters())} parameters")
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    generator = torch.Generator().manual_seed(settings.seed)
    network.train()
    for step in range(settings.steps):
        at = torch.randint(len(clips), (settings.batch,), generator=generator).to(device)
        value = loss(network(clips[at]), {name: rows[at] for name, rows in wanted.items()})
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            tell(f"step {step + 1}: loss {value.item():.2f}")
    return network.eval()


@torch.no_grad()
def accuracy(network: FeatureNetwork, split: str, clips: int) -> dict[str, float]:
    """Of each label, on clips drawn at full size and shrunk like any other clip."""
    hits: dict[str, list[Tensor]] = {}
    for i in range(clips):
        scene = sample_scene(ACCURACY_FIRST_SEED + i, split)
        video = render([scene], frames=SPAN)[0].permute(0, 2, 3, 1)
        for name, hit in right(network(shrink(video)), targets([scene])).items():
            hits.setdefault(name, []).append(hit)
    return {name: float(torch.cat(rows).float().mean()) for name, rows in hits.items()}


def save(path: Path, network: FeatureNetwork, about: dict) -> None:
    """The weights, and beside them what is known of them as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def load(path: Path) -> FeatureNetwork:
    network = FeatureNetwork()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()
