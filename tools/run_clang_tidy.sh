#!/usr/bin/env bash
# run_clang_tidy.sh BUILD_DIR [PATTERN]: runs the checks of .clang-tidy on the library and the
# binary, or on the targets whose name matches PATTERN (such as mrt_media). BUILD_DIR must be
# configured with CMAKE_UNITY_BUILD, as the preset asan is. The sources of a target are read as one,
# and so are those of the targets of a group below: most of the time goes into the headers of
# libraries (docs/perf-log.md). Within a group no two files may use one file-local name for two
# things: the target of one of them is then taken out of the group.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?run_clang_tidy.sh: need a build directory}
database=$build/clang_tidy
rm -rf "$database"
mkdir -p "$database"
# Tests are not checked, and a source that is compiled once per instruction set is read once.
python3 - "$build/compile_commands.json" "$database" "${2:-}" <<'EOT'
import json, os, re, sys

GROUPS = [
    "mrt_base mrt_tensor mrt_tokenizer mrt_umt5 mrt_vae mrt_c_api mrt_inspect mrt_convert "
    "mrt_media mrt_progress mrt_chunk_queue mrt_app_parts",
    "mrt_kernels_dense mrt_ops mrt_wan mrt_taehv mrt_attention mrt_pipeline mrt_verify monarchrt",
]
LEFT_OUT = re.compile(r"_(test|test_headers|probe|fuzzer|portable|avx2)$|_fuzz_")

commands = {}  # name of what is read as one -> its commands
for command in json.load(open(sys.argv[1])):
    target = re.search(r"CMakeFiles/(\w+)\.dir/Unity/", command["file"])
    if target and not LEFT_OUT.search(target[1]) and re.search(sys.argv[3], target[1]):
        group = next((f"group_{i}" for i, names in enumerate(GROUPS) if target[1] in names.split()),
                     target[1])
        commands.setdefault(group, []).append(command)

database = os.path.abspath(sys.argv[2])
entries = []
for name, members in commands.items():
    file = f"{database}/{name}.cc"
    with open(file, "w") as out:
        out.writelines(f'#include "{member["file"]}"\n' for member in members)
    # The flags of all: include directories and definitions add up.
    flags = dict.fromkeys(
        flag for member in members
        for flag in re.findall(r"(?:-isystem )?\S+", member["command"].split(" -o ")[0]))
    flags = [flag for flag in flags if not flag.endswith(("ccache", "clang++-14"))]
    entries.append({"directory": members[0]["directory"], "file": file,
                    "command": " ".join(["clang++-14", *flags, "-c", file])})
json.dump(entries, open(f"{database}/compile_commands.json", "w"))
open(f"{database}/files", "w").writelines(entry["file"] + "\n" for entry in entries)
EOT
if [ ! -s "$database/files" ]; then
  echo "run_clang_tidy: nothing to read in $build" >&2
  exit 1
fi
xargs -n1 -P"$(nproc)" clang-tidy-14 -p "$database" --quiet \
  --extra-arg=-Wno-unknown-warning-option <"$database/files" 2>&1 |
  { grep -vE '^[0-9]+ warnings? generated\.$|^Suppressed |^Use -header-filter' || true; }
echo "run_clang_tidy: $(wc -l <"$database/files") groups and folders"
