#!/usr/bin/env bash
# test.sh: installs what is missing, then runs the checks and all tests under the presets cpu and
# asan.
#   --preset NAME   only the tests of this preset (cpu, asan or tsan); may be repeated
#   --checks        only the checks
#   --ci            everything, with warnings as errors and the checks that need more tools:
#                   format, clang-tidy, a run on an emulated CPU without AVX, valgrind,
#                   ThreadSanitizer, the fuzz targets (docs/hardening.md) and the tests of python/
#                   (scripts/test_python.sh)
# The last line counts tests and checks: "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }

presets=()
only_checks=no
ci=no
while [ $# -gt 0 ]; do
  case $1 in
    --preset) presets+=("${2:?--preset needs cpu, asan or tsan}"); shift ;;
    --checks) only_checks=yes ;;
    --ci) ci=yes ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test.sh: got $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
checks=yes
if [ ${#presets[@]} -gt 0 ]; then checks=no; fi
if [ $only_checks = yes ]; then
  if [ $checks = no ] || [ $ci = yes ]; then
    echo "test.sh: --checks goes with neither --preset nor --ci" >&2
    exit 2
  fi
elif [ $checks = yes ]; then
  presets=(cpu asan)
  if [ $ci = yes ]; then presets+=(tsan); fi
fi

passed=0 failed=0 skipped=0
# run NAME COMMAND...: one check, counted; returns whether it passed.
run() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok      $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED  $name ($((SECONDS - start)) s)"
    return 1
  fi
}

# begin COMMAND...: starts the one check that runs beside others. collect NAME: waits for it, prints
# what it said, and counts it.
begin() {
  beside_log=$(mktemp)
  set -m # a process group of its own, so that all of it can be ended
  timed "$@" >"$beside_log" 2>&1 </dev/null &
  beside=$!
  set +m
  trap 'kill -- "-$beside" 2>/dev/null; rm -f "$beside_log"' EXIT
}
timed() {
  local start=$SECONDS status
  "$@"
  status=$?
  echo "took $((SECONDS - start)) s, beside other checks"
  return $status
}
result_of_begun() {
  local status
  wait "$beside"
  status=$?
  cat "$beside_log"
  return $status
}
collect() { run "$1" result_of_begun; }

# fuzz: a minute for what reads whole files and calls, less for what these contain too. On a machine
# that was slow so far a third of it: all checks should take no more than 25 minutes.
fuzz() {
  local long=(c_api model_configs pt safetensors spiece_model) rest status=0 long_s=60 rest_s=20
  if [ $SECONDS -gt 1080 ]; then long_s=20 rest_s=7; fi
  mapfile -t rest < <(cd tests/fuzz && ls -- *_fuzzer.cc | sed 's/_fuzzer\.cc$//' |
    grep -vxF "$(printf '%s\n' "${long[@]}")")
  scripts/fuzz.sh --seconds $long_s "${long[@]}" || status=1
  scripts/fuzz.sh --seconds $rest_s "${rest[@]}" || status=1
  return $status
}

# attribute FILE NAME: a count in the head of ctest's report.
attribute() { sed -n "s/^[[:space:]]*$2=\"\([0-9]*\)\".*/\1/p" "$1" | head -1; }

# run_tests PRESET [CTEST ARGUMENT...]: counts every test.
run_tests() {
  local preset=$1 report=$PWD/build/$1/ctest.xml start=$SECONDS all bad missing
  shift
  rm -f "$report"
  # Tests share the cores: waiting threads must sleep, not spin.
  OMP_WAIT_POLICY=passive UBSAN_OPTIONS=print_stacktrace=1 ctest --preset "$preset" \
    --parallel "$(nproc)" --no-tests=error --output-junit "$report" "$@" |
    grep -vE '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ Test .* Passed )'
  if [ ! -f "$report" ]; then
    failed=$((failed + 1))
    echo "FAILED  tests of $preset: no report"
    return
  fi
  all=$(attribute "$report" tests) bad=$(attribute "$report" failures)
  missing=$(($(attribute "$report" skipped) + $(attribute "$report" disabled)))
  passed=$((passed + all - bad - missing)) failed=$((failed + bad)) skipped=$((skipped + missing))
  echo "tests of $preset: $((SECONDS - start)) s"
}

if [ $ci = yes ]; then export MRT_WERROR=ON MRT_UNITY=ON; fi
dev=()
if [ $ci = yes ] || [[ " ${presets[*]} " == *san\ * ]]; then dev=(--dev); fi
scripts/install_deps.sh "${dev[@]}" || exit 1

if [ $checks = yes ]; then
  run "the layer check finds planted violations" python3 tools/check_layers_test.py --quiet
  run "the GPU report reads what programs say" python3 tools/gpu_report_test.py --quiet
  run "layers, sizes and libraries" python3 tools/check_layers.py
  run "headers compile alone" tools/check_headers.sh
  if command -v clang-format-14 >/dev/null; then
    run "format" tools/check_format.sh
  else
    skipped=$((skipped + 1))
    echo "skipped format: clang-format-14 is missing (scripts/install_deps.sh --dev)"
  fi
fi

for preset in "${presets[@]}"; do
  # Only with clang do precompiled headers save time.
  pch=
  if [ $ci = yes ] && [ "$preset" != cpu ]; then pch=ON; fi
  if run "build of $preset" env MRT_PCH=$pch scripts/build.sh "$preset"; then
    run_tests "$preset"
  fi
done

if [ $ci = yes ]; then
  # A target takes its time whatever else runs: it does so beside checks that do not always use all
  # cores.
  begin fuzz
  run "no weak symbols in files for one instruction set" tools/check_weak_symbols.sh build/cpu
  run "baseline CPU (no AVX)" tools/run_baseline.sh build/cpu
  run "valgrind" tools/run_valgrind.sh build/cpu
  run "clang-tidy" tools/run_clang_tidy.sh build/asan
  run "python" scripts/test_python.sh
  if command -v nvcc >/dev/null; then
    run "CUDA kernels compile" tools/check_cuda.sh
  else
    skipped=$((skipped + 1))
    echo "skipped CUDA kernels compile: no nvcc"
  fi
  collect "fuzz targets"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
