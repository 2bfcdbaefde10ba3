// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the CUDA backend in a build without CUDA: same symbols, and the reason.
#include "narrowgauge/backend/kernel_bench.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {

std::string cuda_absent_reason() {
  return "this program was built without CUDA";
}

namespace {
constexpr const char* kRemedy =
    "; install the CUDA toolkit 13, see that nvcc is on the PATH (or give -DCMAKE_CUDA_COMPILER=/path/to/nvcc to "
    "cmake) "
    "and configure again";
}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& /*options*/) {
  throw UserError("no CUDA backend: " + cuda_absent_reason() + kRemedy + ", or use --backend cpu");
}

KernelBenchReport bench_cuda_kernels(const KernelBenchOptions& /*options*/, const KernelProgress& /*progress*/) {
  throw UserError("no CUDA kernels to measure: " + cuda_absent_reason() + kRemedy);
}

}  // namespace ng
