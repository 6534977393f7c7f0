"""The one configuration of all stages: a JSON file read into frozen dataclasses.

Every field of the file must exist here, and a missing one has the value written here.
"""

from __future__ import annotations

import dataclasses
import json
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from monarchrt_train.attention import Attention
from monarchrt_train.taehv import TaehvConfig
from monarchrt_train.umt5 import Umt5Config
from monarchrt_train.wan import WanConfig

T = TypeVar("T")
CHUNK_FRAMES = 3  # latent frames denoised together; the engine knows no other number


@dataclass(frozen=True)
class ModelConfig:
    text: Umt5Config
    transformer: WanConfig = field(default_factory=WanConfig)
    autoencoder: TaehvConfig = field(default_factory=TaehvConfig)

    def __post_init__(self) -> None:
        if self.text.dim != self.transformer.text_dim:
            raise ValueError(f"text.dim is {self.text.dim}, need transformer.text_dim")
        if self.autoencoder.channels != self.transformer.in_dim:
            raise ValueError("autoencoder.channels differs from transformer.in_dim")


@dataclass(frozen=True)
class Generation:
    """How the model generates, in training and in the engine."""

    width: int = 416
    height: int = 240
    steps: tuple[int, ...] = (1000, 750, 500, 250)
    shift: float = 5.0
    window_frames: int = 9  # latent frames a query sees, its own chunk included

    def size(self, grid_scale: int = 1) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height // grid_scale, self.width // grid_scale


@dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 3e-4
    warmup_steps: int = 100  # after every start: a carried checkpoint has no moments
    decay_steps: int = 20000  # cosine to a tenth over these steps
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    muon: bool = False  # for the matrices of the layers
    # Of Muon alone; 0: learning_rate. Muon's usual 0.02 (entries of a step of N x N then have a
    # root mean square of 0.02 / sqrt(N)) is 0.1 / sqrt(N) here: 0.00625 for 256.
    muon_learning_rate: float = 0.0


@dataclass(frozen=True)
class AutoencoderStage:
    optimizer: Optimizer = field(default_factory=Optimizer)
    steps: int = 20000
    batch: int = 16
    frames: int = 13  # of video in one example, 4 n - 3
    clip_frames: int = 25  # made of a clip, from any frame on; an example starts anywhere in it
    first_frame_max: int = 56
    pool: int = 256  # clips kept
    first: int = 64  # clips made before the first step
    fresh: int = 1  # clips made in each step; 0: each start has clips of its own
    crop: int = 128  # pixels, a side; 0: whole frames
    around_things: float = 0.5  # share of the crops that are around a thing: it is what changes
    latent_noise: float = 0.05  # standard deviation, of a latent's 1
    squared_weight: float = 5.0  # of the squared error, in the loss
    edge_weight: float = 0.25  # of differences of neighbouring pixels, beside those of pixels
    sharpen_steps: int = 1500  # until these and the absolute differences count in full
    ema_decay: float = 0.999
    held_out_clips: int = 32
    # False: the decoder alone learns, to read the latents as they are. Then a transformer that
    # makes such latents needs no training of its own.
    train_encoder: bool = True


@dataclass(frozen=True)
class TextStage:
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(1e-3, decay_steps=3000))
    steps: int = 3000
    batch: int = 256
    captions: int = 200000  # different ones; with fewer it learns them by heart
    # Numbers of things, in turn; () as the world has them. One thing teaches nothing of whose
    # shape is whose.
    counts: tuple[int, ...] = ()
    look_around: bool = False  # position biases and queries start anew (Umt5Encoder.look_around)
    ema_decay: float = 0.99


def _check_box(box: tuple[int, ...]) -> None:
    if len(box) not in (0, 2):
        raise ValueError(f"box is {list(box)}, need rows and columns")


@dataclass(frozen=True)
class View:
    """Steps of the flow that see a part of the clips only (views.py)."""

    batch: int
    steps: int = 1
    # Latent frames: 1, any of the clip; a multiple of CHUNK_FRAMES, its first ones; 0: all. With
    # one chunk every token must be made from the prompt: nothing is seen of a past.
    frames: int = 0
    box: tuple[int, ...] = ()  # rows and columns of latents, around a thing; (): all

    def __post_init__(self) -> None:
        _check_box(self.box)
        if self.frames > 1 and self.frames % CHUNK_FRAMES:
            raise ValueError(f"frames is {self.frames}, need 1 or a multiple of {CHUNK_FRAMES}")


@dataclass(frozen=True)
class FlowPhase:
    """A part of the training, up to a step."""

    until_step: int
    latent_frames: int = 9
    batch: int = 8
    grid_scale: int = 1  # 2: pictures of half the width and height
    pool: int = 4096  # encoded clips kept
    first: int = 512  # clips made before the first step
    fresh: int = 4  # clips made in each step; 0: each start has clips of its own, and no others
    first_seed: int = 0  # of the clips; with another one it sees others
    views: tuple[View, ...] = ()  # steps that come after each step with whole clips
    fill_minutes: float = 60.0  # for making clips before the first step, at most
    recompute: bool = False  # activations in the backward pass: less memory


@dataclass(frozen=True)
class FlowStage:
    phases: tuple[FlowPhase, ...]
    optimizer: Optimizer = field(default_factory=Optimizer)
    attention: Attention = field(default_factory=Attention)
    ema_decay: float = 0.9995
    text_dropout: float = 0.1
    history_noise: float = 0.1  # largest sigma of the noise on half of the histories
    take_text_encoder: bool = False  # that of the stage text, once, though the checkpoint has one
    # Without a loss of its own the encoder forgets in the flow what `text` taught it (README.md).
    train_text_encoder: bool = True
    probe_weight: float = 0.0  # of PlaceProbe's loss, beside that of the velocity; 0: none
    probe_block: int = 3  # the probe reads after so many


@dataclass(frozen=True)
class RewardStage:
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(1e-3, decay_steps=4000))
    steps: int = 4000
    batch: int = 32
    latent_frames: int = 9
    width: int = 64  # channels of the convolutions at full size, a multiple of 8
    noise: float = 0.5  # largest sigma of the noise on what it reads
    # Share of clips with a flaw (world.flaws), which it must tell from a thing as things are.
    flawed: float = 0.0
    pool: int = 2048  # encoded clips, others at each start
    fill_minutes: float = 60.0  # for making them, at most
    views: tuple[View, ...] = ()  # steps that come after each step with whole clips
    ema_decay: float = 0.998


def _distillation() -> Optimizer:
    return Optimizer(learning_rate=4e-5, betas=(0.0, 0.99))


@dataclass(frozen=True)
class DistillPhase:
    """A part of the distillation, up to a step."""

    until_step: int
    latent_frames: int = 12
    batch: int = 8
    grid_scale: int = 1
    # Rows and columns of latents; (): the whole picture. A flow that was trained with views knows
    # boxes of one thing, and they are many times as cheap; their prompts tell of one.
    box: tuple[int, ...] = ()
    recompute: bool = False

    def __post_init__(self) -> None:
        _check_box(self.box)


@dataclass(frozen=True)
class DistillStage:
    phases: tuple[DistillPhase, ...]
    optimizer: Optimizer = field(default_factory=_distillation)
    critic: Optimizer = field(default_factory=_distillation)
    attention: Attention = field(default_factory=Attention)  # of the generator
    scorer_attention: Attention = field(default_factory=Attention)  # of teacher and critic
    guidance: float = 3.0  # of the teacher; 1: none
    divergence_weight: float = 1.0  # of distribution matching; 0: no critic either
    match_weight: float = 0.0  # of the squared distance from the stage before, on the same inputs
    trajectory_weight: float = 0.0  # of that from where the teacher's flow leads
    trajectory_steps: int = 16  # of Euler's method from pure noise; fewer from less
    # Of what the stage `reward` says of the answers, for each nat; 0: nobody asks it. With 1, a
    # gradient of norm g in an answer weighs as much as a divergence of mean size g.
    reward_weight: float = 0.0
    # For each rollout, each at one of its denoising steps. Rollouts cost more than updates.
    generator_updates: int = 1
    critic_updates: int = 4  # for each rollout
    critic_only_steps: int = 50  # at the start
    counts: tuple[int, ...] = ()  # of things in the prompts, in turn; () as the world has them
    motions: tuple[str, ...] = ()  # of their first thing, in turn, "" for any; () as above
    ema_decay: float = 0.99


@dataclass(frozen=True)
class Part:
    """A part of recipe.py: one phase of a stage, for a share of the time."""

    stage: str
    share: float  # of all minutes
    phase: dict[str, Any] = field(default_factory=dict)  # of the stage, but for until_step
    learning_rate_factor: float = 1.0
    anneal: bool = False  # the learning rate falls towards the end
    compile: bool = False  # torch.compile
    change: dict[str, Any] = field(default_factory=dict)  # other settings of the stage


@dataclass(frozen=True)
class Config:
    model: ModelConfig
    autoencoder: AutoencoderStage
    flow: FlowStage
    distill: DistillStage
    monarch: DistillStage
    text: TextStage = field(default_factory=TextStage)
    reward: RewardStage = field(default_factory=RewardStage)
    generation: Generation = field(default_factory=Generation)
    recipe: tuple[Part, ...] = ()
    captions: int = 20000  # for the tokenizer
    seed: int = 1


def _build(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        hints = get_type_hints(kind)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise ValueError(f"{where} has no field {', '.join(sorted(unknown))}")
        return kind(**{k: _build(hints[k], v, f"{where}.{k}") for k, v in value.items()})
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        raise TypeError(f"{where}: unions are not supported")
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is not a list")
        kinds = get_args(kind)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(kinds) != len(value):
            raise ValueError(f"{where} has {len(value)} elements, need {len(kinds)}")
        return tuple(_build(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where} is {value!r}, need {kind.__name__}")
    return value


def from_dict(kind: type[T], value: dict[str, Any], where: str = "config") -> T:
    """The dataclass `kind` from plain JSON values. ValueError names the wrong field."""
    return _build(kind, value, where)


def load(path: Path | str) -> Config:
    return from_dict(Config, json.loads(Path(path).read_text()))
