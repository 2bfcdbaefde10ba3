// SPDX-License-Identifier: Apache-2.0
//
// The launcher of cooperative kernels: one functor, one block of threads for each piece of work, memory that the block
// shares, work in steps. Compiled by nvcc it is a kernel launch; compiled for the host (tests/parity/on_host) a loop
// over pieces and, in every step, over threads, both backwards. Work is a struct of plain data with `NG_HD void
// operator()(std::int64_t piece, std::byte* memory, const BlockThreads& threads) const` and a constant kBlocksAtOnce:
// blocks that a multiprocessor should hold, which bounds the registers of a thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"
#include "runtime/for_each.hpp"
#include "runtime/stream.hpp"

/// A function of host and device that is called, not inlined: what is rare stays out of the registers of what is not.
#if defined(__CUDACC__)
#define NG_HD_CALLED inline __host__ __device__ __noinline__
#else
#define NG_HD_CALLED inline
#endif

namespace ng::cuda {

constexpr int kBlockThreads = 256;

/// threads(step): step(number of a thread) for all threads of the block; then all of them have done it.
struct BlockThreads {
  template <class Step>
  NG_HD void operator()(const Step& step) const {
#if defined(__CUDA_ARCH__)
    step(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    for (int thread = kBlockThreads; thread-- > 0;) step(thread);
#endif
  }
};

/// *to |= bits, whoever else writes.
NG_HD void atomic_or(std::uint32_t* to, std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  atomicOr(to, bits);
#else
  *to |= bits;
#endif
}

/// The larger one of each of the two 16-bit halves.
NG_HD std::uint32_t larger_halves(std::uint32_t a, std::uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __vmaxu2(a, b);
#else
  const std::uint32_t low = (a & 0xffffu) > (b & 0xffffu) ? a & 0xffffu : b & 0xffffu;
  return low | (a >> 16 > b >> 16 ? a & 0xffff0000u : b & 0xffff0000u);
#endif
}

/// atomic_max that first looks whether there is anything to do: for many writers of few places.
NG_HD void raise_to(std::uint32_t* to, std::uint32_t value) {
#if defined(__CUDA_ARCH__)
  if (*static_cast<volatile std::uint32_t*>(to) >= value) return;
#endif
  atomic_max(to, value);
}

}  // namespace ng::cuda

#if defined(__CUDACC__)

namespace ng::cuda {

static_assert(kBlockThreads == kThreadsPerBlock);

namespace detail {
template <class Work>
__global__ void __launch_bounds__(kBlockThreads, Work::kBlocksAtOnce)
    for_each_block_kernel(const __grid_constant__ Work work, std::int64_t pieces) {
  extern __shared__ uint4 sm_memory[];
  for (std::int64_t piece = blockIdx.x; piece < pieces; piece += gridDim.x)
    work(piece, reinterpret_cast<std::byte*>(sm_memory), BlockThreads{});
}
}  // namespace detail

/// work(i, memory, threads) for every i in [0, pieces), in any order and many at once; `shared_bytes` of memory, which
/// is not initialised and aligned to 16; asynchronous on `stream`.
template <class Work>
void for_each_block(const char* name, std::int64_t pieces, int shared_bytes, Stream stream, const Work& work) {
  launch_resident(name, detail::for_each_block_kernel<Work>, pieces, shared_bytes, stream, work, pieces);
}

}  // namespace ng::cuda

#else

#include <cstring>
#include <vector>

namespace ng::cuda {

template <class Work>
void for_each_block(const char* /*name*/, std::int64_t pieces, int shared_bytes, Stream /*stream*/, const Work& work) {
  std::vector<std::byte> memory(static_cast<std::size_t>(shared_bytes));
  for (std::int64_t piece = pieces; piece-- > 0;) {
    std::memset(memory.data(), 0xa5, memory.size());
    work(piece, memory.data(), BlockThreads{});
  }
}

}  // namespace ng::cuda

#endif
