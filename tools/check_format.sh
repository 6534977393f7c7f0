#!/usr/bin/env bash
# check_format.sh [--fix]: says which C++ files differ from .clang-format; --fix rewrites them.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(find include src apps testing tests bench examples \
  \( -name '*.h' -o -name '*.cc' -o -name '*.c' -o -name '*.cu' -o -name '*.cuh' \) \
  2>/dev/null | sort)
if [ ${#files[@]} -eq 0 ]; then echo "check_format: no files found" >&2; exit 1; fi
if [ "${1:-}" = --fix ]; then
  clang-format-14 -i "${files[@]}"
else
  clang-format-14 --dry-run --Werror "${files[@]}"
fi
echo "check_format: ${#files[@]} files"
