#!/usr/bin/env bash
# check_cuda.sh: compiles every kind of CUDA file for one GPU each: sm_90a, where the kernels have
# run, and one of Monarch's for sm_80, which has no wgmma. Fails on a warning or a spilled register,
# and says how long it took. All kernels for all GPUs take minutes: scripts/build.sh cuda. Needs
# nvcc, no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
  nvcc -std=c++20 -O3 --expt-relaxed-constexpr -Isrc -Iinclude -Werror all-warnings \
    -Xptxas --warn-on-spills,--warning-as-error -gencode "arch=compute_$1,code=sm_$1" -c "$2" \
    -o /dev/null
}
export -f compile

# The longest first.
files=(
  90a src/kernels/conv/cuda/conv_cuda.cu
  90a src/ops/cuda/norms.cu
  90a src/ops/cuda/elementwise.cu
  90a src/kernels/monarch/cuda/inst/d128_s7_m3_u2.cu
  80 src/kernels/monarch/cuda/inst/d64_s7_m3_u2.cu
  90a src/kernels/dense/cuda/dense_cuda.cu
  90a src/ops/cuda/softmax.cu
  90a src/kernels/monarch/cuda/launch.cu
  90a src/kernels/monarch/cuda/inst/resident_d128_s7_m3_w2.cu
  90a src/kernels/monarch/cuda/inst/pass_average_d128_s7_m3.cu
  90a src/kernels/monarch/cuda/inst/pass_across_d128.cu
  90a src/kernels/monarch/cuda/inst/back_across_d128.cu
  90a src/kernels/monarch/cuda/inst/back_along_d128_s10.cu
)
printf '%s\n' "${files[@]}" | xargs -n 2 -P "$(nproc)" bash -c 'compile "$@"' compile
echo "check_cuda: $((${#files[@]} / 2)) files compile, in $SECONDS s"
