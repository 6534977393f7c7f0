#!/usr/bin/env bash
# run_baseline.sh BUILD_DIR: runs quick unit tests on an emulated x86-64 CPU without AVX, so that no
# instruction a plain CPU lacks is reached outside the dispatch tables.
set -euo pipefail
export build=${1:?run_baseline.sh: need a build directory}
export limit_s=300  # a test takes seconds; emulation hangs rather than fails on some faults

# TEST_BINARY GTEST_FILTER, a line each. Kernels: the rows such a CPU can run, without the golden
# files, which take most of the time and reach no other instruction; nor do the tests of a made-up
# device, whose reserved memory the emulator handles page by page, or those that only take long.
tests="monarch_test *portable*-*GoldenFiles*
dense_test *portable*-*GoldenFiles*
rowwise_test *portable*
sparse_test *portable*-*MatchesTheMask*
ops_test *-Device*
tokenizer_test *-*SurvivesDamage:*TakesLinearTime
tensor_test *
base_test *"

run_one() {
  local binary output
  binary=$(find "$build" -type f -name "$1" -perm -u+x)
  if [ -z "$binary" ]; then echo "run_baseline: no $1 under $build"; return 1; fi
  output=$(OMP_NUM_THREADS=1 timeout "$limit_s" qemu-x86_64 -cpu Nehalem "$binary" \
    --gtest_filter="$2" 2>&1) || { echo "$output"; echo "run_baseline: $1 failed"; return 1; }
  grep -E '^\[  PASSED  \] [1-9]' <<<"$output" | sed "s/.*]/$1:/" ||
    { echo "run_baseline: $1 ran no test"; return 1; }
}
export -f run_one
xargs -d '\n' -n1 -P"$(nproc)" bash -fo pipefail -c 'run_one $0' <<<"$tests"
