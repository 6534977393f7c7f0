#!/usr/bin/env bash
# install_deps.sh [--dev]: installs the Debian packages the build needs; --dev adds the checkers.
# Installs only what is missing, so a second run takes a moment and changes nothing.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config                              # build
  libdnnl-dev                                                   # matrix products and convolutions
  libsentencepiece-dev libutf8proc-dev                          # text
  libavcodec-dev libavfilter-dev libavformat-dev                # video files and pictures
  libavutil-dev libswscale-dev
  nlohmann-json3-dev libcli11-dev                               # configuration, command line
  libgtest-dev libgmock-dev libbenchmark-dev                    # tests and benchmarks
  python3 python3-numpy                                         # tools/, examples/python
)
dev_packages=(
  clang-format-14 clang-tidy-14 qemu-user valgrind              # checkers
  clang-14 lld-14 libclang-rt-14-dev libomp-14-dev llvm-14      # sanitizers, fuzz targets
  python3-venv                                                  # python/
)

for flag in "$@"; do
  case $flag in
    --dev) packages+=("${dev_packages[@]}") ;;
    -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
    *) echo "install_deps.sh: got $flag, need --dev or nothing" >&2; exit 2 ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install_deps.sh: this is not a Debian system; install what these packages hold:" >&2
  echo "  ${packages[*]}" >&2
  echo "The build itself needs nothing else: cmake --preset cpu && cmake --build --preset cpu" >&2
  exit 1
fi

installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
  awk '$2 == "installed" { print $1 }' || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps.sh: not root and no sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
