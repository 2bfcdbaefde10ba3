# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_tensor_core
  SOURCES tensor_core_accumulator_test.cpp tensor_core_matmul_test.cpp exact_matmul_test.cpp
  USES ng_backend_cpu LABELS unit)
ng_add_test(unit_hopper_products SOURCES hopper_products_test.cpp USES ng_backends ng_recipe LABELS unit)
