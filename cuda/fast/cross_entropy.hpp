// SPDX-License-Identifier: Apache-2.0
//
// The loss of large vocabularies, one block for each row, byte for byte that of plain/optimizer.hpp.
#pragma once

#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/fault.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::fast {

/// Logits, and d_logits where it has data, are whole eights (eight_views.cuh).
[[nodiscard]] bool cross_entropy_serves(const TensorView& logits, const TensorView& d_logits);
void cross_entropy(const TensorView& logits, const TensorView& targets, float scale, float* token_loss,
                   const TensorView& d_logits, FaultWord* fault, Stream stream);

}  // namespace ng::cuda::fast
