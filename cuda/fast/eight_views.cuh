// SPDX-License-Identifier: Apache-2.0
//
// Eights of a view: which views are made of them, access by row and column, and the launch of work on one for each
// thread.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

#include "fast/eights.cuh"
#include "plain/elements.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

/// Whether every row is made of whole eights that begin at multiples of 16 bytes.
inline bool is_eight_view(const TensorView& x) {
  return x.cols % kEight == 0 && (x.rows <= 1 || x.stride % kEight == 0) &&
         reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
}

inline bool are_eight_views(std::initializer_list<const TensorView*> views) {
  for (const TensorView* view : views)
    if (!is_eight_view(*view)) return false;
  return true;
}

/// Elements [c, c + 8) of row r of such a view; c is a multiple of 8.
__device__ inline Eight load_eight(const TensorView& x, std::int64_t r, std::int64_t c) {
  const std::int64_t at = r * x.stride + c;
  Eight v;
  if (x.dtype == Dtype::f32)
    v.load(static_cast<const float*>(x.data) + at);
  else
    v.load(static_cast<const std::uint16_t*>(x.data) + at);
  return v;
}

/// Writes them, each rounded once.
__device__ inline void store_eight(const TensorView& x, std::int64_t r, std::int64_t c, const Eight& v) {
  const std::int64_t at = r * x.stride + c;
  if (x.dtype == Dtype::f32)
    v.store(static_cast<float*>(x.data) + at);
  else
    v.store(static_cast<std::uint16_t*>(x.data) + at);
}

struct RowAndEight {
  std::int64_t row;
  std::int64_t eight;
};

/// Eight number `unit` of rows of `per_row` eights; 32-bit arithmetic where it suffices.
__device__ inline RowAndEight place_of(std::int64_t unit, std::int64_t per_row) {
  if (((unit | per_row) >> 32) == 0) {
    const std::uint32_t row = static_cast<std::uint32_t>(unit) / static_cast<std::uint32_t>(per_row);
    return {row, static_cast<std::uint32_t>(unit) - row * static_cast<std::uint32_t>(per_row)};
  }
  return {unit / per_row, unit % per_row};
}

template <class Work>
__global__ void __launch_bounds__(kThreadsPerBlock)
    eights_kernel(const __grid_constant__ Work work, std::int64_t units, std::int64_t per_row) {
  const std::int64_t unit = thread_number();
  if (unit >= units) return;
  const RowAndEight at = place_of(unit, per_row);
  work(at.row, at.eight * kEight);
}

/// work(r, c) for the eights of `rows` rows of `cols` elements, a multiple of 8: one thread each.
template <class Work>
void for_eights(const char* name, std::int64_t rows, std::int64_t cols, cudaStream_t stream, const Work& work) {
  const std::int64_t per_row = cols / kEight;
  launch(name, eights_kernel<Work>, rows * per_row, stream, work, rows * per_row, per_row);
}

}  // namespace ng::cuda::fast
