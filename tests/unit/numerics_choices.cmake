# SPDX-License-Identifier: Apache-2.0
#
# Gradient estimator, outlier split, decode order, known amax, random bits and calibration of the numerics.
ng_add_test(estimator_vs_oracle
  SOURCES numerics_choices/estimator_test.cpp numerics_choices/stochastic_bits_test.cpp numerics_choices/paper_rule_test.cpp
  USES ng_numerics LIBS ng_oracle LABELS unit)
ng_add_test(outliers_vs_oracle
  SOURCES numerics_choices/outlier_test.cpp numerics_choices/tensor_amax_test.cpp
  USES ng_backend_cpu LIBS ng_program_subject LABELS unit)
ng_add_test(calibration
  SOURCES numerics_choices/calibration_test.cpp
  USES ng_backend_cpu ng_recipe LABELS unit)

# Philox before its makers, each where it is installed.
find_path(NG_RANDOM123 NAMES Random123/philox.h)
find_path(NG_CURAND_HEADERS NAMES curand.h HINTS "$ENV{CUDA_HOME}/include" "$ENV{CUDA_PATH}/include"
          /usr/local/cuda/include /opt/cuda/include ${CUDAToolkit_INCLUDE_DIRS})
find_library(NG_CURAND_LIBRARY NAMES curand HINTS "$ENV{CUDA_HOME}/lib64" "$ENV{CUDA_PATH}/lib64"
             /usr/local/cuda/lib64 /opt/cuda/lib64 ${CUDAToolkit_LIBRARY_DIR})
set(peers numerics_choices/random123_absent.cpp)
if(NG_RANDOM123)
  set(peers numerics_choices/random123.cpp)
endif()
if(NG_CURAND_HEADERS AND NG_CURAND_LIBRARY)
  list(APPEND peers numerics_choices/curand_host.cpp)
else()
  list(APPEND peers numerics_choices/curand_host_absent.cpp)
endif()
ng_add_test(philox_peers SOURCES numerics_choices/philox_peers_test.cpp ${peers} USES ng_numerics LABELS unit)
if(TARGET philox_peers)
  if(NG_RANDOM123)
    target_include_directories(philox_peers SYSTEM PRIVATE "${NG_RANDOM123}")
  endif()
  if(NG_CURAND_HEADERS AND NG_CURAND_LIBRARY)
    target_include_directories(philox_peers SYSTEM PRIVATE "${NG_CURAND_HEADERS}")
    target_link_libraries(philox_peers PRIVATE "${NG_CURAND_LIBRARY}")
  endif()
endif()
ng_add_test(numerics_logarithm SOURCES numerics_choices/logarithm_test.cpp USES ng_numerics LABELS unit)
