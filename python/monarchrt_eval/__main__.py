"""Measures what a model makes. `python -m monarchrt_eval COMMAND --help`; see docs/quality.md."""

import argparse
import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from monarchrt_eval import drift, features, fidelity, report, stage, torch_clips
from monarchrt_eval.clips import DENSITY, FREE, METHODS, Engine
from monarchrt_eval.table import SPLIT, Plan, make_table
from monarchrt_train.package import import_package
from monarchrt_train.world import prompts
from monarchrt_train.world.scene import SPLITS

FEATURES_FILE = Path("out/features.pt")


def tell(line: str) -> None:
    print(line, flush=True)


def _names(text: str, known: tuple[str, ...] = METHODS) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(known):
        raise argparse.ArgumentTypeError(f"got {sorted(unknown)}, need some of {known}")
    return names


def _engine_names(text: str) -> tuple[str, ...]:
    return _names(text, (*METHODS, *FREE))


def train_features(args: argparse.Namespace) -> None:
    settings = features.Training(steps=args.steps, pool=args.pool, seed=args.seed)
    network = features.train(settings, tell, args.device).cpu()
    splits = {s: features.accuracy(network, s, args.clips) for s in ("val", "held_out")}
    about = {"training": dataclasses.asdict(settings), "clips": args.clips, "accuracy": splits}
    features.save(args.out, network, about)
    rows = [
        [name, *(f"{100 * shares[name]:.1f} %" for shares in splits.values())]
        for name in network.heads
    ]
    tell(report.lines(["label", *splits], rows))


def _engine_of(args: argparse.Namespace) -> Engine:
    frames = getattr(args, "frames", drift.FRAMES)
    return Engine(args.binary, args.model, frames, args.seed, args.density, args.dense_weights)


def table(args: argparse.Namespace) -> None:
    engine = _engine_of(args)
    plan = Plan(
        engine,
        args.out,
        args.features if args.frechet else None,
        args.methods,
        args.clips,
        args.reference,
        generate=args.generate,
        autoencoder=args.autoencoder,
        workers=args.workers,
    )
    tell(make_table(plan, tell))


def clips(args: argparse.Namespace) -> None:
    sampler = torch_clips.Sampler(
        import_package(args.model),
        torch.device(args.device),
        args.seed,
        batch=args.batch,
        density=args.density,
        dense_weights=args.dense_weights,
    )
    texts = [text for text, _ in prompts(SPLIT, args.clips, args.seed)]
    for method in args.methods:
        torch_clips.write(sampler, method, texts, args.frames, args.out / method)
        tell(f"{method}: {len(texts)} clips")


def stage_table(args: argparse.Namespace) -> None:
    names = {f.name for f in dataclasses.fields(stage.Plan)} & vars(args).keys()
    stage.measure(stage.Plan(**{name: getattr(args, name) for name in names}), tell)


def drift_table(args: argparse.Namespace) -> None:
    tell(drift.measure(_engine_of(args), args.methods, args.clips, args.out, args.generate))


def fidelity_table(args: argparse.Namespace) -> None:
    result = fidelity.measure(args.model, args.clips, args.seed, args.density, tell)
    args.out.mkdir(parents=True, exist_ok=True)
    text = fidelity.markdown(result)
    report.write(args.out, "fidelity", result, text)
    tell(text)


def _common(command: argparse.ArgumentParser, clips: int, package: bool = True) -> None:
    if package:
        command.add_argument("--model", type=Path, required=True, help="a package")
    command.add_argument("--out", type=Path, default=Path("out/eval"))
    command.add_argument("--clips", type=int, default=clips)
    command.add_argument("--seed", type=int, default=1, help="of prompts, noise and intervals")
    command.add_argument("--density", type=float, default=DENSITY, help="of the baselines")


def _device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def _methods(command: argparse.ArgumentParser, names: Callable = _names) -> None:
    command.add_argument("--methods", type=names, default=METHODS, help="with commas between")


def _workers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, default=1, help="processes that measure")


def _dense_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dense-weights",
        type=Path,
        metavar="FILE",
        help="transformer for all methods but monarch (default: the package's)",
    )


def _engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--binary", type=Path, required=True, help="monarchrt")
    _dense_weights(command)
    _methods(command, _engine_names)
    command.add_argument(
        "--no-generate",
        dest="generate",
        action="store_false",
        help="measure only the clips that are there",
    )


def _add_gpu_commands(commands: "argparse._SubParsersAction") -> None:
    five = commands.add_parser("clips", help="the clips of `table` by PyTorch, on a GPU")
    _common(five, clips=128)
    _methods(five, _engine_names)
    _dense_weights(five)
    _device(five)
    five.add_argument("--frames", type=int, default=81)
    five.add_argument("--batch", type=int, default=8, help="clips at once")
    five.set_defaults(run=clips)

    six = commands.add_parser("stage", help="adherence of a stage of the training")
    _common(six, clips=64, package=False)
    _device(six)
    _workers(six)
    six.add_argument("--config", type=Path, required=True, help="of the training")
    six.add_argument("--work", type=Path, required=True, help="folder of all stages")
    six.add_argument("--stage", choices=("flow", "distill", "monarch"), required=True)
    six.add_argument("--frames", type=int, default=33)
    six.add_argument("--guidance", type=float, default=3.0, help="of flow")
    six.add_argument("--grid-scale", type=int, default=1, help="2: half the width and height")
    six.add_argument("--split", choices=SPLITS, default=SPLIT)
    six.set_defaults(run=stage_table)


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
    _device(one)
    one.set_defaults(run=train_features)

    two = commands.add_parser("table", help="adherence, Fréchet distance, steadiness")
    _common(two, clips=128)
    _engine(two)
    two.add_argument("--frames", type=int, default=81, help="of each clip, 21 or more")
    two.add_argument("--features", type=Path, default=FEATURES_FILE)
    two.add_argument(
        "--no-frechet",
        dest="frechet",
        action="store_false",
        help="no Fréchet distances, and no --features needed",
    )
    two.add_argument("--reference", type=int, default=512, help="real clips to compare with")
    two.add_argument(
        "--no-autoencoder",
        dest="autoencoder",
        action="store_false",
        help="no row of real video through the model's autoencoder",
    )
    _workers(two)
    two.set_defaults(run=table)

    three = commands.add_parser("drift", help="seconds 15 to 20 against seconds 0 to 5")
    _common(three, clips=8)
    _engine(three)
    three.set_defaults(run=drift_table)

    four = commands.add_parser("fidelity", help="other attention against dense, layer by layer")
    _common(four, clips=4)
    four.set_defaults(run=fidelity_table)
    _add_gpu_commands(commands)

    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    try:
        args.run(args)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        parser.exit(1, f"monarchrt_eval: {error}\n")


if __name__ == "__main__":
    main()
