"""What all stages share: command line, clock, log and checkpoints."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monarchrt_train import checkpoint, parallel
from monarchrt_train.checkpoint import Checkpoint, Parts
from monarchrt_train.config import Config, load

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
        self._since_line: dict[str, list[float | Tensor]] = {}  # values that wait for the next line
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

    def log(self, step: int, values: dict[str, float | Tensor]) -> None:
        """Every so many steps adds a line with the means of what came since the last one."""
        if parallel.rank():
            return
        for name, value in values.items():
            self._since_line.setdefault(name, []).append(value)
        if step % self._log_every == 0:
            waiting, self._since_line = self._since_line, {}
            self.report(step, {name: sum(x) / len(x) for name, x in waiting.items()})

    def report(self, step: int, values: dict[str, float | Tensor]) -> None:
        """Adds a line to the log and the output."""
        if parallel.rank():
            return
        numbers = {name: float(f"{float(value):.6g}") for name, value in values.items()}
        line = json.dumps(
            {"step": step, "seconds": round(time.monotonic() - self._start, 1), **numbers}
        )
        with (self.folder / LOG_FILE).open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def made(self, name: str, stage: str) -> Path:
        """The file of WORK that another stage has made; without it the program ends."""
        path = self.work / name
        if not path.is_file():
            raise SystemExit(f"{self.work} has no {name}: run monarchrt_train.{stage} first")
        return path

    def checkpoint(self, stage: str | None = None) -> Checkpoint | None:
        """The checkpoint of this stage or another one, or None."""
        folder = (self.work / stage if stage else self.folder) / "checkpoint"
        return checkpoint.load(folder) if checkpoint.exists(folder) else None

    def save(self, step: int, parts: Parts, notes: dict[str, str] | None = None) -> None:
        if not parallel.rank():
            checkpoint.save(self.folder / "checkpoint", Checkpoint(step, parts, notes or {}))
        self._last_save = time.monotonic()

    def time_to_save(self) -> bool:
        return time.monotonic() - self._last_save > self._save_s
