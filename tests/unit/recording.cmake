# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_recording
  SOURCES recording_measures_test.cpp recording_plan_test.cpp recording_recorder_test.cpp recording_checkpoint_test.cpp
          recording_run_file_test.cpp
  USES ng_recording LABELS unit)
ng_add_test(unit_recording_backend
  SOURCES recording_backend_test.cpp USES ng_recording ng_backends LABELS unit)
# Kills and starts processes of its own, so it has a main.
ng_add_test(unit_recording_crash
  SOURCES recording_crash_test.cpp USES ng_recording LABELS unit NO_MAIN)
ng_add_test(unit_recording_speed
  SOURCES recording_speed_test.cpp USES ng_recording LABELS unit SERIAL)
ng_add_test(unit_recording_scales
  SOURCES recording_scales_test.cpp USES ng_recording LIBS ng_oracle LABELS unit)
ng_add_test(unit_unrounded_sum
  SOURCES unrounded_sum_test.cpp USES ng_numerics LABELS unit)
