#!/usr/bin/env bash
# build.sh PRESET [TARGET...]: configures build/PRESET if that was not done, then builds the
# targets; without a name those of the preset. PRESET is one of CMakePresets.json: cpu, cuda and
# asan build all, tsan the tests with threads. MRT_WERROR=ON: warnings are errors. MRT_UNITY=ON: the
# sources of a folder are compiled as one, in half the time (asan and tsan always do). MRT_PCH=ON:
# the libraries of tests are read once; ccache then does not know what was compiled before.
# MRT_CUBLAS_ROOT=DIR: for cuda, a folder with include/ and lib/ of a cuBLAS not in the toolkit.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  echo "build.sh: got no preset, need cpu, cuda, asan or tsan" >&2
  exit 2
fi
preset=$1
shift

configure=()
if [ -n "${MRT_WERROR:-}" ]; then configure+=("-DMRT_WERROR=$MRT_WERROR"); fi
if [ -n "${MRT_UNITY:-}" ]; then
  configure+=("-DCMAKE_UNITY_BUILD=$MRT_UNITY" -DCMAKE_UNITY_BUILD_BATCH_SIZE=0)
fi
if [ "$preset" = cuda ] && [ -n "${MRT_CUBLAS_ROOT:-}" ]; then
  configure+=("-DMRT_CUBLAS_ROOT=$MRT_CUBLAS_ROOT")
fi
if [ -n "${MRT_PCH:-}" ]; then configure+=("-DMRT_PCH=$MRT_PCH"); fi
if [ ! -f "build/$preset/build.ninja" ] || [ ${#configure[@]} -gt 0 ]; then
  # CMake reads this variable the first time it configures a directory.
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  cmake --preset "$preset" "${configure[@]}" -Wno-dev --log-level=WARNING
fi
cmake --build --preset "$preset" ${1:+--target "$@"}
