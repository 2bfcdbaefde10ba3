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
  Tensor gate_up;      // [R, 2F], output of fc1
  TensorForms hidden;  // [R, F], input of fc2
};

struct Model::LayerSaved {
  Tensor input;            // [T, C] residual before the layer
  Tensor attn_rstd;        // [1, T] f32
  TensorForms attn_input;  // of attn_qkv
  Tensor qkv;              // [T, (H+2G)*D], rotated
  Tensor attn_out;         // [T, H*D]
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
