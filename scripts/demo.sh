#!/usr/bin/env bash
# demo.sh [PROMPT]: installs what is missing, builds, and makes a video from a prompt in out/.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  -h | --help) sed -n '2s/^# //p' "$0"; exit 0 ;;
esac
prompt=${1:-a red ball bounces on a wooden floor}

tree=tests/golden/toy_wan
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
  --model "$tree/wan_models/Wan2.1-T2V-1.3B" \
  --checkpoint "$tree/checkpoints/self_forcing_dmd.pt:generator_ema" \
  --prompt "$prompt" --no-cache --size 80x48 --seconds 3 --seed 7 \
  --out "$video" --stats "$stats" --contact-sheet "$sheet"

cat <<EOT

video          $PWD/$video
contact sheet  $PWD/$sheet
statistics     $PWD/$stats

This is the miniature model of the tests. Its weights are random, so its video is noise by nature.
What it shows is the whole path: prompt, text encoder, transformer, VAE, MP4. For real videos give
monarchrt generate a published checkpoint: see README.md.
EOT
