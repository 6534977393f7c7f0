#!/usr/bin/env bash
# check_install.sh BUILD_DIR: installs into an empty folder, moves the tree, and builds and runs the
# examples against it: C with pkg-config, C++ with find_package, Python with ctypes. They must give
# the frames that the installed binary gives.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${1:?check_install.sh: need a build directory}")
root=$PWD
model=$root/tests/golden/toy_wan
checkpoint=checkpoints/self_forcing_dmd.pt:generator_ema
prompt="A red ball bounces."
frame_bytes=$((80 * 48 * 3))

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check_install: $1" >&2; exit 1; }

cmake --install "$build" --prefix "$work/first" >"$work/install.log" ||
  { cat "$work/install.log" >&2; fail "cmake --install failed"; }
mv "$work/first" "$work/tree" # it must not know where it was
tree=$work/tree
if grep -rIl -e "$work/first" -e "$root" "$tree"; then fail "these files name a folder"; fi
library=$(find "$tree" -name libmonarchrt.so)
[ -n "$library" ] || fail "there is no libmonarchrt.so"
export LD_LIBRARY_PATH=${library%/*} OMP_WAIT_POLICY=passive

for file in include/monarchrt/c_api.h include/monarchrt/engine.h share/man/man1/monarchrt.1 \
  share/doc/monarchrt/LICENSE; do
  [ -f "$tree/$file" ] || fail "$file is not installed"
done
for header in "$tree"/include/monarchrt/*.h; do echo "#include \"$header\""; done >"$work/all.cc"
g++ -std=c++20 -fsyntax-only -I"$tree/include" "$work/all.cc" || fail "the headers do not compile"

# The binary's frames are what the others must give.
"$tree/bin/monarchrt" generate --model "$model" --checkpoint "$checkpoint" --prompt "$prompt" \
  --size 80x48 --frames 21 --out "$work/want.rgb" >"$work/binary.log" 2>&1 ||
  { cat "$work/binary.log" >&2; fail "the binary failed"; }
[ "$(stat -c %s "$work/want.rgb")" -eq $((21 * frame_bytes)) ] || fail "21 frames were asked for"

# The demo model is found in the tree.
"$tree/bin/monarchrt" generate --prompt "$prompt" --size 64x64 --frames 9 --no-cache \
  --out "$work/demo.rgb" >"$work/binary.log" 2>&1 ||
  { cat "$work/binary.log" >&2; fail "the demo model does not run"; }
[ "$(stat -c %s "$work/demo.rgb")" -eq $((9 * 64 * 64 * 3)) ] || fail "9 frames were asked for"

# expect NAME COMMAND...: its output is the binary's.
expect() {
  local name=$1
  shift
  "$@" >"$work/$name.rgb" 2>"$work/$name.log" ||
    { cat "$work/$name.log" >&2; fail "$name failed"; }
  cmp "$work/want.rgb" "$work/$name.rgb" || fail "$name gives other frames"
  grep -q '^12 frames at 0.56' "$work/$name.log" || fail "$name does not tell its progress"
}

export PKG_CONFIG_PATH=${library%/*}/pkgconfig
cp -r examples "$work/examples" # nothing is written to the tree
make -s -C "$work/examples/c"
expect c "$work/examples/c/generate" "$model" "$checkpoint" "$prompt"

{ cmake -S "$work/examples/cpp" -B "$work/cpp" -DCMAKE_PREFIX_PATH="$tree" &&
  cmake --build "$work/cpp"; } >"$work/cmake.log" ||
  { cat "$work/cmake.log" >&2; fail "the C++ example does not build"; }
expect cpp "$work/cpp/generate" "$model" "$checkpoint" "$prompt"

# A wrong model is a line and an exit code.
if "$work/examples/c/generate" /nowhere "$checkpoint" "$prompt" 2>"$work/wrong.log"; then
  fail "a model that is not there was taken"
fi
grep -q '^\[' "$work/wrong.log" || fail "no message for a model that is not there"

python3 "$work/examples/python/generate.py" --library "$library" --model "$model" \
  --checkpoint "$checkpoint" --prompt "$prompt" --size 80x48 --frames 21 --out "$work/py.npy" \
  >"$work/py.log" || fail "the Python example failed"
cat >"$work/check.py" <<'EOP'
import sys
import numpy
frames = numpy.load(sys.argv[1])
assert frames.shape == (21, 48, 80, 3) and frames.dtype == numpy.uint8, frames.shape
assert frames.tobytes() == open(sys.argv[2], "rb").read(), "other frames"
changed = numpy.load(sys.argv[3])
assert (changed[:9] == frames[:9]).all() and (changed[9:] != frames[9:]).any(), "no new prompt"
EOP
python3 "$work/examples/python/generate.py" --library "$library" --model "$model" \
  --checkpoint "$checkpoint" --prompt "$prompt" --then "A blue cube falls." --size 80x48 \
  --frames 21 --out "$work/then.npy" >>"$work/py.log" || fail "the Python example failed"
python3 "$work/check.py" "$work/py.npy" "$work/want.rgb" "$work/then.npy"
grep -q '9 frames' "$work/py.log" || fail "the Python example tells no progress"
python3 "$work/examples/python/attention.py" --library "$library"
echo "check_install: C, C++ and Python give the binary's frames"
