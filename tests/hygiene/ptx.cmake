# SPDX-License-Identifier: Apache-2.0
#
# The PTX of cuda/ and of a control, as lists of files for hygiene_ptx.
if(NOT NG_CUDA OR NOT TARGET ng_cuda_ptx)
  message(STATUS "hygiene_ptx: left out, PTX is not inspected (no CUDA compiler)")
  return()
endif()
add_library(hygiene_ptx_control OBJECT EXCLUDE_FROM_ALL ptx_control.cu)
set_target_properties(hygiene_ptx_control PROPERTIES CUDA_PTX_COMPILATION ON CUDA_ARCHITECTURES 90a-virtual)
target_link_libraries(hygiene_ptx_control PRIVATE ng_warnings ng_numerics_flags)

ng_add_test(hygiene_ptx SOURCES ptx_test.cpp source_tree.cpp LABELS hygiene)
add_dependencies(hygiene_ptx ng_cuda_ptx hygiene_ptx_control)
foreach(pair IN ITEMS "ng_cuda_ptx NG_PTX_LIST" "hygiene_ptx_control NG_PTX_CONTROL_LIST")
  separate_arguments(pair)
  list(GET pair 0 target)
  list(GET pair 1 macro)
  set(list "${CMAKE_CURRENT_BINARY_DIR}/${target}_files.txt")
  file(GENERATE OUTPUT "${list}" CONTENT "$<JOIN:$<TARGET_OBJECTS:${target}>,\n>\n")
  target_compile_definitions(hygiene_ptx PRIVATE ${macro}="${list}")
endforeach()
