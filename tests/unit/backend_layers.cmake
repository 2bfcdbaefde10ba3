# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_backend_layers
  SOURCES backend_layers_rows_test.cpp backend_layers_heads_test.cpp backend_layers_attention_test.cpp
          backend_layers_routing_test.cpp backend_layers_router_test.cpp
          backend_layers_loss_test.cpp backend_layers_bytes_test.cpp backend_layers_registry_test.cpp
  USES ng_backends LABELS unit)
# The pool is no part of an interface: its header lies with its source.
ng_add_test(unit_backend_layers_threads SOURCES backend_layers_threads_test.cpp USES ng_backend_cpu LABELS unit)
target_include_directories(unit_backend_layers_threads PRIVATE "${PROJECT_SOURCE_DIR}/src/backend_cpu")
