// SPDX-License-Identifier: Apache-2.0
//
// The launcher of the plain kernels: one functor, one thread for each index. Compiled by nvcc it is a kernel launch;
// compiled for the host (tests/parity/on_host) a loop, which runs backwards so that work that wrongly depends on an
// order shows. Work is a struct of plain data with `NG_HD void operator()(std::int64_t index) const`.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"
#include "runtime/stream.hpp"

#if defined(__CUDACC__)

#include "runtime/launch.cuh"

namespace ng::cuda {

namespace detail {
template <class Work>
__global__ void for_each_kernel(const __grid_constant__ Work work, std::int64_t count) {
  const std::int64_t index = thread_number();
  if (index < count) work(index);
}
}  // namespace detail

/// work(i) for every i in [0, count), in any order and all at once; asynchronous on `stream`. `name` is for messages.
template <class Work>
void for_each(const char* name, std::int64_t count, Stream stream, const Work& work) {
  launch(name, detail::for_each_kernel<Work>, count, stream, work, count);
}

/// *to = max(*to, value), whoever else writes.
__host__ __device__ inline void atomic_max(std::uint32_t* to, std::uint32_t value) {
#if defined(__CUDA_ARCH__)
  atomicMax(to, value);
#else
  if (value > *to) *to = value;
#endif
}

__host__ __device__ inline void atomic_max(unsigned long long* to, unsigned long long value) {
#if defined(__CUDA_ARCH__)
  atomicMax(to, value);
#else
  if (value > *to) *to = value;
#endif
}

/// *to += value, whoever else writes.
__host__ __device__ inline void atomic_add(unsigned long long* to, unsigned long long value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(to, value);
#else
  *to += value;
#endif
}

}  // namespace ng::cuda

#else

namespace ng::cuda {

template <class Work>
void for_each(const char* /*name*/, std::int64_t count, Stream /*stream*/, const Work& work) {
  for (std::int64_t i = count; i-- > 0;) work(i);
}

inline void atomic_max(std::uint32_t* to, std::uint32_t value) {
  if (value > *to) *to = value;
}

inline void atomic_max(unsigned long long* to, unsigned long long value) {
  if (value > *to) *to = value;
}

inline void atomic_add(unsigned long long* to, unsigned long long value) {
  *to += value;
}

}  // namespace ng::cuda

#endif
