#!/usr/bin/env bash
# gpu_report.sh [--build DIR] [--out NAME] [--only STEP,...] [--budget SECONDS] [--libraries DIRS]
# On a machine with an NVIDIA GPU: what the build in DIR (build/cuda) computes and how fast. Steps:
# tests (with the label gpu), verify (golden data, --device cuda), attention (beside PyTorch's),
# generation. Leaves NAME.json and NAME.md (gpu_report), also if a step fails; then the exit code is
# 1. Builds nothing. What finds no time left in the budget (470 s) is left out, and named.
# --libraries: LD_LIBRARY_PATH of our programs, not of PyTorch. DIR may also be a folder with the
# programs alone, or with them in bin/. Needs Python 3.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 tools/gpu_report.py "$@"
