# SPDX-License-Identifier: Apache-2.0
#
# The numerics layer, and the CPU backend's quantizers and measures, before their independent judge (tests/oracle).
ng_add_test(numerics_vs_oracle
  SOURCES numerics_vs_oracle/cast_test.cpp numerics_vs_oracle/stochastic_test.cpp numerics_vs_oracle/hadamard_test.cpp
          numerics_vs_oracle/scale_test.cpp numerics_vs_oracle/directed_test.cpp
  USES ng_numerics LIBS ng_oracle LABELS unit)
ng_add_test(quantizer_vs_oracle
  SOURCES numerics_vs_oracle/quantizer_test.cpp
  USES ng_backend_cpu LIBS ng_program_subject ng_golden_cases LABELS unit)
ng_add_test(placement_vs_oracle
  SOURCES numerics_vs_oracle/placement_test.cpp
  USES ng_backend_cpu LIBS ng_program_subject LABELS unit)
ng_add_test(measure_vs_oracle
  SOURCES numerics_vs_oracle/measure_test.cpp numerics_vs_oracle/record_measure_test.cpp
  USES ng_backend_cpu LIBS ng_program_subject LABELS unit)
