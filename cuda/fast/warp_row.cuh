// SPDX-License-Identifier: Apache-2.0
//
// A row of up to 32 * kWords numbers in the registers of a warp: element 32 j + lane is word j. Sums in the order of
// numerics/row_sums.hpp: lane l runs chain l mod 8, so that four lanes run the same one.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "fast/warp.cuh"
#include "narrowgauge/numerics/row_sums.hpp"

namespace ng::cuda::fast {

template <int kWords>
struct WarpRow {
  float word[kWords];

  /// The first n elements from memory; the others are 0.
  __device__ void load(const float* from, int n) {
#pragma unroll
    for (int j = 0; j < kWords; ++j) word[j] = element(j) < n ? from[element(j)] : 0.0f;
  }
  __device__ void store(float* to, int n) const {
#pragma unroll
    for (int j = 0; j < kWords; ++j)
      if (element(j) < n) to[element(j)] = word[j];
  }
  /// Number of this lane's word j.
  static __device__ int element(int j) {
    return j * kWarp + lane();
  }
  static __device__ int lane() {
    return static_cast<int>(threadIdx.x) % kWarp;
  }

  /// Element e in every lane; e is the same in all of them.
  __device__ float at(int e) const {
    float own = word[0];
#pragma unroll
    for (int j = 1; j < kWords; ++j) own = e / kWarp == j ? word[j] : own;
    return __shfl_sync(kAllLanes, own, e % kWarp);
  }
};

/// The pairwise end of a sum whose chain c is in the lanes c mod 8; the sum in every lane.
__device__ inline float pairwise_of_lanes(float chain) {
#pragma unroll
  for (int distance = 1; distance < kRowChains; distance *= 2)
    chain = add_rn(chain, __shfl_xor_sync(kAllLanes, chain, distance));
  return chain;
}

/// sum_of_chains of the first n elements.
template <int kWords>
__device__ float sum_of_lanes(const WarpRow<kWords>& x, int n) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kWords; ++j)
#pragma unroll
    for (int first = 0; first < kWarp; first += kRowChains) {
      const int from = first + WarpRow<kWords>::lane() % kRowChains;
      const float value = __shfl_sync(kAllLanes, x.word[j], from);
      if (j * kWarp + from < n) sum = add_rn(sum, value);
    }
  return pairwise_of_lanes(sum);
}

/// dot_of_chains of the first n elements.
template <int kWords>
__device__ float dot_of_lanes(const WarpRow<kWords>& a, const WarpRow<kWords>& b, int n) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kWords; ++j)
#pragma unroll
    for (int first = 0; first < kWarp; first += kRowChains) {
      const int from = first + WarpRow<kWords>::lane() % kRowChains;
      const float x = __shfl_sync(kAllLanes, a.word[j], from);
      const float y = __shfl_sync(kAllLanes, b.word[j], from);
      if (j * kWarp + from < n) sum = fma_rn(x, y, sum);
    }
  return pairwise_of_lanes(sum);
}

/// largest_of the first n elements, from element 0 on.
template <int kWords>
__device__ float largest_of_lanes(const WarpRow<kWords>& x, int n) {
  float best = x.at(0);
#pragma unroll
  for (int j = 0; j < kWords; ++j)
    if (WarpRow<kWords>::element(j) < n) best = larger_of(best, x.word[j]);
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2)
    best = larger_of(best, __shfl_xor_sync(kAllLanes, best, distance));
  return best;
}

}  // namespace ng::cuda::fast
