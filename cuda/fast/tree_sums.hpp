// SPDX-License-Identifier: Apache-2.0
//
// Sums in double over the tree of numerics/summation_order.hpp from their leaves: a warp takes one tree.
#pragma once

#include <cstdint>

#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// sums[i] = reduce_tree of partials[i * leaves ...], for every i in [0, trees); leaves > 0. `partials` is overwritten.
void reduce_trees(double* partials, std::int64_t trees, std::int64_t leaves, double* sums, Stream stream);

}  // namespace ng::cuda::fast
