#!/usr/bin/env bash
# run_clang_tidy.sh BUILD_DIR [FILE...]: runs the checks of .clang-tidy on all library and app
# sources, or on the given ones. BUILD_DIR must be configured (it has compile_commands.json).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?run_clang_tidy.sh: need a build directory}
shift
if [ $# -gt 0 ]; then
  files=("$@")
else
  # clang 14 does not know "x86-64-v3" in __builtin_cpu_supports, so it cannot read cpu_features.cc.
  mapfile -t files < <(find src apps -name '*.cc' ! -name '*_test.cc' ! -name '*_bench.cc' \
    ! -name cpu_features.cc 2>/dev/null | sort)
fi
printf '%s\0' "${files[@]}" | xargs -0 -n1 -P"$(nproc)" clang-tidy-14 -p "$build" --quiet 2>&1 |
  { grep -vE '^[0-9]+ warnings? generated\.$|^Suppressed |^Use -header-filter' || true; }
echo "run_clang_tidy: ${#files[@]} files"
