# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_recipe
  SOURCES recipe_quantizer_text_test.cpp recipe_parse_test.cpp recipe_resolve_test.cpp
  USES ng_recipe ng_base LABELS unit)
ng_add_test(unit_studies
  SOURCES recipe_files_test.cpp model_config_test.cpp
  USES ng_recipe ng_base ng_model LABELS unit)
