// SPDX-License-Identifier: Apache-2.0
//
// Causal attention and its backward without scores in device memory, at the speed of FP32 multiply-adds. Byte-equal to
// the plain kernels (tests/parity).
#pragma once

#include "plain/attention.hpp"

namespace ng::cuda::fast {

/// Whether `attention` serves this job: head widths, strides and addresses in fours of elements.
[[nodiscard]] bool attention_serves(const AttentionJob& job);
void attention(const AttentionJob& job, Stream stream);

/// The same of the backward, whose d_out is of qkv's dtype.
[[nodiscard]] bool attention_backward_serves(const AttentionGradientJob& job);
void attention_backward(const AttentionGradientJob& job, Stream stream);

}  // namespace ng::cuda::fast
