// SPDX-License-Identifier: Apache-2.0
//
// Sums that run down the tokens: the gradients of a norm's gain and of the embedding, byte for byte those of
// plain/norm.hpp and plain/layers.hpp.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// x and dy are whole eights (eight_views.cuh), and so is each of the `parts`.
[[nodiscard]] bool gain_gradient_serves(const TensorView& x, const TensorView& dy, std::int64_t parts);
void gain_gradient(const TensorView& x, const TensorView& rstd, const TensorView& dy, float* d_gain, Stream stream);

/// Ids that fit into 31 bits.
[[nodiscard]] bool embedding_backward_serves(const TensorView& d_table);
/// d_table[ids[t], :] += dy[t, :] in ascending t; negative ids are passed over. `ids`: dy.rows of them.
void embedding_backward(const std::int32_t* ids, const TensorView& dy, const TensorView& d_table, Stream stream);

}  // namespace ng::cuda::fast
