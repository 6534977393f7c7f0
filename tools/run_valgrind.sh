#!/usr/bin/env bash
# run_valgrind.sh BUILD_DIR: memcheck of one generation of two chunks through the binary. Any error,
# and memory that is lost at the end, is a failure. Nothing is suppressed.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?run_valgrind.sh: need a build directory}
tree=tests/golden/toy_wan
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# oneDNN's AVX kernels use the stack pointer as a plain register. Memcheck takes that for a change
# of stacks, forgets the old one and reports thousands of errors that are none; the SSE ones are
# clean. Our own kernels stay at AVX2, the best that valgrind emulates.
ONEDNN_MAX_CPU_ISA=SSE41 OMP_WAIT_POLICY=passive OMP_NUM_THREADS=2 valgrind \
  --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite --num-callers=30 \
  "$build/apps/monarchrt" generate --model "$tree" \
  --checkpoint checkpoints/self_forcing_dmd.pt:generator_ema --prompt "A red ball bounces." \
  --no-cache --size 80x48 --frames 21 --seed 7 --out "$out/v.mp4" --stats "$out/v.json" \
  --contact-sheet "$out/v.png" >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
if grep '^==' "$out/log"; then exit 1; fi
echo "run_valgrind: no error in $(wc -c <"$out/v.mp4") bytes of video"
