#!/usr/bin/env bash
# run_clang_tidy.sh BUILD_DIR [PATTERN]: runs the checks of .clang-tidy on the library and the
# binary, or on the targets whose name matches PATTERN (such as mrt_media). BUILD_DIR must be
# configured with CMAKE_UNITY_BUILD, as the preset asan is: the sources of a folder are read as one,
# in a third of the time (docs/perf-log.md).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?run_clang_tidy.sh: need a build directory}
database=$build/clang_tidy
mkdir -p "$database"
# Tests are not checked, and a source that is compiled once per instruction set is read once.
python3 - "$build/compile_commands.json" "$database/compile_commands.json" "${2:-}" <<'EOT' \
  >"$database/files"
import json, re, sys
kept = []
for command in json.load(open(sys.argv[1])):
    target = re.search(r"CMakeFiles/(\w+)\.dir/Unity/", command["file"])
    left_out = r"_(test|test_headers|probe|fuzzer|portable|avx2)$|_fuzz_"
    if (target and not re.search(left_out, target[1]) and re.search(sys.argv[3], target[1])):
        kept.append(command)
        print(command["file"])
json.dump(kept, open(sys.argv[2], "w"))
EOT
if [ ! -s "$database/files" ]; then
  echo "run_clang_tidy: nothing to read in $build" >&2
  exit 1
fi
xargs -n1 -P"$(nproc)" clang-tidy-14 -p "$database" --quiet \
  --extra-arg=-Wno-unknown-warning-option <"$database/files" 2>&1 |
  { grep -vE '^[0-9]+ warnings? generated\.$|^Suppressed |^Use -header-filter' || true; }
echo "run_clang_tidy: $(wc -l <"$database/files") folders"
