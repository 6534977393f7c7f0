#!/usr/bin/env bash
# fuzz.sh [--seconds N | --runs N | --merge] [TARGET...]: builds and runs the libFuzzer targets of
# tests/fuzz, as many at a time as there are cores, each for N seconds (60) or N executions.
# Without names: all of them. New inputs go to build/asan/fuzz/corpus/TARGET, failing ones are
# build/asan/fuzz/TARGET-*. --merge runs nothing: it adds the inputs that reach new code to the
# seeds in tests/fuzz/corpus/TARGET.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0"; }

export limit=-max_total_time=60 action=run_target
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) limit=-max_total_time=${2:?--seconds needs a number}; shift ;;
    --runs) limit=-runs=${2:?--runs needs a number}; shift ;;
    --merge) action=merge_target ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "fuzz.sh: got $1" >&2; usage >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
if [ ${#targets[@]} -eq 0 ]; then
  mapfile -t targets < <(cd tests/fuzz && ls -- *_fuzzer.cc | sed 's/_fuzzer\.cc$//')
fi

scripts/build.sh asan fuzzers || exit 1

# call NAME ARGUMENT...: the target's binary; its output goes to a file, and here if it fails.
call() {
  local name=$1 log=build/asan/fuzz/$1.log binary=build/asan/tests/fuzz/$1_fuzzer
  shift
  if [ ! -x "$binary" ]; then echo "fuzz: no target $name" >&2; return 1; fi
  mkdir -p "build/asan/fuzz/corpus/$name"
  if ! OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1 "$binary" "$@" >"$log" 2>&1 </dev/null
  then
    tail -60 "$log"
    echo "FAILED  $name: the input is named above; run $binary with it"
    return 1
  fi
}

run_target() {
  local name=$1 arguments
  # An input has at most 16 KiB: what asks for 16 MiB at once, or for a minute, is out of
  # proportion. The sanitizer itself holds half a GiB or more. Not less than a minute: on a busy
  # machine a harmless input has waited 12 seconds for its turn.
  arguments=("$limit" -max_len=16384 -malloc_limit_mb=16 -rss_limit_mb=2048 -timeout=60)
  arguments+=(-print_final_stats=1 "-artifact_prefix=build/asan/fuzz/$name-")
  if [ -f "tests/fuzz/$name.dict" ]; then arguments+=("-dict=tests/fuzz/$name.dict"); fi
  call "$name" "${arguments[@]}" "build/asan/fuzz/corpus/$name" "tests/fuzz/corpus/$name" ||
    return 1
  awk -v name="$name" '
    $2 == "DONE" { for (i = 3; i < NF; ++i) { if ($i == "cov:") cov = $(i + 1)
                                              if ($i == "corp:") corpus = $(i + 1) } }
    /number_of_executed_units/ { runs = $2 }
    /average_exec_per_sec/ { rate = $2 }
    /peak_rss_mb/ { rss = $2 }
    END { printf "ok      %s: %d executions, %d/s, coverage %d, corpus %s, peak %d MiB\n",
                 name, runs, rate, cov, corpus, rss }' "build/asan/fuzz/$name.log"
}

merge_target() {
  local name=$1
  # Small ones, and as few as reach all code; how often it runs does not count.
  call "$name" -set_cover_merge=1 -use_counters=0 -max_len=1024 \
    "tests/fuzz/corpus/$name" "build/asan/fuzz/corpus/$name" || return 1
  echo "ok      $name: $(find "tests/fuzz/corpus/$name" -type f | wc -l) seeds"
}

export -f call run_target merge_target
printf '%s\0' "${targets[@]}" | xargs -0 -n1 -P"$(nproc)" bash -c '"$action" "$0"'
