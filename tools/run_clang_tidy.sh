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
# A source that is compiled once per instruction set is read once.
database=$build/clang_tidy
mkdir -p "$database"
python3 - "$build/compile_commands.json" "$database/compile_commands.json" <<'EOT'
import json, sys
commands = {command["file"]: command for command in json.load(open(sys.argv[1]))}
json.dump(list(commands.values()), open(sys.argv[2], "w"))
EOT
printf '%s\0' "${files[@]}" | xargs -0 -n1 -P"$(nproc)" clang-tidy-14 -p "$database" --quiet \
  --extra-arg=-Wno-unknown-warning-option 2>&1 |
  { grep -vE '^[0-9]+ warnings? generated\.$|^Suppressed |^Use -header-filter' || true; }
echo "run_clang_tidy: ${#files[@]} files"
