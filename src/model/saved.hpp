// SPDX-License-Identifier: Apache-2.0
//
// What a forward pass keeps for its backward pass.
#pragma once

#include <vector>

#include "narrowgauge/model/model.hpp"

namespace ng {

/// A SwiGLU feed-forward part: dense, shared, or the experts.
struct Model::FeedForwardSaved {
  TensorForms input;   // of fc1
  Tensor gate_up;             // [R, 2F], output of fc1; or
  TensorForms gate_up_codes;  // its codes, where SwiGLU is computed again
  TensorForms hidden;         // [R, F], input of fc2
};

/// What latent attention keeps beside what every attention does.
struct Model::LatentSaved {
  Tensor q_a;             // [T, q_rank], if there is one; its input is LayerSaved::attn_input
  Tensor q_a_rstd;        // [1, T] f32
  TensorForms q_b_input;  // of attn_q_b
  TensorForms kv_a_input;
  Tensor kv_a;       // [T, kv_rank + rope_dim]
  Tensor kv_a_rstd;  // [1, T] f32
  TensorForms kv_b_input;
};

struct Model::LayerSaved {
  Tensor input;            // [T, C] residual before the layer
  Tensor attn_rstd;        // [1, T] f32
  TensorForms attn_input;  // of attn_qkv, attn_q or attn_q_a
  LatentSaved latent;
  Tensor raw_qkv;          // [T, (H+2G)*D] before the norms of queries and keys, if there are
  Tensor qk_rstd;          // f32, of these
  Tensor qkv;              // [T, (H+G)*D + G*Dv], rotated
  Tensor attn_out;         // [T, H*Dv], unless attn_mixed has codes of it
  Tensor log_sum_exp;      // [T, H] f32
  TensorForms attn_mixed;  // of attn_out
  Tensor middle;           // [T, C] residual between attention and feed-forward
  Tensor ffn_rstd;         // [1, T] f32
  TensorForms router_input;
  Routing routing;
  Tensor expert_rows;  // [R, C] output of fc2
  FeedForwardSaved experts;
  FeedForwardSaved dense;  // dense layers, or the shared experts of a MoE layer
};

struct Model::Saved {
  Tensor ids;      // [1, T] i32
  Tensor targets;  // [1, T] i32
  std::vector<LayerSaved> layers;
  Tensor last;       // [T, C] residual after the last layer
  Tensor last_rstd;  // [1, T] f32
  TensorForms head_input;
  Tensor d_logits;  // [T, V]
};

}  // namespace ng
