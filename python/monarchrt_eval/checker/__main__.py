"""Validates the checker, or asks it whether generated clips show what their prompts asked for."""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from monarchrt_eval.checker import compare, observe, tally
from monarchrt_eval.checker.validate import measure, validate


def read_video(path: Path) -> np.ndarray:
    """uint8 [T, H, W, 3] of a video file."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    if not frames:
        raise SystemExit(f"[checker] {path} has no frames that can be read")
    return np.stack(frames)


def check(prompts: Path, clips: Path, out: Path | None) -> None:
    """Prints adherence of clips/000N.* to line N of the prompts; `out` gets all details."""
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    results, lines = [], []
    for row in rows:
        files = [p for p in sorted(clips.glob(f"{row['index']:04d}.*")) if p.suffix != ".json"]
        if not files:
            raise SystemExit(f"[checker] {clips} has no clip {row['index']:04d}")
        observed = observe(read_video(files[0]))
        result = compare(row["asks"], observed)
        results.append(result)
        lines.append(json.dumps({**row, "observed": observed, "right": result}) + "\n")
    if out:
        out.write_text("".join(lines))
    print("| attribute | asked | right |\n|---|---|---|")
    for name, (right, asked) in tally(results).items():
        if asked:
            print(f"| {name} | {asked} | {100 * right / asked:.1f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="monarchrt_eval.checker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("validate", help="accuracy on clips with known labels, as a table")
    one.add_argument("--clips", type=int, default=200)
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--split", default="val")
    one.add_argument("--workers", type=int, default=1)
    one.add_argument("--mistakes", action="store_true", help="print each of them")
    two = commands.add_parser("check", help="adherence of clips to their prompts, as a table")
    two.add_argument("--prompts", type=Path, required=True, help="JSONL of monarchrt_train.world")
    two.add_argument("--clips", type=Path, required=True, help="folder with 0001.mp4, ...")
    two.add_argument("--out", type=Path, help="write what was seen in each clip, as JSONL")
    three = commands.add_parser("measure", help="typical statistics of the backgrounds")
    three.add_argument("--clips", type=int, default=160)
    three.add_argument("--seed", type=int, default=50_000)
    args = parser.parse_args()
    if args.command == "check":
        check(args.prompts, args.clips, args.out)
    elif args.command == "measure":
        measure(args.clips, args.seed)
    elif not validate(
        args.clips, args.seed, args.split, args.workers, print if args.mistakes else None
    ):
        sys.exit("[checker] an attribute is under 97 %")


if __name__ == "__main__":
    main()
