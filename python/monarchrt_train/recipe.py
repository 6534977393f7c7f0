"""All stages in a given time, each part of the training with a share of it.

python -m monarchrt_train.recipe --config FILE --work DIR --minutes 25 --keep KEEP [--processes 2]

The parts are those of the configuration's `recipe`; WORK must have what `tokenizer` and
`autoencoder` make. After each part, what it has learnt is copied to KEEP/STAGE (average and critic,
bfloat16): a machine that is taken away costs the part under way. A part that fails is tried once
more without `--compile` in what is left of its time, then left out, and the exit code is 1. A
second call begins with the first part that is not done; with `--parts` a call ends after so many,
where calls may not last long.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.distributed.run import get_args_parser

from monarchrt_train import checkpoint
from monarchrt_train.autoencoder import WEIGHTS_FILE
from monarchrt_train.config import Config, Part, load
from monarchrt_train.package import TOKENIZER_FILE

FOR_EVER = 10**9  # steps: the time ends a part
KEPT = ("ema", "critic")
NEEDED = (TOKENIZER_FILE, WEIGHTS_FILE)


def part_config(content: dict, part: Part) -> dict:
    """The configuration with which the stage of `part` does only that."""
    stage = dict(content.get(part.stage, {}))
    if part.phase:
        stage["phases"] = [{**part.phase, "until_step": FOR_EVER}]
    else:
        stage["steps"] = FOR_EVER
    for optimizer in ("optimizer", "critic"):
        if optimizer in stage:
            rates = ("learning_rate", "muon_learning_rate")
            faster = {
                rate: part.learning_rate_factor * stage[optimizer][rate]
                for rate in rates
                if rate in stage[optimizer]
            }
            stage[optimizer] = {**stage[optimizer], **faster, "decay_steps": FOR_EVER}
    stage.update(part.change)
    return {**content, part.stage: stage}


def launcher(processes: int) -> list[str]:
    """Of a module in several processes.

    Each sees its own GPU alone, where torchrun can do that: then what torch.compile has made for
    one of them serves all.
    """
    known = vars(get_args_parser().parse_args(["program"]))
    alone = ["--virtual-local-rank"] if "virtual_local_rank" in known else []
    return ["torch.distributed.run", f"--nproc-per-node={processes}", *alone, "-m"]


def command(part: Part, config: Path, work: Path, minutes: float, processes: int) -> list[str]:
    start = [sys.executable, "-m"]
    if processes > 1 and part.stage != "text":
        start += launcher(processes)
    flags = [f"--config={config}", f"--work={work}", f"--minutes={minutes}", "--log-every=25"]
    return [*start, f"monarchrt_train.{part.stage}", *flags, *(["--anneal"] if part.anneal else [])]


def keep(work: Path, stage: str, target: Path) -> None:
    """Replaces target/stage by a small copy of the stage's checkpoint."""
    if stage == "autoencoder":
        shutil.copy(work / WEIGHTS_FILE, target / WEIGHTS_FILE)
        return
    saved = checkpoint.load(work / stage / "checkpoint")
    saved.parts = {name: x for name, x in saved.parts.items() if name in KEPT}
    checkpoint.save(target / stage, saved, torch.bfloat16)


def run_part(number: int, part: Part, args: argparse.Namespace, content: dict) -> bool:
    """Whether it went well."""
    path = args.work / f"part-{number}.json"
    path.write_text(json.dumps(part_config(content, part), indent=1) + "\n")
    minutes = part.share * args.minutes
    compiled = ["--compile"] if part.compile and not args.no_compile else []
    begin = time.monotonic()
    for flags in [compiled, []] if compiled else [[]]:
        left = minutes - (time.monotonic() - begin) / 60
        line = command(part, path, args.work, max(0.0, left), args.processes)
        done = subprocess.run([*line, *flags], check=False).returncode == 0
        print(f"part {number}, {part.stage}: {time.monotonic() - begin:.0f} s", flush=True)
        if done:
            return True
    return False


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path, help="folder of all stages")
    parser.add_argument("--minutes", required=True, type=float, help="of all parts together")
    parser.add_argument("--keep", required=True, type=Path, help="small checkpoints")
    parser.add_argument("--processes", type=int, default=max(1, torch.cuda.device_count()))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--parts", type=int, help="of this call (default: all that are left)")
    args = parser.parse_args(argv)
    config: Config = load(args.config)
    content = json.loads(args.config.read_text())
    done = args.work / "parts_done"
    first = int(done.read_text()) if done.exists() else 0
    args.keep.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        if not (args.work / name).is_file():
            parser.error(f"{args.work} has no {name}: run tokenizer and autoencoder first")
        shutil.copy(args.work / name, args.keep / name)
    failed = 0
    last = None if args.parts is None else first + args.parts
    for number, part in list(enumerate(config.recipe))[first:last]:
        if run_part(number, part, args, content):
            keep(args.work, part.stage, args.keep)
        else:
            failed += 1
            print(f"part {number}, {part.stage}: failed, left out", flush=True)
        done.write_text(f"{number + 1}\n")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
