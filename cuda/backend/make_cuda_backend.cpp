// SPDX-License-Identifier: Apache-2.0
//
// `--backend cuda` in this version: the kernels of quantization are here, the other operations of a training step are
// not, and a backend that lacks operations is none. It says so, and whether a GPU could be used at all.
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "runtime/device.hpp"

namespace ng {

std::string cuda_absent_reason() {
  return "this version has CUDA kernels for quantization only, not for training";
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& /*options*/) {
  const auto problem = cuda::device_problem();
  throw UserError("no CUDA backend: " + cuda_absent_reason() + (problem ? " (and " + *problem + ")" : std::string()) +
                  "; valid: --backend cpu");
}

}  // namespace ng
