#!/usr/bin/env bash
# check_headers.sh: compiles every header on its own, so that each includes what it uses.
# Public headers see include/ only.
set -euo pipefail
cd "$(dirname "$0")/.."

check_one() {
  local header=$1 includes=(-Iinclude)
  if [[ $header != include/* ]]; then includes+=(-Isrc -I.); fi
  # MRT_ISA is what mrt_isa_variants() defines for sources that are compiled once per ISA.
  g++ -std=c++20 -fsyntax-only -fopenmp -Wall -Wextra -Werror -Wno-missing-field-initializers \
    -DMRT_ISA=portable "${includes[@]}" -x c++ -include "$header" /dev/null ||
    { echo "$header: does not compile alone" >&2; return 1; }
}
export -f check_one

mapfile -t headers < <(find include src testing -name '*.h' | sort)
if [ ${#headers[@]} -eq 0 ]; then echo "check_headers: no headers found" >&2; exit 1; fi
printf '%s\0' "${headers[@]}" | xargs -0 -n1 -P"$(nproc)" bash -c 'check_one "$0"'
echo "check_headers: ${#headers[@]} headers compile alone"
