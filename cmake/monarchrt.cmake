# Helpers every folder uses: one folder = one target that links only what the layer rule allows.

add_library(mrt_options INTERFACE)
target_compile_options(mrt_options INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers
                                             -fno-math-errno -fno-trapping-math)
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

# mrt_isa_variants(NAME SOURCE file.cc): compiles one source three times, once per instruction set,
# each in its own namespace (macro MRT_ISA). The names are portable (x86-64 baseline), avx2
# (x86-64-v3) and avx512 (x86-64-v4). Such a file may define only its kernel and static helpers:
# docs/decisions/0003-one-source-three-instruction-sets.md.
function(mrt_isa_variants name)
  cmake_parse_arguments(ARG "" "SOURCE" "" ${ARGN})
  set(flags_portable "")
  set(flags_avx2 "-march=x86-64-v3")
  set(flags_avx512 "-march=x86-64-v4;-mprefer-vector-width=512")
  foreach(isa portable avx2 avx512)
    add_library(${name}_${isa} OBJECT ${ARG_SOURCE})
    target_include_directories(${name}_${isa} PRIVATE ${PROJECT_SOURCE_DIR}/src
                                                      ${PROJECT_SOURCE_DIR}/include)
    target_compile_definitions(${name}_${isa} PRIVATE MRT_ISA=${isa})
    target_compile_options(${name}_${isa} PRIVATE ${flags_${isa}} -O3 -ffp-contract=fast)
    target_link_libraries(${name}_${isa} PRIVATE mrt_options)
    list(APPEND objects $<TARGET_OBJECTS:${name}_${isa}>)
  endforeach()
  set(${name}_OBJECTS ${objects} PARENT_SCOPE)
endfunction()

# mrt_test(NAME SOURCES a_test.cc ... DEPS mrt_x ...): a GoogleTest binary; golden data lies in
# MRT_GOLDEN_DIR.
function(mrt_test name)
  if(NOT MRT_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${name}
                             PRIVATE MRT_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} mrt_options GTest::gtest_main GTest::gmock)
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
endfunction()

# mrt_bench(NAME SOURCES a_bench.cc ... DEPS mrt_x ...): a Google Benchmark binary, never a test.
function(mrt_bench name)
  if(NOT MRT_BUILD_BENCHMARKS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} mrt_options benchmark::benchmark_main)
endfunction()
