# SPDX-License-Identifier: Apache-2.0
#
# cmake -DROOT=<checkout> -DOUT=<file.cpp> -DVERSION=<x.y.z> -P write_version.cmake
# Writes the definitions of base/version.hpp; runs at every build and touches the file only when it changes.

set(revision "unknown")
find_program(GIT git)
if(GIT AND EXISTS "${ROOT}/.git")
  execute_process(COMMAND "${GIT}" -C "${ROOT}" rev-parse HEAD OUTPUT_VARIABLE head
                  OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status ERROR_QUIET)
  if(status EQUAL 0)
    set(revision "${head}")
    execute_process(COMMAND "${GIT}" -C "${ROOT}" --no-optional-locks status --porcelain --untracked-files=no
                    OUTPUT_VARIABLE changes OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(changes)
      string(APPEND revision "-dirty")
    endif()
  endif()
endif()

file(GLOB_RECURSE sources LIST_DIRECTORIES false RELATIVE "${ROOT}"
  "${ROOT}/include/narrowgauge/numerics/*.hpp" "${ROOT}/include/narrowgauge/quantize/*.hpp"
  "${ROOT}/src/backend_cpu/*.?pp" "${ROOT}/cuda/*.?pp" "${ROOT}/cuda/*.cu" "${ROOT}/cuda/*.cuh")
list(SORT sources)
set(lines "")
foreach(source IN LISTS sources)
  file(SHA256 "${ROOT}/${source}" digest)
  string(APPEND lines "${digest}  ${source}\n")
endforeach()
string(SHA256 digest "${lines}")

file(CONFIGURE OUTPUT "${OUT}" @ONLY CONTENT [==[
// Written by src/cmake/write_version.cmake.
#include "narrowgauge/base/version.hpp"

namespace ng {

std::string_view program_version() { return "@VERSION@"; }
std::string_view git_revision() { return "@revision@"; }
std::string_view source_digest() { return "@digest@"; }

}  // namespace ng
]==])
