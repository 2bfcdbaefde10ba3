# SPDX-License-Identifier: Apache-2.0
#
# Options, build type and the two interface targets that carry every compile flag of ours:
#   ng_warnings        warnings, as errors
#   ng_numerics_flags  floating point as written: each operation rounded once, no contraction
# Every target made by ng_add_layer and ng_add_test links both.

option(NG_PORTABLE "Link libstdc++ and libgcc into the program, so that the binary travels" ON)
option(NG_TESTS "Build the tests" ON)
option(NG_WERROR "Treat warnings as errors" ON)
option(NG_FUZZ "Build the libFuzzer programs of tests/fuzz (clang only; sets NG_SANITIZE)" OFF)
set(NG_SANITIZE "" CACHE STRING "Sanitizers for every target, for example address,undefined")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

find_program(NG_CCACHE ccache)
if(NG_CCACHE)
  foreach(language IN ITEMS C CXX CUDA)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER "${NG_CCACHE}")
    endif()
  endforeach()
endif()

add_library(ng_warnings INTERFACE)
target_compile_options(ng_warnings INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow>")
# g++ 13 and 14 take references returned by look-ups with a temporary key for dangling ones.
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-Wdangling-reference NG_HAVE_DANGLING_REFERENCE)
if(NG_HAVE_DANGLING_REFERENCE)
  target_compile_options(ng_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-dangling-reference>")
endif()
if(NG_WERROR)
  target_compile_options(ng_warnings INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-Werror>"
    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Werror;--Werror=all-warnings>")
endif()

add_library(ng_numerics_flags INTERFACE)
target_compile_options(ng_numerics_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;-fno-fast-math>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-ffp-contract=off,-fno-fast-math;-fmad=false>")

if(NG_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "NG_FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++")
  endif()
  if(NOT NG_SANITIZE)
    set(NG_SANITIZE address,undefined)
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# With sanitizers CUDA is left out and the program is not portable.
if(NG_SANITIZE)
  set(NG_PORTABLE OFF)
  add_compile_options(-fsanitize=${NG_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${NG_SANITIZE})
endif()
