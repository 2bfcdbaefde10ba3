# SPDX-License-Identifier: Apache-2.0
ng_add_test(unit_io_hdf5
  SOURCES io_hdf5_test.cpp io_hdf5_writers_test.cpp io_hdf5_full_disk_test.cpp io_hdf5_damaged_test.cpp
  USES ng_io LIBS ng_hdf5 LABELS unit TIMEOUT 120)
ng_add_test(unit_io_files SOURCES io_files_test.cpp USES ng_io LABELS unit)
ng_add_test(unit_io_tokens SOURCES io_tokens_test.cpp USES ng_io LABELS unit)
