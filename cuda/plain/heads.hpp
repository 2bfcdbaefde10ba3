// SPDX-License-Identifier: Apache-2.0
//
// Rotation of queries and keys, and the heads of latent attention (see Backend), of f32 and bf16 views; asynchronous on
// `stream`. Shapes are checked by the caller.
#pragma once

#include "narrowgauge/backend/attention_shape.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"
#include "runtime/stream.hpp"

namespace ng::cuda::plain {

void rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse, Stream stream);
void latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q, const TensorView& kv,
                  const TensorView& shared_key, const TensorView& qkv, Stream stream);
void latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                           const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key,
                           Stream stream);

}  // namespace ng::cuda::plain
