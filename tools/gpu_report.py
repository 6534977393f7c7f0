#!/usr/bin/env python3
"""What scripts/gpu_report.sh runs: steps with a time limit each, for one JSON and one .md file.

A step is a command whose output is parsed into a result; a result that is not ok fails the report.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# What one H200 is meant to reach (docs/perf-log.md).
MONARCH_MS_MAX = 0.45
DENSE_RATIO_MIN = 3.5
TRANSFORMER_CHUNK_MS_MAX = 200
FIRST_FRAME_S_MAX = 0.25
FPS_MIN = {"wan": 30, "taehv": 46}
PEAK_720P_BYTES_MAX = 32e9

TESTS = ("src/kernels/dense/dense_cuda_test", "src/kernels/conv/conv_cuda_test",
         "src/kernels/monarch/monarch_cuda_test", "src/ops/ops_cuda_test",
         "src/model/umt5/umt5_cuda_test", "src/pipeline/pipeline_cuda_test")


class Runner:
    """Runs commands until the budget is used up."""

    def __init__(self, budget_s, libraries):
        self.end = time.monotonic() + budget_s
        self.ours = dict(os.environ)
        if libraries:
            self.ours["LD_LIBRARY_PATH"] = libraries

    def run(self, command, limit_s, ours=True):
        """(exit code, seconds, standard output, standard error); the code is None if it was left
        out or ran out of time."""
        left = min(limit_s, self.end - time.monotonic())
        if left < 5:
            return None, 0, "", "left out: no time"
        begin = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left,
                                  check=False, env=self.ours if ours else None)
        except FileNotFoundError as error:
            return 127, 0, "", str(error)
        except subprocess.TimeoutExpired as error:
            output = [part.decode(errors="replace") if isinstance(part, bytes) else part or ""
                      for part in (error.stdout, error.stderr)]
            return None, left, output[0], output[1] + f"\nstopped after {left:.0f} s"
        return done.returncode, time.monotonic() - begin, done.stdout, done.stderr


def program(build, path):
    """Where it lies: in a build folder, or in a folder that holds the programs alone."""
    places = (build / path, build / "bin" / Path(path).name, build / Path(path).name)
    return str(next((place for place in places if place.is_file()), places[0]))


def gpu_index():
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def tail(text, lines=25):
    return "\n".join(text.strip().splitlines()[-lines:])


def last_json(text):
    """The object that the output ends with, or None."""
    for begin in (i for i, c in enumerate(text) if c == "{"):
        try:
            return json.loads(text[begin:])
        except json.JSONDecodeError:
            continue
    return None


def run_tests(runner, build):
    """The binaries that `ctest -L gpu` would run, each in one process."""
    for name in TESTS:
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            code, seconds, out, err = runner.run(
                [program(build, name), f"--gtest_output=json:{report.name}"], 150)
            text = Path(report.name).read_text(encoding="utf-8")
        result = {"step": "tests", "name": Path(name).name, "seconds": round(seconds, 1),
                  "exit": code, "ok": False}
        if text:
            suites = json.loads(text)["testsuites"]
            cases = [case for suite in suites for case in suite["testsuite"]]
            skipped = [c for c in cases if c.get("result") == "SKIPPED"]
            failed = [c for c in cases if c.get("failures")]
            result.update(tests=len(cases), skipped=len(skipped), ok=code == 0 and not skipped,
                          failed=[{"test": f"{c['classname']}.{c['name']}",
                                   "message": tail(c["failures"][0]["failure"], 12)}
                                  for c in failed])
        if not result["ok"]:
            result["output"] = tail(out + err)
        yield result


def run_verify(runner, build, dtype="bf16"):
    """Golden rollouts and autoencoders."""
    for folder in ("wan_dit", "wan_vae", "taehv", "toy_wan"):
        command = [program(build, "apps/monarchrt"), "verify", f"tests/golden/{folder}", "--device",
                   "cuda", "--dtype", dtype]
        code, seconds, out, err = runner.run(command, 60)
        yield {"step": "verify", "name": folder, "command": " ".join(command),
               "seconds": round(seconds, 1), "exit": code, "ok": code == 0,
               "output": tail(out + err, 40)}


def run_attention(runner, build):
    """The Monarch kernel beside PyTorch's dense attention, in one run."""
    for shape in ("480p", "720p_f_tied3"):
        bench = program(build, "src/kernels/monarch/monarch_cuda_bench")
        command = [bench, "--shape", shape]
        if shape == "480p":
            command = [sys.executable, "bench/gpu_attention.py", "--bench", bench]
        code, seconds, out, err = runner.run(command, 90, ours=shape != "480p")
        rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        result = {"step": "attention", "name": shape, "seconds": round(seconds, 1), "exit": code,
                  "rows": rows, "ok": code == 0 and bool(rows)}
        if not result["ok"]:
            result["output"] = tail(out + err)
        yield result


class GpuMemory:
    """The most memory of the GPU that nvidia-smi sees in use while this is open."""

    def __enter__(self):
        self.most_bytes = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        command = ["nvidia-smi", "-i", gpu_index(), "--query-gpu=memory.used",
                   "--format=csv,noheader,nounits"]
        while not self.done.wait(0.5):
            try:
                out = subprocess.run(command, capture_output=True, text=True, check=True,
                                     timeout=10).stdout
            except (OSError, subprocess.SubprocessError):
                return
            self.most_bytes = max(self.most_bytes or 0, int(out.split()[0]) << 20)


GENERATIONS = (
    # name, autoencoder, size, video frames, seconds at most, more flags
    ("480p wan", "wan", "832x480", 81, 120, ()),
    ("480p taehv", "taehv", "832x480", 81, 90, ()),
    # Nothing beside the transformer: its own time.
    ("480p alone", "taehv", "832x480", 81, 90, ("--overlap", "off")),
    ("720p wan", "wan", "1280x720", 81, 120, ("--text-device", "cpu")),
)


def run_generation(runner, build):
    """Random weights of Wan 2.1 1.3B, text to encoded video."""
    for name, vae, size, frames, limit_s, flags in GENERATIONS:
        command = [program(build, "apps/monarchrt"), "bench", "generate", "--synthetic",
                   "wan2.1-1.3b", "--device", "cuda", "--vae", vae, "--size", size, "--frames",
                   str(frames), "--json", *flags]
        with GpuMemory() as memory:
            code, seconds, out, err = runner.run(command, limit_s)
        stats = last_json(out)
        result = {"step": "generation", "name": name, "vae": vae, "command": " ".join(command),
                  "seconds": round(seconds, 1), "exit": code, "stats": stats,
                  "gpu_memory_bytes": memory.most_bytes,
                  "ok": code == 0 and stats is not None}
        if not result["ok"]:
            result["output"] = tail(out + err)
        yield result


STEPS = {"tests": run_tests, "verify": run_verify, "attention": run_attention,
         "generation": run_generation}


def machine():
    query = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,memory.total"
    facts = {}
    for key, command in {
            "gpu": ["nvidia-smi", "-i", gpu_index(), f"--query-gpu={query}",
                    "--format=csv,noheader"],
            "commit": ["git", "rev-parse", "--short=12", "HEAD"]}.items():
        try:
            facts[key] = subprocess.run(command, capture_output=True, text=True, check=True,
                                        timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            facts[key] = f"unknown ({type(error).__name__})"
    facts["gpu_fields"] = query
    facts["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return facts


def against(what, got, need, most):
    """A row of the table of targets; got is None if it was not measured."""
    reached = None if got is None else (got <= need if most else got >= need)
    return {"what": what, "got": got, "need": ("<= " if most else ">= ") + f"{need:g}",
            "reached": reached}


def targets(results):
    rows = []
    attention = {r["name"]: r["rows"] for r in results if r["step"] == "attention"}
    cold = {row["impl"]: row["ms_median"] for row in attention.get("480p", [])
            if row.get("l2") == "cold"}
    monarch = cold.pop("cuda", None)
    rows.append(against("Monarch, 480p, ms", monarch, MONARCH_MS_MAX, most=True))
    ratio = round(min(cold.values()) / monarch, 2) if monarch and cold else None
    rows.append(against("fastest dense of PyTorch / Monarch", ratio, DENSE_RATIO_MIN, most=False))
    runs = {r["name"]: r["stats"] for r in results if r["step"] == "generation" and r["stats"]}
    for vae, need in FPS_MIN.items():
        stats = runs.get(f"480p {vae}", {})
        rows.append(against(f"480p, {vae}, frames/s end to end", stats.get("fps_end_to_end"), need,
                            most=False))
    stats = runs.get("480p wan", {})
    alone = runs.get("480p alone", {})
    rows.append(against("transformer, ms a chunk (95th percentile)",
                        alone.get("chunk_ms", {}).get("transformer_p95"), TRANSFORMER_CHUNK_MS_MAX,
                        most=True))
    rows.append(against("first frames, s", stats.get("first_frame_s"), FIRST_FRAME_S_MAX,
                        most=True))
    peak = next((r["gpu_memory_bytes"] for r in results if r["name"] == "720p wan"), None)
    rows.append(against("720p, bytes of the GPU", peak, PEAK_720P_BYTES_MAX, most=True))
    return rows


def markdown(report):
    facts = report["machine"]
    lines = ["# GPU report", "", f"{facts['gpu']} ({facts['gpu_fields']}), commit "
             f"{facts['commit']}, {facts['time']}, {report['seconds']:.0f} s.", "",
             "| target | got | need | |", "|---|---|---|---|"]
    words = {None: "not measured", True: "reached", False: "missed"}
    lines += [f"| {t['what']} | {t['got']} | {t['need']} | {words[t['reached']]} |"
              for t in report["targets"]]
    lines += ["", "| step | | s | |", "|---|---|---|---|"]
    for r in report["results"]:
        told = "ok" if r["ok"] else "FAILED" if r["exit"] is not None else "left out or stopped"
        if "tests" in r:
            told += f", {r['tests']} tests, {len(r['failed'])} failed, {r['skipped']} skipped"
        lines.append(f"| {r['step']} | {r['name']} | {r['seconds']} | {told} |")
    for r in report["results"]:
        for failure in r.get("failed", []):
            lines += ["", f"{r['name']}: `{failure['test']}`", "```", failure["message"], "```"]
        if not r["ok"] and r.get("output") and not r.get("failed"):
            lines += ["", f"{r['step']} {r['name']}:", "```", r["output"], "```"]
    for r in report["results"]:
        for row in r.get("rows") or []:
            lines += [] if row is not r["rows"][0] else ["", f"## attention {r['name']}", ""]
            lines.append(f"    {json.dumps(row)}")
        if r.get("stats"):
            lines += ["", f"## {r['name']}", "", f"`{r['command']}`", "",
                      f"{r['seconds']} s from start to end, at most {r['gpu_memory_bytes']} bytes "
                      "of the GPU.", "", "```json", json.dumps(r["stats"], indent=1), "```"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/cuda"))
    parser.add_argument("--out", default="gpu_report", help="path without .json and .md")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, with commas between them")
    parser.add_argument("--budget", type=float, default=470, metavar="SECONDS")
    parser.add_argument("--libraries", default="", help="LD_LIBRARY_PATH of our programs")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in STEPS]:
        parser.error(f"got step {unknown[0]}, need {', '.join(STEPS)}")
    begin = time.monotonic()
    runner = Runner(arguments.budget, arguments.libraries)
    report = {"machine": machine(), "results": []}
    for name in names:
        for result in STEPS[name](runner, arguments.build):
            report["results"].append(result)
            print(f"{result['step']} {result['name']}: {'ok' if result['ok'] else 'NOT OK'}, "
                  f"{result['seconds']} s", flush=True)
            # After every result: a report that is cut short still says what it has.
            report["seconds"] = time.monotonic() - begin
            report["targets"] = targets(report["results"])
            Path(arguments.out + ".json").write_text(json.dumps(report, indent=1) + "\n",
                                                     encoding="utf-8")
            Path(arguments.out + ".md").write_text(markdown(report), encoding="utf-8")
    return 0 if all(result["ok"] for result in report["results"]) else 1


if __name__ == "__main__":
    sys.exit(main())
