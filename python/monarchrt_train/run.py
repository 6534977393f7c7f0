"""What all stages share: command line, clock, log, and a module with optimizer and average."""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monarchrt_train import checkpoint, parallel
from monarchrt_train.checkpoint import Checkpoint, Parts
from monarchrt_train.config import Config, Optimizer, load

LOG_FILE = "log.jsonl"


class Run:
    """One call of one stage.

    Its folder WORK/STAGE holds checkpoint/ and log.jsonl. All randomness comes from the seed and
    the number of the step, so a resumed run draws what an uninterrupted one would have drawn.
    """

    def __init__(self, stage: str, description: str, argv: list[str] | None = None):
        self._start = time.monotonic()
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--config", required=True, type=Path)
        parser.add_argument("--work", required=True, type=Path, help="folder of all stages")
        parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
        parser.add_argument(
            "--anneal",
            action="store_true",
            help="learning rates fall over --minutes, not over decay_steps",
        )
        parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        parser.add_argument("--compile", action="store_true", help="use torch.compile")
        parser.add_argument("--log-every", type=int, default=20, metavar="STEPS")
        parser.add_argument("--save-minutes", type=float, default=4, help="between checkpoints")
        args = parser.parse_args(argv)
        if args.anneal and math.isinf(args.minutes):
            parser.error("--anneal needs --minutes")
        self._anneal: bool = args.anneal
        self.config: Config = load(args.config)
        self.work: Path = args.work
        self.folder = args.work / stage
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = parallel.join(args.device)
        self.compile: bool = args.compile
        self._limit_s = 60 * args.minutes
        self._seconds = 0.0  # at the beginning of the present step, the same in all processes
        self._log_every, self._save_s = args.log_every, 60 * args.save_minutes
        self._last_save = self._start
        # Windows of different lengths, with and without gradients, are all compiled.
        torch._dynamo.config.recompile_limit = 64
        torch.manual_seed(self.config.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True

    def generator(self, step: int, purpose: int = 0) -> torch.Generator:
        """Of one step of this stage, on the device."""
        text = f"{self.config.seed}/{self.folder.name}/{step}/{purpose}"
        if parallel.rank():
            text += f"/{parallel.rank()}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
        return torch.Generator(self.device).manual_seed(seed)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 products on a GPU, float32 on a CPU."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def steps(self, first: int, last: int) -> Iterator[int]:
        """The steps from `first` to before `last`, while there is time."""
        for step in range(first, last):
            self._seconds = parallel.largest(time.monotonic() - self._start)
            if self._seconds > self._limit_s:
                return
            yield step

    def spent(self) -> float | None:
        """With --anneal the share of the time that is over, else None."""
        if not self._anneal:
            return None
        return min(1.0, self._seconds / self._limit_s) if self._limit_s > 0 else 1.0

    def log(self, step: int, values: dict[str, float | Tensor], always: bool = False) -> None:
        """Adds a line to the log and the output, every so many steps."""
        if parallel.rank() or (not always and step % self._log_every):
            return
        numbers = {name: float(f"{float(value):.6g}") for name, value in values.items()}
        line = json.dumps(
            {"step": step, "seconds": round(time.monotonic() - self._start, 1), **numbers}
        )
        with (self.folder / LOG_FILE).open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def checkpoint(self, stage: str | None = None) -> Checkpoint | None:
        """The checkpoint of this stage or another one, or None."""
        folder = (self.work / stage if stage else self.folder) / "checkpoint"
        return checkpoint.load(folder) if checkpoint.exists(folder) else None

    def save(self, step: int, parts: Parts) -> None:
        if not parallel.rank():
            checkpoint.save(self.folder / "checkpoint", Checkpoint(step, parts))
        self._last_save = time.monotonic()

    def time_to_save(self) -> bool:
        return time.monotonic() - self._last_save > self._save_s


class Learner:
    """A module with AdamW, a learning rate schedule, and an average of its weights."""

    def __init__(
        self,
        module: nn.Module,
        settings: Optimizer,
        ema_decay: float | None = None,
        spent: Callable[[], float | None] = lambda: None,
    ):
        """spent: how much of the training is over, 0 to 1; None: step / decay_steps."""
        self.module, self.settings, self._decay = module, settings, ema_decay
        self._spent = spent
        self.ema = copy.deepcopy(module).requires_grad_(False) if ema_decay is not None else None
        self._parameters = dict(module.named_parameters())
        matrices = [x for x in self._parameters.values() if x.dim() > 1]
        vectors = [x for x in self._parameters.values() if x.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        self._updates = 0  # since this start

    def update(self, loss: Tensor, step: int) -> Tensor:
        """One step of the optimizer, left out if the gradient is not finite. -> its norm."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parallel.average_gradients(self._parameters.values())
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self.settings.clip_norm)
        # The fused step looks at this on the device, so nobody waits for a GPU.
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.optimizer.step()
        self._updates += 1
        if self.ema is not None:
            self._average(step)
        return norm

    def learning_rate(self, step: int) -> float:
        s = self.settings
        warm = min(1.0, (self._updates + 1) / s.warmup_steps)
        spent = self._spent()
        done = min(1.0, step / s.decay_steps) if spent is None else spent
        return s.learning_rate * warm * (0.55 + 0.45 * math.cos(math.pi * done))

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        averages = list(self.ema.parameters())
        torch._foreach_lerp_(averages, list(self._parameters.values()), 1 - decay)

    def parts(self, name: str = "weights", ema: str = "ema") -> Parts:
        """What a checkpoint keeps, the part of the weights under `name`."""
        out: Parts = {name: self.module.state_dict()}
        if self.ema is not None:
            out[ema] = self.ema.state_dict()
        out[f"{name}_optimizer"] = {
            f"{key}.{field}": value
            for key, x in self._parameters.items()
            for field, value in self.optimizer.state.get(x, {}).items()
        }
        return out

    def restore(self, saved: Checkpoint, name: str = "weights", ema: str = "ema") -> None:
        """Takes what `saved` has; it must have weights or their average."""
        self.module.load_state_dict(saved.weights(name, ema))
        if self.ema is not None:
            self.ema.load_state_dict(saved.weights(ema, name))
        moments = saved.parts.get(f"{name}_optimizer", {})
        for key, x in self._parameters.items():
            fields = ("step", "exp_avg", "exp_avg_sq")
            if all(f"{key}.{field}" in moments for field in fields):
                self.optimizer.state[x] = {
                    "step": moments[f"{key}.step"].float().to(x.device if x.is_cuda else "cpu"),
                    # In the memory format of the parameter, which the fused optimizer relies on.
                    "exp_avg": torch.empty_like(x.detach()).copy_(moments[f"{key}.exp_avg"]),
                    "exp_avg_sq": torch.empty_like(x.detach()).copy_(moments[f"{key}.exp_avg_sq"]),
                }
