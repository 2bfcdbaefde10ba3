// SPDX-License-Identifier: Apache-2.0
//
// Chooses the table of kernels at run time. Compiled for the baseline only.
#include "kernels/kernels.hpp"

namespace ng::cpu {

namespace baseline {
void fill_kernels(CpuKernels& table);
}
#if defined(NG_HAVE_X86_64_V3)
namespace x86_64_v3 {
void fill_kernels(CpuKernels& table);
}
#endif

namespace {

CpuKernels filled(void (*fill)(CpuKernels&)) {
  CpuKernels table{};
  fill(table);
  return table;
}

bool has_x86_64_v3() {
#if defined(NG_HAVE_X86_64_V3)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

}  // namespace

const CpuKernels& cpu_kernels(bool baseline) {
  static const CpuKernels baseline_table = filled(baseline::fill_kernels);
#if defined(NG_HAVE_X86_64_V3)
  static const CpuKernels best_table = filled(has_x86_64_v3() ? x86_64_v3::fill_kernels : baseline::fill_kernels);
  return baseline ? baseline_table : best_table;
#else
  (void)has_x86_64_v3;
  return baseline ? baseline_table : baseline_table;
#endif
}

}  // namespace ng::cpu
