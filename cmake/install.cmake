# libmonarchrt.so, and what `cmake --install` puts where. The tree may be moved afterwards.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The archives whose symbols are the public API, whole; the others as far as these need them.
set(public_parts mrt_pipeline mrt_attention mrt_verify mrt_inspect mrt_convert mrt_c_api)
set(public_objects)
foreach(part ${public_parts})
  list(APPEND public_objects $<TARGET_OBJECTS:${part}>)
endforeach()
add_library(monarchrt_shared SHARED ${public_objects})
target_link_libraries(monarchrt_shared PRIVATE ${public_parts})
target_link_options(monarchrt_shared PRIVATE
                    "LINKER:--version-script=${PROJECT_SOURCE_DIR}/src/monarchrt.map")
target_include_directories(monarchrt_shared INTERFACE
                           $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(monarchrt_shared INTERFACE cxx_std_20)
# Before version 1 a new minor version may break: docs/api.md.
set(soversion ${PROJECT_VERSION_MAJOR})
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(soversion 0.${PROJECT_VERSION_MINOR})
endif()
set_target_properties(monarchrt_shared PROPERTIES
  OUTPUT_NAME monarchrt EXPORT_NAME monarchrt LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${soversion}
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/monarchrt.map)

install(TARGETS monarchrt RUNTIME)
install(TARGETS monarchrt_shared EXPORT monarchrt LIBRARY)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/monarchrt TYPE INCLUDE FILES_MATCHING PATTERN *.h)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE TYPE DOC)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/demo
        DESTINATION ${CMAKE_INSTALL_DATADIR}/monarchrt/models PATTERN run_* EXCLUDE)
install(FILES ${PROJECT_SOURCE_DIR}/docs/monarchrt.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/monarchrt)
install(EXPORT monarchrt NAMESPACE monarchrt:: DESTINATION ${package_dir}
        FILE monarchrt-config.cmake)
set(compatibility SameMajorVersion)
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(compatibility SameMinorVersion)
endif()
write_basic_package_version_file(${PROJECT_BINARY_DIR}/monarchrt-config-version.cmake
                                 COMPATIBILITY ${compatibility})
install(FILES ${PROJECT_BINARY_DIR}/monarchrt-config-version.cmake DESTINATION ${package_dir})

# pkg-config knows where the file lies: the prefix is relative to it.
file(RELATIVE_PATH to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${PROJECT_SOURCE_DIR}/cmake/monarchrt.pc.in ${PROJECT_BINARY_DIR}/monarchrt.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/monarchrt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(MRT_BUILD_TESTS)
  add_test(NAME install.code_blocks COMMAND ${PROJECT_SOURCE_DIR}/tools/check_code_blocks.py)
  # Code that is not optimised shows copies of standard templates, and programs without the
  # sanitizers cannot load a library with them.
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    add_test(NAME install.exports COMMAND ${PROJECT_SOURCE_DIR}/tools/check_exports.py
                                          $<TARGET_FILE:monarchrt_shared>)
    add_test(NAME install.examples COMMAND ${PROJECT_SOURCE_DIR}/tools/check_install.sh
                                           ${PROJECT_BINARY_DIR})
    set_tests_properties(install.examples PROPERTIES TIMEOUT 600)
    add_test(NAME install.docs COMMAND ${PROJECT_SOURCE_DIR}/tools/check_docs.py
                                       $<TARGET_FILE:monarchrt>)
  endif()
endif()
