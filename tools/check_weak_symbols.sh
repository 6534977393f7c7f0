#!/usr/bin/env bash
# check_weak_symbols.sh BUILD_DIR: no object compiled for AVX2, AVX-512 or AMX may define a weak
# symbol. The linker keeps one copy of a weak symbol for all callers: if it is the AVX-512 one, the
# program dies on a CPU without it. Such a file may define only its kernel and static helpers.
set -euo pipefail
build=${1:?check_weak_symbols.sh: need a build directory}
mapfile -t objects < <(find "$build" -path '*_avx2.dir/*.o' -o -path '*_avx512.dir/*.o' \
  -o -path '*_avx512_bf16.dir/*.o' -o -path '*_amx.dir/*.o' | sort)
if [ ${#objects[@]} -eq 0 ]; then
  echo "check_weak_symbols: no AVX2, AVX-512 or AMX objects under $build" >&2
  exit 1
fi
if nm --defined-only --demangle --print-file-name "${objects[@]}" | grep -E ' [WVu] '; then
  echo "check_weak_symbols: the symbols above are weak" >&2
  exit 1
fi
echo "check_weak_symbols: ${#objects[@]} objects"
