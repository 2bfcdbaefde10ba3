// SPDX-License-Identifier: Apache-2.0
//
// The router with a warp for each token, each list of slots and each sum. Byte-equal to plain/router.hpp
// (tests/parity).
#pragma once

#include "plain/router.hpp"

namespace ng::cuda::fast {

/// Whether route_tokens serves: up to 256 experts, 32 slots, and 32 groups where groups are chosen.
[[nodiscard]] bool routes(const RouterSpec& spec);
/// Whether route_backward serves: up to 256 experts.
[[nodiscard]] bool routes_back(const RouterSpec& spec);

/// What the plain kernels of these names do.
void route_tokens(const RouterJob& job, Stream stream);
void sum_pieces(const RouterJob& job, std::int64_t* totals, Stream stream);
void drop_slots(const RouterJob& job, const DropLists& lists, Stream stream);
void token_sums(const RouterJob& job, const RouterSums& sums, Stream stream);
void share_sums(const RouterJob& job, const RouterSums& sums, std::int64_t scope, Stream stream);
void route_backward(const plain::RouterGradientJob& job, Stream stream);

}  // namespace ng::cuda::fast
