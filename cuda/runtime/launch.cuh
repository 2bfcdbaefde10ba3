// SPDX-License-Identifier: Apache-2.0
//
// The one way to launch a kernel: a number of threads in all, a checked grid, an error check, the kernel's name in the
// message. Kernels bound themselves by the number of threads, or stride through the work by the grid.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "narrowgauge/base/error.hpp"
#include "runtime/check.hpp"

namespace ng::cuda {

constexpr int kThreadsPerBlock = 256;

/// Number of this thread in the launch.
__device__ inline std::int64_t thread_number() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/// Runs `kernel` with at least `threads` threads in blocks of 256 on `stream`; nothing for 0 threads.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::int64_t threads, cudaStream_t stream,
            const Arguments&... arguments) {
  if (threads <= 0) return;
  const std::int64_t blocks = (threads + kThreadsPerBlock - 1) / kThreadsPerBlock;
  if (blocks > 0x7fffffff)
    throw MachineError(std::string("kernel ") + name + ": " + std::to_string(threads) + " threads do not fit one grid");
  kernel<<<static_cast<unsigned>(blocks), kThreadsPerBlock, 0, stream>>>(arguments...);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) call_failed(status, name, __FILE__, __LINE__);
}

/// Runs `kernel` in `blocks` blocks of 256 threads with `shared_bytes` of dynamic shared memory each; nothing for 0.
template <class... Parameters, class... Arguments>
void launch_blocks(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int shared_bytes,
                   cudaStream_t stream, const Arguments&... arguments) {
  if (blocks <= 0) return;
  if (blocks > 0x7fffffff)
    throw MachineError(std::string("kernel ") + name + ": " + std::to_string(blocks) + " blocks do not fit one grid");
  NG_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  kernel<<<static_cast<unsigned>(blocks), kThreadsPerBlock, static_cast<unsigned>(shared_bytes), stream>>>(
      arguments...);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) call_failed(status, name, __FILE__, __LINE__);
}

/// Runs `kernel`, which walks over `pieces` of work by the grid, in as many blocks of 256 threads and `shared_bytes` of
/// dynamic shared memory as the GPU holds at once, or fewer; nothing for 0 pieces.
template <class... Parameters, class... Arguments>
void launch_resident(const char* name, void (*kernel)(Parameters...), std::int64_t pieces, int shared_bytes,
                     cudaStream_t stream, const Arguments&... arguments) {
  if (pieces <= 0) return;
  int device = 0;
  int multiprocessors = 0;
  int per_multiprocessor = 0;
  NG_CUDA_CHECK(cudaGetDevice(&device));
  NG_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  NG_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  NG_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, kThreadsPerBlock,
                                                              static_cast<std::size_t>(shared_bytes)));
  if (per_multiprocessor < 1) throw MachineError(std::string("kernel ") + name + " does not fit this GPU");
  const std::int64_t most = static_cast<std::int64_t>(multiprocessors) * per_multiprocessor;
  kernel<<<static_cast<unsigned>(pieces < most ? pieces : most), kThreadsPerBlock, static_cast<unsigned>(shared_bytes),
           stream>>>(arguments...);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) call_failed(status, name, __FILE__, __LINE__);
}

}  // namespace ng::cuda
