// SPDX-License-Identifier: Apache-2.0
//
// Causal attention, without scores in device memory, and its backward, at the speed of FP32 multiply-adds. Byte-equal
// to the plain kernels (tests/parity).
#pragma once

#include "plain/attention.hpp"

namespace ng::cuda::fast {

/// Whether `attention` serves this job: head widths, strides and addresses in fours of elements.
[[nodiscard]] bool attention_serves(const AttentionJob& job);
void attention(const AttentionJob& job, Stream stream);

/// The same of the backward, whose d_out is of qkv's dtype. `scratch`: attention_backward_scratch(job.forward) bytes,
/// the operands p and ds of as many key heads as fit 1 GiB, at least one.
[[nodiscard]] bool attention_backward_serves(const AttentionGradientJob& job);
[[nodiscard]] std::size_t attention_backward_scratch(const AttentionJob& job);
void attention_backward(const AttentionGradientJob& job, void* scratch, std::size_t bytes, Stream stream);

}  // namespace ng::cuda::fast
