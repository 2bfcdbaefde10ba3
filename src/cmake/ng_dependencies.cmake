# SPDX-License-Identifier: Apache-2.0
#
# The libraries of others, as targets, from system packages only. Static where the distribution has
# archives, so that the program runs on a machine without them.
#   ng_hdf5  ng_fmt  ng_toml  nlohmann_json::nlohmann_json  Boost::program_options
#   Threads::Threads  GTest::gtest GTest::gtest_main GTest::gmock  (tests)  Eigen3::Eigen (tests)

include(CheckCXXSourceCompiles)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

set(Boost_USE_STATIC_LIBS ON)  # before find_package, or the shared target is taken
find_package(Boost 1.74 CONFIG REQUIRED COMPONENTS program_options)
find_package(nlohmann_json 3 REQUIRED)
if(NG_TESTS)
  find_package(GTest REQUIRED)
  find_package(Eigen3 3.3 REQUIRED NO_MODULE)
endif()

# HDF5: FindHDF5 names shared libz, libsz, libcurl and libcrypto even for the static archive, so the
# archives are named here. Only the S3 driver object needs curl and crypto; where something else of
# the archive refers to it, or no archive is installed, the shared library is taken.
find_path(NG_HDF5_INCLUDE hdf5.h PATH_SUFFIXES hdf5/serial REQUIRED)
find_library(NG_HDF5_ARCHIVE NAMES libhdf5_serial.a libhdf5.a)
find_library(NG_SZ_ARCHIVE NAMES libsz.a)
find_library(NG_AEC_ARCHIVE NAMES libaec.a)
find_library(NG_Z_ARCHIVE NAMES libz.a)
if(NG_HDF5_ARCHIVE AND NG_SZ_ARCHIVE AND NG_AEC_ARCHIVE AND NG_Z_ARCHIVE)
  set(CMAKE_REQUIRED_INCLUDES "${NG_HDF5_INCLUDE}")
  set(CMAKE_REQUIRED_LIBRARIES "${NG_HDF5_ARCHIVE}" "${NG_SZ_ARCHIVE}" "${NG_AEC_ARCHIVE}" "${NG_Z_ARCHIVE}"
      m dl Threads::Threads)
  check_cxx_source_compiles("
    #include <hdf5.h>
    int main() { return H5open() < 0 || H5Fcreate(\"x\", H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT) < 0; }"
    NG_HDF5_STATIC_LINKS)
  unset(CMAKE_REQUIRED_INCLUDES)
  unset(CMAKE_REQUIRED_LIBRARIES)
endif()
add_library(ng_hdf5 INTERFACE)
target_include_directories(ng_hdf5 SYSTEM INTERFACE "${NG_HDF5_INCLUDE}")
if(NG_HDF5_STATIC_LINKS)
  target_link_libraries(ng_hdf5 INTERFACE "${NG_HDF5_ARCHIVE}" "${NG_SZ_ARCHIVE}" "${NG_AEC_ARCHIVE}"
                        "${NG_Z_ARCHIVE}" m ${CMAKE_DL_LIBS} Threads::Threads)
else()
  find_library(NG_HDF5_SHARED NAMES hdf5_serial hdf5 REQUIRED)
  message(STATUS "HDF5 cannot be linked statically here: the program will need ${NG_HDF5_SHARED}")
  target_link_libraries(ng_hdf5 INTERFACE "${NG_HDF5_SHARED}" Threads::Threads)
endif()

# fmt: distributions have no archive, and header-only costs seconds in every file. One file of ours
# instantiates the library for the versions it knows; others are used header-only.
find_path(NG_FMT_INCLUDE fmt/format-inl.h REQUIRED)
set(ng_fmt_version 0)
foreach(header IN ITEMS core.h base.h)
  if(EXISTS "${NG_FMT_INCLUDE}/fmt/${header}")
    file(STRINGS "${NG_FMT_INCLUDE}/fmt/${header}" ng_fmt_line REGEX "^#define FMT_VERSION [0-9]+")
    if(ng_fmt_line MATCHES "([0-9]+)$")
      set(ng_fmt_version ${CMAKE_MATCH_1})
    endif()
  endif()
endforeach()
if(ng_fmt_version GREATER_EQUAL 90000 AND ng_fmt_version LESS 110000)
  add_library(ng_fmt STATIC "${PROJECT_SOURCE_DIR}/src/base/fmt_library.cpp")
  target_include_directories(ng_fmt SYSTEM PUBLIC "${NG_FMT_INCLUDE}")
  target_link_libraries(ng_fmt PRIVATE ng_numerics_flags)
else()
  add_library(ng_fmt INTERFACE)
  target_include_directories(ng_fmt SYSTEM INTERFACE "${NG_FMT_INCLUDE}")
  target_compile_definitions(ng_fmt INTERFACE FMT_HEADER_ONLY=1)
endif()

# toml++: compiled once, in src/base/toml_library.cpp; errors come back as values.
find_path(NG_TOML_INCLUDE toml++/toml.h REQUIRED)
add_library(ng_toml INTERFACE)
target_include_directories(ng_toml SYSTEM INTERFACE "${NG_TOML_INCLUDE}")
target_compile_definitions(ng_toml INTERFACE TOML_HEADER_ONLY=0 TOML_EXCEPTIONS=0)
