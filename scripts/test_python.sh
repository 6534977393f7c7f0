#!/usr/bin/env bash
# test_python.sh: the checks and tests of python/, in a virtual environment under build/. Needs the
# binary of the preset cpu, against which exported models are compared.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x build/cpu/apps/monarchrt ]; then
  echo "test_python.sh: no binary of the preset cpu, run: scripts/build.sh cpu monarchrt" >&2
  exit 1
fi
venv=build/venv
if [ ! -x "$venv/bin/pytest" ]; then
  python3 -m venv "$venv"
  # The release that all figures of the documents are from; its CPU build is enough.
  "$venv/bin/pip" install --quiet --no-compile torch==2.13.0
  "$venv/bin/pip" install --quiet --no-compile "./python[train,eval,dev]"
fi
cd python
../"$venv/bin/ruff" format --check --quiet .
../"$venv/bin/ruff" check --quiet .
MONARCHRT=$PWD/../build/cpu/apps/monarchrt ../"$venv/bin/pytest"
