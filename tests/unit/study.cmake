# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_study
  SOURCES study_statistics_test.cpp study_verdict_test.cpp study_report_test.cpp study_plan_test.cpp
  USES ng_study LIBS Boost::headers LABELS unit)
# Starts itself as the child, so it has a main.
ng_add_test(unit_study_runner
  SOURCES study_runner_test.cpp USES ng_study ng_recording LABELS unit NO_MAIN)
