# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_study
  SOURCES study_statistics_test.cpp study_verdict_test.cpp study_report_test.cpp
  USES ng_study LIBS Boost::headers LABELS unit)
