# SPDX-License-Identifier: Apache-2.0
#
# The functions that CMakeLists.txt files below src/, cuda/ and tests/ are written with.

# ng_add_layer_folders(<layer>...): the folders under src/, in the order given.
function(ng_add_layer_folders)
  foreach(layer IN LISTS ARGN)
    if(EXISTS "${PROJECT_SOURCE_DIR}/src/${layer}/CMakeLists.txt")
      add_subdirectory("${PROJECT_SOURCE_DIR}/src/${layer}" "${PROJECT_BINARY_DIR}/src/${layer}")
    endif()
  endforeach()
endfunction()

# Targets among ARGN that do not exist, into <out>. A library that is named but not built is an error
# at link time with an unreadable message; callers report it by name instead.
function(ng_missing_targets out)
  set(missing)
  foreach(target IN LISTS ARGN)
    if(NOT TARGET ${target})
      list(APPEND missing ${target})
    endif()
  endforeach()
  set(${out} "${missing}" PARENT_SCOPE)
endfunction()

# ng_add_layer(<layer> SOURCES <files> USES <ng targets> [LIBS <libraries of others>])
# Static library ng_<layer>. USES is public (its headers show in ours); LIBS is private.
function(ng_add_layer layer)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES;LIBS")
  ng_missing_targets(missing ${arg_USES})
  if(missing)
    message(WARNING "layer ${layer} is left out: it uses ${missing}")
    return()
  endif()
  add_library(ng_${layer} STATIC ${arg_SOURCES})
  target_include_directories(ng_${layer} PUBLIC "${PROJECT_SOURCE_DIR}/include")
  target_link_libraries(ng_${layer} PUBLIC ${arg_USES} PRIVATE ng_warnings ng_numerics_flags ${arg_LIBS})
endfunction()

# ng_add_isa_sources(<target> SOURCES <files> [USES <ng targets>])
# Compiles each file once for the baseline and once for x86-64-v3 (AVX2, FMA, BMI2, F16C) with -O3 and
# adds both to <target>. NG_ISA is `baseline` or `x86_64_v3`, to be used as a namespace, and
# NG_ISA_LEVEL is 1 or 3. The caller chooses at start with __builtin_cpu_supports.
# Such files must define no inline function or template that another file could share: the linker keeps
# one copy of each, and that might be the one with AVX2. Keep everything in an anonymous namespace, call
# only always_inline helpers, and no std containers; tests/hygiene checks the objects for it.
function(ng_add_isa_sources target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES")
  set(levels baseline)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    list(APPEND levels x86_64_v3)
  endif()
  foreach(level IN LISTS levels)
    add_library(${target}_${level} OBJECT ${arg_SOURCES})
    target_include_directories(${target}_${level} PRIVATE "${PROJECT_SOURCE_DIR}/include")
    target_link_libraries(${target}_${level} PRIVATE ng_warnings ng_numerics_flags ${arg_USES})
    target_compile_options(${target}_${level} PRIVATE -O3)
    if(level STREQUAL "x86_64_v3")
      target_compile_options(${target}_${level} PRIVATE -march=x86-64-v3)
      target_compile_definitions(${target}_${level} PRIVATE NG_ISA=x86_64_v3 NG_ISA_LEVEL=3)
      target_compile_definitions(${target} PRIVATE NG_HAVE_X86_64_V3=1)
      set_property(GLOBAL APPEND PROPERTY NG_ISA_OBJECT_TARGETS ${target}_${level})
    else()
      target_compile_definitions(${target}_${level} PRIVATE NG_ISA=baseline NG_ISA_LEVEL=1)
    endif()
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_${level}>)
  endforeach()
endfunction()

# ng_add_test(<name> SOURCES <files> [USES <ng targets>] [LIBS <libraries of others>] LABELS <labels>
#             [TIMEOUT <seconds>] [SERIAL] [WHOLE] [NO_MAIN])
# A GoogleTest program in build/bin. Each test case is a CTest test `<name>.<Suite>.<Case>`; with WHOLE the
# program is one CTest test (for suites of thousands of cases, or with a costly common start). A case that
# calls GTEST_SKIP counts as skipped. SERIAL: runs alone (timings, all cores). NO_MAIN: brings its own main.
# The tests see NG_SOURCE_DIR, NG_BINARY_DIR and, as NG_PROGRAM, the path of the program.
# Labels with meaning to `./ng test`: `exhaustive` is left out, `gpu` is skipped without a device.
function(ng_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL;WHOLE;NO_MAIN" "TIMEOUT" "SOURCES;USES;LIBS;LABELS")
  if(NOT arg_LABELS)
    message(FATAL_ERROR "ng_add_test(${name}): LABELS is needed")
  endif()
  ng_missing_targets(missing ${arg_USES})
  if(missing)
    message(WARNING "test ${name} is left out: it uses ${missing}")
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${arg_USES} ng_warnings ng_numerics_flags ${arg_LIBS})
  if(arg_NO_MAIN)
    target_link_libraries(${name} PRIVATE GTest::gtest)
  else()
    target_link_libraries(${name} PRIVATE GTest::gtest GTest::gtest_main)
  endif()
  target_compile_definitions(${name} PRIVATE
    NG_SOURCE_DIR="${PROJECT_SOURCE_DIR}" NG_BINARY_DIR="${PROJECT_BINARY_DIR}"
    NG_PROGRAM="${PROJECT_BINARY_DIR}/bin/narrowgauge")
  if(arg_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    set_property(TEST ${name} PROPERTY LABELS ${arg_LABELS})
    set_property(TEST ${name} PROPERTY TIMEOUT ${arg_TIMEOUT})
    set_property(TEST ${name} PROPERTY SKIP_REGULAR_EXPRESSION "\\[  PASSED  \\] 0 tests")
    if(arg_SERIAL)
      set_property(TEST ${name} PROPERTY RUN_SERIAL TRUE)
    endif()
  else()
    set(properties TIMEOUT ${arg_TIMEOUT})
    if(arg_SERIAL)
      list(APPEND properties RUN_SERIAL TRUE)
    endif()
    gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                         TEST_LIST ${name}_cases PROPERTIES ${properties})
    # gtest_discover_tests cannot pass on a list of labels: they are set when CTest reads the cases.
    set(script "${CMAKE_CURRENT_BINARY_DIR}/${name}_labels.cmake")
    file(WRITE "${script}" "foreach(case IN LISTS ${name}_cases)\n"
         "  set_tests_properties(\"\${case}\" PROPERTIES LABELS \"${arg_LABELS}\")\nendforeach()\n")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${script}")
  endif()
endfunction()

# Every target of ours below <dir>, into <out>.
function(ng_all_targets out dir)
  get_property(targets DIRECTORY "${dir}" PROPERTY BUILDSYSTEM_TARGETS)
  get_property(children DIRECTORY "${dir}" PROPERTY SUBDIRECTORIES)
  foreach(child IN LISTS children)
    ng_all_targets(below "${child}")
    list(APPEND targets ${below})
  endforeach()
  set(${out} "${targets}" PARENT_SCOPE)
endfunction()

# Configure error when any flag of any target, directory or build type would change floating point.
function(ng_forbid_fast_math)
  set(pattern "(^|[^o])-ffast-math|-Ofast|fast_math|unsafe-math|finite-math|associative-math|reciprocal-math|-ftz=true|prec-div=false|prec-sqrt=false|fp-contract=(fast|on)|fmad=true")
  set(flags)
  foreach(language IN ITEMS C CXX CUDA)
    string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
    list(APPEND flags ${CMAKE_${language}_FLAGS} ${CMAKE_${language}_FLAGS_${type}})
  endforeach()
  ng_all_targets(targets "${PROJECT_SOURCE_DIR}")
  foreach(target IN LISTS targets)
    foreach(property IN ITEMS COMPILE_OPTIONS INTERFACE_COMPILE_OPTIONS)
      get_target_property(value ${target} ${property})
      if(value)
        list(APPEND flags ${value})
      endif()
    endforeach()
    get_target_property(sources ${target} SOURCES)
    if(sources)
      foreach(source IN LISTS sources)
        if(NOT source MATCHES "^\\$<")
          get_source_file_property(value "${source}" TARGET_DIRECTORY ${target} COMPILE_OPTIONS)
          if(value)
            list(APPEND flags ${value})
          endif()
        endif()
      endforeach()
    endif()
  endforeach()
  string(REPLACE "-fno-fast-math" "" flags "${flags}")
  if(flags MATCHES "${pattern}")
    message(FATAL_ERROR "a compile flag allows inexact floating point ('${CMAKE_MATCH_0}'); narrowgauge's results would change. Remove it.")
  endif()
endfunction()
