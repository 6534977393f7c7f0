#!/usr/bin/env bash
# demo.sh [PROMPT]: installs what is missing, builds, and makes a video from a prompt in out/.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  -h | --help) sed -n '2s/^# //p' "$0"; exit 0 ;;
esac
if [ $# -gt 1 ]; then
  echo "demo.sh: got $# words, need one prompt in quotes: scripts/demo.sh \"$*\"" >&2
  exit 2
fi
prompt=${1:-a large red ball rolls to the right in front of a wooden wall}

out=out
video=$out/demo.mp4
stats=$out/demo.json
sheet=$out/demo.png

scripts/install_deps.sh
echo "building (the first time takes a few minutes)"
if [ ! -f build/cpu/build.ninja ]; then export MRT_UNITY=ON; fi  # the fastest build of everything
scripts/build.sh cpu monarchrt
mkdir -p "$out"
build/cpu/apps/monarchrt generate \
  --prompt "$prompt" --no-cache --seconds 3 --seed 7 \
  --out "$video" --stats "$stats" --contact-sheet "$sheet"

cat <<EOT

video          $PWD/$video
contact sheet  $PWD/$sheet
statistics     $PWD/$stats

This is models/demo, a small model of our own. It knows simple things that move before a wall or a
landscape, and so far it gets the background right, nine colours and seven shapes of ten:
models/demo/README.md. For videos of anything give monarchrt generate a published checkpoint:
README.md.
EOT
