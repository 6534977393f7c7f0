#!/usr/bin/env bash
# check_cuda.sh: compiles the host side of the CUDA Monarch kernel, three of its kernels and all
# others, with wgmma (sm_90a) and without (sm_80). Fails on a warning or a spilled register. All
# kernels for all GPUs take minutes: scripts/build.sh cuda. Needs nvcc, no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
kernels=src/kernels/monarch/cuda

compile() {
  nvcc -std=c++20 -O3 --expt-relaxed-constexpr -Isrc -Iinclude -Werror all-warnings \
    -Xptxas --warn-on-spills,--warning-as-error -gencode "arch=compute_$1,code=sm_$1" -c "$2" \
    -o /dev/null
}
compile 80 $kernels/launch.cu
compile 80 $kernels/inst/d64_s7_m3_u2.cu
compile 90a $kernels/inst/d128_s7_m3_u2.cu
compile 90a $kernels/inst/resident_d128_s7_m3_w2.cu
for architecture in 80 90a; do
  compile $architecture src/kernels/dense/cuda/dense_cuda.cu
  compile $architecture src/kernels/conv/cuda/conv_cuda.cu
done
for rows in norms elementwise softmax; do compile 80 src/ops/cuda/$rows.cu; done
echo "check_cuda: 11 files compile"
