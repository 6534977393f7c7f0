#!/usr/bin/env bash
# build.sh PRESET [TARGET...]: configures build/PRESET if that was not done, then builds the targets
# (all of them without a name). PRESET is one of CMakePresets.json: cpu, asan.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  echo "build.sh: got no preset, need cpu or asan" >&2
  exit 2
fi
preset=$1
shift

configure=()
if [ -n "${MRT_WERROR:-}" ]; then configure+=("-DMRT_WERROR=$MRT_WERROR"); fi
if [ ! -f "build/$preset/build.ninja" ] || [ ${#configure[@]} -gt 0 ]; then
  # CMake reads this variable the first time it configures a directory.
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  cmake --preset "$preset" "${configure[@]}" -Wno-dev --log-level=WARNING
fi
cmake --build --preset "$preset" ${1:+--target "$@"}
