#!/usr/bin/env bash
# run_baseline.sh BUILD_DIR: runs quick unit tests on an emulated x86-64 CPU without AVX, so that no
# instruction a plain CPU lacks is reached outside the dispatch tables.
set -euo pipefail
build=${1:?run_baseline.sh: need a build directory}
time_limit_s=120

# run_one TEST_BINARY GTEST_FILTER
run_one() {
  local binary
  binary=$(find "$build/src" -type f -name "$1" -perm -u+x)
  if [ -z "$binary" ]; then echo "run_baseline: no $1 under $build" >&2; return 1; fi
  local output
  output=$(OMP_NUM_THREADS=1 timeout "$time_limit_s" qemu-x86_64 -cpu Nehalem "$binary" \
    --gtest_filter="$2" 2>&1) || { echo "$output"; return 1; }
  grep -E '^\[==========\] [1-9][0-9]* tests? .* ran' <<<"$output" ||
    { echo "run_baseline: $1 ran no test" >&2; return 1; }
}

run_one base_test '*'
run_one tensor_test '*'
run_one monarch_test '*IsDense*/portable:*Constant*/portable:Monarch.*'
run_one dense_test '*Golden*/portable:Dense.*'
