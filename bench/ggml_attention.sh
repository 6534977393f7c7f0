#!/usr/bin/env bash
# ggml_attention.sh GGML_DIR [FLAG...]: builds the ggml of a checkout and bench/ggml_attention.cc in
# build/ggml, then runs build/ggml/ggml_attention with the flags, or with --help says which. ggml is
# built for this CPU, with OpenMP and with llamafile's products, as in llama.cpp.
set -euo pipefail
if [ $# -eq 0 ]; then sed -n '2,4s/^# //p' "$0" >&2; exit 2; fi
ggml=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
{
  cmake -S "$ggml" -B build/ggml -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DGGML_LLAMAFILE=ON \
    -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF
  cmake --build build/ggml --target ggml-cpu --parallel "$(nproc)"
  g++ -std=c++20 -O3 -march=native -Wall -Wextra -isystem "$ggml/include" \
    bench/ggml_attention.cc -o build/ggml/ggml_attention \
    build/ggml/src/libggml-cpu.a build/ggml/src/libggml-base.a -fopenmp -ldl -lpthread
} >&2
build/ggml/ggml_attention "$@"
