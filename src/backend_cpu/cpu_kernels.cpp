// SPDX-License-Identifier: Apache-2.0
//
// Chooses the table of kernels at run time. Compiled for the baseline only.
#include "kernels/kernels.hpp"

#if defined(NG_HAVE_X86_64_V3)
#include <cpuid.h>
#endif

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

#if defined(NG_HAVE_X86_64_V3)
bool has_x86_64_v3() {
  // The builtin asks the system too whether it saves the wide registers; the compilers know different names, so what is
  // not common to them is read from cpuid.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
      !__builtin_cpu_supports("bmi2"))
    return false;
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kMovbe = 1u << 22, kF16c = 1u << 29, kLzcnt = 1u << 5;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kMovbe) == 0 || (c & kF16c) == 0) return false;
  return __get_cpuid(0x80000001u, &a, &b, &c, &d) != 0 && (c & kLzcnt) != 0;
}
#endif

}  // namespace

const CpuKernels& cpu_kernels([[maybe_unused]] bool baseline) {
  static const CpuKernels baseline_table = filled(baseline::fill_kernels);
#if defined(NG_HAVE_X86_64_V3)
  static const bool has_better = has_x86_64_v3();
  static const CpuKernels best_table = filled(has_better ? x86_64_v3::fill_kernels : baseline::fill_kernels);
  if (!baseline) return best_table;
#endif
  return baseline_table;
}

}  // namespace ng::cpu
