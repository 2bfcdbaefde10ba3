// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the CUDA backend in a build without CUDA: same symbols, and the reason.
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {

std::string cuda_absent_reason() {
  return "this program was built without CUDA";
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& /*options*/) {
  throw UserError("no CUDA backend: " + cuda_absent_reason() +
                  "; install the CUDA toolkit 13, see that nvcc is on the PATH (or give "
                  "-DCMAKE_CUDA_COMPILER=/path/to/nvcc to cmake), configure again, or use --backend cpu");
}

}  // namespace ng
