# SPDX-License-Identifier: Apache-2.0
#
# The numerics layer before its independent judge (tests/oracle).
ng_add_test(numerics_vs_oracle
  SOURCES numerics_vs_oracle/cast_test.cpp numerics_vs_oracle/stochastic_test.cpp numerics_vs_oracle/hadamard_test.cpp
          numerics_vs_oracle/scale_test.cpp numerics_vs_oracle/directed_test.cpp
  USES ng_numerics LIBS ng_oracle LABELS unit)
