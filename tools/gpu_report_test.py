#!/usr/bin/env python3
"""Runs gpu_report.py on a build whose programs are shell scripts, and reads what it leaves."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import gpu_report

GTEST = {"testsuites": [{"testsuite": [
    {"classname": "Dense", "name": "Works", "result": "COMPLETED"},
    {"classname": "Dense", "name": "Fails", "result": "COMPLETED",
     "failures": [{"failure": "got 1, want 2"}]}]}]}
STATS = {"fps_end_to_end": 31.5, "first_frame_s": 0.2, "chunk_ms": {"transformer_p95": 210.0}}


class GpuReportTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = Path(folder.name)

    def program(self, path, script):
        file = self.build / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n" + script, encoding="utf-8")
        file.chmod(0o755)

    def report(self, *flags):
        """(exit code, the report, its text)."""
        out = self.build / "report"
        command = ["gpu_report.py", "--build", str(self.build), "--out", str(out), *flags]
        with mock.patch("sys.argv", command), contextlib.redirect_stdout(io.StringIO()):
            code = gpu_report.main()
        texts = [out.with_suffix(end).read_text(encoding="utf-8") for end in (".json", ".md")]
        return code, json.loads(texts[0]), texts[1]

    def test_a_failed_test_is_named_and_absent_programs_are_told(self):
        (self.build / "gtest.json").write_text(json.dumps(GTEST), encoding="utf-8")
        self.program("bin/dense_cuda_test",
                     f'cp {self.build}/gtest.json "${{1#--gtest_output=json:}}"; exit 1\n')
        code, report, text = self.report("--only", "tests")
        self.assertEqual(code, 1)
        first, second = report["results"][:2]
        self.assertEqual((first["tests"], first["skipped"], first["ok"]), (2, 0, False))
        self.assertEqual(first["failed"], [{"test": "Dense.Fails", "message": "got 1, want 2"}])
        self.assertEqual((second["name"], second["exit"]), ("conv_cuda_test", 127))
        self.assertIn("dense_cuda_test: `Dense.Fails`", text)

    def test_generations_are_set_against_the_targets(self):
        self.program("apps/monarchrt", f"echo log line; echo '{json.dumps(STATS)}'\n")
        code, report, text = self.report("--only", "generation")
        self.assertEqual(code, 0)
        reached = {row["what"]: row["reached"] for row in report["targets"]}
        self.assertEqual(reached["480p, wan, frames/s end to end"], True)
        self.assertEqual(reached["480p, taehv, frames/s end to end"], False)
        self.assertEqual(reached["transformer, ms a chunk (95th percentile)"], False)
        self.assertEqual(reached["first frames, s"], True)
        self.assertIsNone(reached["Monarch, 480p, ms"])
        self.assertIn("| first frames, s | 0.2 | <= 0.25 | reached |", text)

    def test_attention_is_set_against_the_fastest_dense(self):
        rows = [{"impl": "cuda", "l2": "cold", "ms_median": 0.5},
                {"impl": "a", "l2": "cold", "ms_median": 2.0},
                {"impl": "b", "l2": "cold", "ms_median": 1.75},
                {"impl": "b", "l2": "warm", "ms_median": 1.0}]
        results = [{"step": "attention", "name": "480p", "rows": rows}]
        got = {row["what"]: row["got"] for row in gpu_report.targets(results)}
        self.assertEqual(got["Monarch, 480p, ms"], 0.5)
        self.assertEqual(got["fastest dense of PyTorch / Monarch"], 3.5)

    def test_what_finds_no_time_is_left_out(self):
        self.program("apps/monarchrt", "exit 0\n")
        code, report, text = self.report("--only", "verify", "--budget", "1")
        self.assertEqual(code, 1)
        self.assertEqual([r["exit"] for r in report["results"]], [None] * 4)
        self.assertIn("left out or stopped", text)


if __name__ == "__main__":
    unittest.main()
