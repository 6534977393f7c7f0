# Helpers every folder uses: one folder = one target that links only what the layer rule allows.

add_library(mrt_options INTERFACE)
target_compile_definitions(mrt_options
                           INTERFACE $<$<BOOL:${MRT_EMULATED_TILES}>:MRT_EMULATED_TILES>)
target_compile_options(mrt_options INTERFACE -Wall -Wextra -Wno-missing-field-initializers
                                             -fno-math-errno -fno-trapping-math)
# Sources that are compiled as one see the file-local names of their neighbours, and GCC 12 takes
# them for headers and warns of the empty std::optional's value.
if(CMAKE_UNITY_BUILD)
  target_compile_options(mrt_options INTERFACE
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage -Wno-maybe-uninitialized>)
else()
  target_compile_options(mrt_options INTERFACE -Wshadow)
endif()
# GCC 12 warns of overlapping copies inside "text" + std::string, wrongly (GCC bug 105651).
target_compile_options(mrt_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(MRT_WERROR)
  target_compile_options(mrt_options INTERFACE -Werror)
endif()

# mrt_library(NAME SOURCES a.cc ... DEPS mrt_x ...)
function(mrt_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE mrt_options ${ARG_PRIVATE_DEPS})
endfunction()

# With asan, dense/cpu/portable.cc for AVX-512 takes 60 s to compile with -O3, 16 s with -O2 or -O1,
# which inlines nothing.
set(MRT_SANITIZED OFF)
set(kernel_optimisation -O3)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  set(MRT_SANITIZED ON)
  set(kernel_optimisation -O2)
endif()
# For what no fuzz target aims at: it need not tell libFuzzer which code it reaches.
set(no_fuzzer_coverage $<$<BOOL:${MRT_BUILD_FUZZERS}>:-fno-sanitize=fuzzer-no-link>)

# mrt_isa_variants(NAME SOURCE file.cc [ISAS name ...]): compiles one source once per instruction
# set, each in its own namespace (macro MRT_ISA). The names are portable (x86-64 baseline), avx2
# (x86-64-v3) and avx512 (x86-64-v4); all three if none is given. Such a file may define only its
# kernel and static helpers: docs/decisions/0003-one-source-three-instruction-sets.md.
function(mrt_isa_variants name)
  cmake_parse_arguments(ARG "" "SOURCE" "ISAS" ${ARGN})
  set(flags_portable "")
  set(flags_avx2 "-march=x86-64-v3")
  set(flags_avx512 "-march=x86-64-v4;-mprefer-vector-width=512")
  if(NOT ARG_ISAS)
    set(ARG_ISAS portable avx2 avx512)
  endif()
  foreach(isa ${ARG_ISAS})
    add_library(${name}_${isa} OBJECT ${ARG_SOURCE})
    target_include_directories(${name}_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/src
                                                      ${PROJECT_SOURCE_DIR}/include)
    target_compile_definitions(${name}_${isa} PRIVATE MRT_ISA=${isa})
    target_compile_options(${name}_${isa} PRIVATE ${flags_${isa}} ${kernel_optimisation}
                                                  -ffp-contract=fast)
    target_link_libraries(${name}_${isa} PRIVATE mrt_options)
    list(APPEND objects $<TARGET_OBJECTS:${name}_${isa}>)
  endforeach()
  set(${name}_OBJECTS ${objects} PARENT_SCOPE)
endfunction()

# mrt_tile_objects(NAME SOURCE file.cc [AMX_ONLY]): compiles a kernel of tiles of bfloat16 twice:
# for AMX with the AVX-512 of the CPUs that have it, and for AVX-512 BF16, whose dot products stand
# in for the tiles (kernels/common/cpu/dot_tiles.h). The rest is as in mrt_isa_variants(); the names
# are amx and avx512_bf16.
function(mrt_tile_objects name)
  cmake_parse_arguments(ARG "AMX_ONLY" "SOURCE" "" ${ARGN})
  set(flags_avx512_bf16 -mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16)
  set(flags_amx ${flags_avx512_bf16} -mamx-tile -mamx-bf16 -mamx-int8)
  set(isas amx avx512_bf16)
  if(ARG_AMX_ONLY)
    set(isas amx)
  endif()
  foreach(isa ${isas})
    add_library(${name}_${isa} OBJECT ${ARG_SOURCE})
    target_include_directories(${name}_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/src
                                                      ${PROJECT_SOURCE_DIR}/include)
    target_compile_definitions(${name}_${isa} PRIVATE MRT_ISA=${isa}
                                                      $<$<STREQUAL:${isa},amx>:MRT_AMX>)
    # GCC 12 warns of the undefined values that its own AVX-512 header starts from (GCC bug 105593).
    target_compile_options(
      ${name}_${isa} PRIVATE ${flags_${isa}} ${kernel_optimisation}
                             $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized -Wno-maybe-uninitialized>)
    target_link_libraries(${name}_${isa} PRIVATE mrt_options)
    list(APPEND objects $<TARGET_OBJECTS:${name}_${isa}>)
  endforeach()
  set(${name}_OBJECTS ${objects} PARENT_SCOPE)
endfunction()

# The tests that start threads: what the preset tsan builds.
add_custom_target(thread_tests)

# mrt_test_headers(): a program without tests; what mrt_test() makes shares its precompiled headers.
function(mrt_test_headers)
  set(source ${PROJECT_BINARY_DIR}/mrt_test_headers.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "")
  add_executable(mrt_test_headers ${source})
  mrt_test_options(mrt_test_headers)
  target_precompile_headers(mrt_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h>
                                                     <nlohmann/json.hpp>)
endfunction()

# mrt_test_options(NAME): how tests are compiled. They compute little: with little optimisation, in
# half the time.
function(mrt_test_options name)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${name}
                             PRIVATE MRT_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  target_compile_options(${name} PRIVATE $<IF:$<BOOL:${MRT_SANITIZED}>,-O0,-O1>
                                         ${no_fuzzer_coverage})
  target_link_libraries(${name} PRIVATE mrt_options GTest::gtest_main GTest::gmock)
endfunction()

# mrt_test(NAME SOURCES a_test.cc ... DEPS mrt_x ... [THREADS | GPU]): a GoogleTest binary;
# golden data lies in MRT_GOLDEN_DIR. THREADS: its tests get the label "threads" and run with tsan.
# GPU: they get the label "gpu" and say SKIPPED where there is none. With a sanitizer one process
# runs all tests of a binary, because starting one takes longer than most tests.
function(mrt_test name)
  if(NOT MRT_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "THREADS;GPU" "" "SOURCES;DEPS" ${ARGN})
  set(labels "")
  if(ARG_THREADS)
    set(labels LABELS threads)
    add_dependencies(thread_tests ${name})
  endif()
  if(ARG_GPU)
    set(labels LABELS gpu)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  mrt_test_options(${name})
  if(MRT_PCH)
    target_precompile_headers(${name} REUSE_FROM mrt_test_headers)
  endif()
  if(MRT_SANITIZED)
    add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${name} PROPERTIES TIMEOUT 900 ${labels})
  else()
    gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
                         PROPERTIES TIMEOUT 600 ${labels})
  endif()
endfunction()

# mrt_bench(NAME SOURCES a_bench.cc ... DEPS mrt_x ... [MAIN]): a Google Benchmark binary, never a
# test. MAIN: with a main of its own instead.
function(mrt_bench name)
  if(NOT MRT_BUILD_BENCHMARKS)
    return()
  endif()
  cmake_parse_arguments(ARG "MAIN" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} mrt_options)
  if(NOT ARG_MAIN)
    target_link_libraries(${name} PRIVATE benchmark::benchmark_main)
  endif()
endfunction()

# mrt_cuda_library(NAME SOURCES a.cu ... DEPS mrt_x ...): only where MRT_CUDA is on. ptxas warns of
# a spill; with MRT_WERROR that is an error.
function(mrt_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_compile_options(
    ${name} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xptxas=--warn-on-spills>")
  if(MRT_WERROR)
    target_compile_options(
      ${name} PRIVATE
              "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings;-Xptxas=--warning-as-error>")
  endif()
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} CUDA::cudart_static)
endfunction()
