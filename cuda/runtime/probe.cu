// SPDX-License-Identifier: Apache-2.0
//
// An empty kernel, asked for and never run.
#include "runtime/probe.hpp"

#include <cuda_runtime.h>

namespace ng::cuda {

namespace {
__global__ void nothing() {}
}  // namespace

int probe_kernel_image() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, nothing);
}

}  // namespace ng::cuda
