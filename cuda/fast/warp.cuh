// SPDX-License-Identifier: Apache-2.0
//
// The width of a warp.
#pragma once

namespace ng::cuda::fast {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = ~0u;

}  // namespace ng::cuda::fast
