// SPDX-License-Identifier: Apache-2.0
//
// Causal attention and its backward, one thread for one query or key of a head. Views of f32 or bf16; asynchronous on
// `stream`.
#pragma once

#include "narrowgauge/backend/attention_shape.hpp"
#include "narrowgauge/numerics/attention.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda {

/// What both directions read; attention writes out and log_sum_exp.
struct AttentionJob {
  std::int64_t sequences, length, heads, kv_heads, head_dim, value_dim;
  AttentionScales scales;
  TensorView qkv, out, log_sum_exp;

  NG_HD std::int64_t query_col(std::int64_t head) const { return head * head_dim; }
  NG_HD std::int64_t key_col(std::int64_t kv) const { return (heads + kv) * head_dim; }
  NG_HD std::int64_t value_col(std::int64_t kv) const { return (heads + kv_heads) * head_dim + kv * value_dim; }
  NG_HD std::int64_t group() const { return heads / kv_heads; }  ///< query heads of a key head
  NG_HD std::int64_t tokens() const { return sequences * length; }
};

struct AttentionGradientJob {
  AttentionJob forward;
  TensorView d_out, d_qkv;
  float* mean;  ///< [T, H], row sums of d_out * out: written first, then read
};

namespace plain {

/// `scratch`: [T, H*Dv] floats.
void attention(const AttentionJob& job, float* scratch, Stream stream);
/// `scratch`: as many floats as qkv has elements.
void attention_backward(const AttentionGradientJob& job, float* scratch, Stream stream);

}  // namespace plain

}  // namespace ng::cuda
