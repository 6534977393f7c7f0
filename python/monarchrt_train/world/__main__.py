"""Looks at the world: sheets, videos, prompts, speed. `python -m monarchrt_train.world --help`."""

import argparse
import shutil
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from monarchrt_train.world import caption, prompts, render, sample_scene, write_prompts
from monarchrt_train.world.captions import vocabulary
from monarchrt_train.world.scene import COUNTS, FRAMES_PER_S, SPLITS, Scene


def write_png(path: Path, image: np.ndarray) -> None:
    """uint8 [height, width, 3] as a PNG file."""
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = image.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def sheet(scenes: list[Scene], size: tuple[int, int], frames: int, columns: int) -> np.ndarray:
    """A row of `columns` frames for each scene, spread over the clip."""
    picked = np.linspace(0, frames - 1, columns).round().astype(int)
    rows = []
    for scene in scenes:
        video = render([scene], size, frames)[0, torch.from_numpy(picked)]
        images = np.pad(video.permute(0, 2, 3, 1).numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)))
        rows.append(np.concatenate(list(images), axis=1))
    return np.concatenate(rows, axis=0)


def write_video(path: Path, frames: np.ndarray) -> None:
    """uint8 [frames, height, width, 3]: raw RGB to *.rgb, PNG files into a folder, else ffmpeg."""
    if path.suffix == ".rgb":
        path.write_bytes(frames.tobytes())
    elif not path.suffix:
        path.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            write_png(path / f"{number:04d}.png", frame)
    elif shutil.which("ffmpeg"):
        _, height, width, _ = frames.shape
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        rate = ["-r", str(FRAMES_PER_S), "-i", "-", "-pix_fmt", "yuv420p", "-crf", "16"]
        command = ["ffmpeg", "-loglevel", "error", "-y", *source, *rate, str(path)]
        subprocess.run(command, input=frames.tobytes(), check=True)
    else:
        raise SystemExit(
            f"[world] {path} needs ffmpeg, which is not here; a folder or *.rgb does not"
        )


def benchmark(size: tuple[int, int], frames: int, device: str, clips: int) -> None:
    """Prints frames per second of sampling, captions and rendering together."""
    done_s = 0.0
    for turn in range(2):  # the first one warms up
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        scenes = [sample_scene(turn * clips + i) for i in range(clips)]
        for scene in scenes:
            caption(scene, 0)
        drawn_s = time.perf_counter() - start
        render(scenes, size, frames, device)
        if device != "cpu":
            torch.cuda.synchronize()
        done_s = time.perf_counter() - start
    rate = clips * frames / done_s
    print(
        f"{size[0]}x{size[1]}, {clips} clips of {frames} frames on {device}: {rate:.0f} frames/s "
        f"({done_s:.3f} s, of it scenes and captions {drawn_s:.3f} s)"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="monarchrt_train.world", description=__doc__)
    parser.add_argument("--sheet", type=Path, help="write an overview as PNG, a row for each clip")
    parser.add_argument("--video", type=Path, help="write a clip: *.rgb, a folder of PNG, *.mp4")
    parser.add_argument("--prompts", type=Path, help="write a set of prompts as JSONL and text")
    parser.add_argument("--words", action="store_true", help="print all words of captions")
    parser.add_argument("--benchmark", action="store_true", help="print frames per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--objects", type=int, choices=tuple(COUNTS), help="fix their number")
    parser.add_argument("--clips", type=int, default=8, help="clips of a sheet, prompts of a set")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", default="240x416", help="height x width")
    parser.add_argument("--columns", type=int, default=8, help="frames in a row of the sheet")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    height, width = (int(n) for n in args.size.split("x"))
    scenes = [sample_scene(args.seed + i, args.split, args.objects) for i in range(args.clips)]
    if args.sheet:
        write_png(args.sheet, sheet(scenes, (height, width), args.frames, args.columns))
    if args.video:
        video = render(scenes[:1], (height, width), args.frames)[0].permute(0, 2, 3, 1)
        write_video(args.video, video.contiguous().numpy())
    if args.sheet or args.video:
        for scene in scenes if args.sheet else scenes[:1]:
            print(f"{scene.seed}: {caption(scene, 0).text}")
    if args.prompts:
        write_prompts(args.prompts, prompts(args.split, args.clips, args.seed, args.objects))
    if args.words:
        print(" ".join(vocabulary()))
    if args.benchmark:
        benchmark((height, width), args.frames, args.device, args.clips)


if __name__ == "__main__":
    main()
