// SPDX-License-Identifier: Apache-2.0
//
// Level by level: node i of a level is the sum of nodes 2i and 2i+1 of the one below, an odd last one moves up alone.
// Levels of more than 32 nodes are made in memory, the others in a warp's registers.
#include "fast/tree_sums.hpp"

#include "fast/warp.cuh"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

__global__ void reduce_trees_kernel(double* all_partials, std::int64_t trees, std::int64_t leaves, double* sums) {
  const std::int64_t tree = thread_number() / kWarp;
  const std::int64_t lane = threadIdx.x % kWarp;
  if (tree >= trees) return;
  double* const partials = all_partials + tree * leaves;
  std::int64_t count = leaves;
  const auto node = [&](std::int64_t i) {
    return 2 * i + 1 < count ? add_rn(partials[2 * i], partials[2 * i + 1]) : partials[2 * i];
  };
  for (; count > 2 * kWarp; count = (count + 1) / 2)
    for (std::int64_t first = 0; 2 * first < count; first += kWarp) {
      const std::int64_t i = first + lane;
      const double sum = 2 * i < count ? node(i) : 0.0;
      __syncwarp();  // nodes at 2 * first and behind are read before any of them is written
      if (2 * i < count) partials[i] = sum;
      __syncwarp();
    }
  double sum = 2 * lane < count ? node(lane) : 0.0;
  count = (count + 1) / 2;
  for (; count > 1; count = (count + 1) / 2) {
    const double left = __shfl_sync(kAllLanes, sum, static_cast<int>(2 * lane % kWarp));
    const double right = __shfl_sync(kAllLanes, sum, static_cast<int>((2 * lane + 1) % kWarp));
    sum = 2 * lane + 1 < count ? add_rn(left, right) : left;
  }
  if (lane == 0) sums[tree] = sum;
}

}  // namespace

void reduce_trees(double* partials, std::int64_t trees, std::int64_t leaves, double* sums, Stream stream) {
  launch("reduce_trees", reduce_trees_kernel, trees * kWarp, stream, partials, trees, leaves, sums);
}

}  // namespace ng::cuda::fast
