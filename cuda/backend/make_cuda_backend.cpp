// SPDX-License-Identifier: Apache-2.0
//
// What `--backend cuda` answers: the backend with its fastest kernels, or why there is none.
#include "backend/cuda_backend.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "runtime/device.hpp"

namespace ng {

std::string cuda_absent_reason() {
  return "";
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  if (const auto problem = cuda::device_problem())
    throw UserError("no CUDA backend: " + *problem + "; valid: --backend cpu");
  return cuda::make_backend_of(options, cuda::KernelChoice::fastest);
}

}  // namespace ng
