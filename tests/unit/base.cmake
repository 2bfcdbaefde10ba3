# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_base
  SOURCES base_error_test.cpp base_sha256_test.cpp base_json_test.cpp base_toml_test.cpp base_file_test.cpp
          base_progress_test.cpp base_interrupt_test.cpp
  USES ng_base LABELS unit)
