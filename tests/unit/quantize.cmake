# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_quantize_packed SOURCES quantize_packed_test.cpp USES ng_quantize LABELS unit)
ng_add_test(unit_quantize_estimator SOURCES quantize_estimator_test.cpp USES ng_quantize LABELS unit)
ng_add_test(unit_quantize_conversions SOURCES quantize_conversions_test.cpp USES ng_quantize LIBS ng_oracle LABELS unit)
ng_add_test(unit_quantize_kernels SOURCES quantize_kernels_test.cpp USES ng_backend_cpu LABELS unit)
if(TARGET unit_quantize_kernels)
  target_include_directories(unit_quantize_kernels PRIVATE "${PROJECT_SOURCE_DIR}/src/backend_cpu")
endif()
