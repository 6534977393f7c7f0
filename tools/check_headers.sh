#!/usr/bin/env bash
# check_headers.sh: compiles headers on their own, so that each includes what it uses: the public
# ones, which see include/ only (those for C also as C99), and those beside which no source of the
# same name lies (tools/check_layers.py makes such a source include its header first). Not those
# that need CUDA: its own compiler sees them.
set -euo pipefail
cd "$(dirname "$0")/.."

check_one() {
  local header=$1 includes=(-Iinclude)
  if [[ $header != include/* ]]; then includes+=(-Isrc -I.); fi
  # What mrt_tile_objects() compiles its sources with.
  if [[ $header == */cpu/amx_*.h || $header == */cpu/dot_tiles.h ||
        $header == */cpu/emulated_tiles.h ]]; then
    includes+=(-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mamx-tile -mamx-bf16
               -DMRT_AMX)
  fi
  # MRT_ISA is what mrt_isa_variants() defines for sources that are compiled once per ISA, the
  # others what mrt_test() and the tests of the binary define.
  g++ -std=c++20 -fsyntax-only -fopenmp -Wall -Wextra -Werror -Wno-missing-field-initializers \
    -DMRT_ISA=portable -DMRT_GOLDEN_DIR='""' -DMRT_BINARY='""' "${includes[@]}" \
    -x c++ -include "$header" /dev/null ||
    { echo "$header: does not compile alone" >&2; return 1; }
  case $header in
    include/monarchrt/c_api.h)
      gcc -std=c99 -pedantic -fsyntax-only -Wall -Wextra -Werror -Iinclude \
        -x c -include "$header" /dev/null ||
        { echo "$header: does not compile alone as C" >&2; return 1; } ;;
  esac
}
export -f check_one

mapfile -t headers < <(find include src testing apps -name '*.h' | sort |
  while read -r header; do
    if [[ $header == */cuda/* ]] && grep -qE '#include (<cu|".*/cuda/)' "$header"; then continue; fi
    if [[ $header == include/* || ! -f ${header%.h}.cc ]]; then echo "$header"; fi
  done)
if [ ${#headers[@]} -eq 0 ]; then echo "check_headers: no headers found" >&2; exit 1; fi
printf '%s\0' "${headers[@]}" | xargs -0 -n1 -P"$(nproc)" bash -c 'check_one "$0"'
echo "check_headers: ${#headers[@]} headers compile alone"
