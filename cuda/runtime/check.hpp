// SPDX-License-Identifier: Apache-2.0
//
// Every call of the CUDA runtime goes through NG_CUDA_CHECK: an error becomes a MachineError that names the call, the
// place, and CUDA's own name and words for it. Plain header: device code includes it too.
#pragma once

namespace ng::cuda {

/// Throws MachineError "<call> failed at <file>:<line>: <name> (<words>)". `status` is a cudaError_t other than success.
[[noreturn]] void call_failed(int status, const char* call, const char* file, int line);

}  // namespace ng::cuda

#define NG_CUDA_CHECK(call)                                                                       \
  do {                                                                                            \
    const cudaError_t ng_cuda_status_ = (call);                                                   \
    if (ng_cuda_status_ != cudaSuccess) ::ng::cuda::call_failed(ng_cuda_status_, #call, __FILE__, __LINE__); \
  } while (false)
