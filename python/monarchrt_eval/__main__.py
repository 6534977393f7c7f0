"""Measures what a model makes. `python -m monarchrt_eval COMMAND --help`; see docs/quality.md."""

import argparse
import dataclasses
import subprocess
from pathlib import Path

import cv2
import torch

from monarchrt_eval import drift, features, fidelity, report
from monarchrt_eval.clips import DENSITY, METHODS, Engine
from monarchrt_eval.table import Plan, make_table

FEATURES_FILE = Path("out/features.pt")


def tell(line: str) -> None:
    print(line, flush=True)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(METHODS):
        raise argparse.ArgumentTypeError(f"got {sorted(unknown)}, need some of {METHODS}")
    return names


def train_features(args: argparse.Namespace) -> None:
    settings = features.Training(steps=args.steps, pool=args.pool, seed=args.seed)
    network = features.train(settings, tell)
    splits = {s: features.accuracy(network, s, args.clips) for s in ("val", "held_out")}
    about = {"training": dataclasses.asdict(settings), "clips": args.clips, "accuracy": splits}
    features.save(args.out, network, about)
    rows = [
        [name, *(f"{100 * shares[name]:.1f} %" for shares in splits.values())]
        for name in network.heads
    ]
    tell(report.lines(["label", *splits], rows))


def table(args: argparse.Namespace) -> None:
    engine = Engine(args.binary, args.model, args.frames, args.seed, args.density)
    plan = Plan(
        engine,
        args.out,
        args.features,
        args.methods,
        args.clips,
        args.reference,
        generate=args.generate,
        autoencoder=args.autoencoder,
    )
    tell(make_table(plan, tell))


def drift_table(args: argparse.Namespace) -> None:
    engine = Engine(args.binary, args.model, drift.FRAMES, args.seed, args.density)
    tell(drift.measure(engine, args.methods, args.clips, args.out, args.generate))


def fidelity_table(args: argparse.Namespace) -> None:
    result = fidelity.measure(args.model, args.clips, args.seed, args.density, tell)
    args.out.mkdir(parents=True, exist_ok=True)
    text = fidelity.markdown(result)
    report.write(args.out, "fidelity", result, text)
    tell(text)


def _common(command: argparse.ArgumentParser, clips: int) -> None:
    command.add_argument("--model", type=Path, required=True, help="a package")
    command.add_argument("--out", type=Path, default=Path("out/eval"))
    command.add_argument("--clips", type=int, default=clips)
    command.add_argument("--seed", type=int, default=1, help="of prompts, noise and intervals")
    command.add_argument("--density", type=float, default=DENSITY, help="of the baselines")


def _engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--binary", type=Path, required=True, help="monarchrt")
    command.add_argument("--methods", type=_names, default=METHODS, help="with commas between")
    command.add_argument(
        "--no-generate",
        dest="generate",
        action="store_false",
        help="measure only the clips that are there",
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="monarchrt_eval", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and OpenCV")

    of_features = commands.add_parser("features", help="the network of the Fréchet distance")
    one = of_features.add_subparsers(dest="action", required=True).add_parser("train")
    one.add_argument("--out", type=Path, default=FEATURES_FILE)
    one.add_argument("--steps", type=int, default=features.Training.steps)
    one.add_argument("--pool", type=int, default=features.Training.pool, help="clips drawn")
    one.add_argument("--clips", type=int, default=200, help="clips that its accuracy is from")
    one.add_argument("--seed", type=int, default=features.Training.seed)
    one.set_defaults(run=train_features)

    two = commands.add_parser("table", help="adherence, Fréchet distance, steadiness")
    _common(two, clips=128)
    _engine(two)
    two.add_argument("--frames", type=int, default=81, help="of each clip, 21 or more")
    two.add_argument("--features", type=Path, default=FEATURES_FILE)
    two.add_argument("--reference", type=int, default=512, help="real clips to compare with")
    two.add_argument(
        "--no-autoencoder",
        dest="autoencoder",
        action="store_false",
        help="no row of real video through the model's autoencoder",
    )
    two.set_defaults(run=table)

    three = commands.add_parser("drift", help="seconds 15 to 20 against seconds 0 to 5")
    _common(three, clips=8)
    _engine(three)
    three.set_defaults(run=drift_table)

    four = commands.add_parser("fidelity", help="other attention against dense, layer by layer")
    _common(four, clips=4)
    four.set_defaults(run=fidelity_table)

    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    try:
        args.run(args)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        parser.exit(1, f"monarchrt_eval: {error}\n")


if __name__ == "__main__":
    main()
