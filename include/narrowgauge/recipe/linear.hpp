// SPDX-License-Identifier: Apache-2.0
//
// The linear layers of the model by name, and what a recipe has to know about a model: which of them exist in which
// layer, how large they are, how often a token passes through them. No weights, no activations.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace ng {

enum class Linear : std::uint8_t {
  attn_qkv,
  attn_q,
  attn_q_a,
  attn_q_b,
  attn_kv_a,
  attn_kv_b,
  attn_out,
  router,
  fc1,
  fc2,
  shared_fc1,
  shared_fc2,
  dense_fc1,
  dense_fc2,
  embedding,
  head,
};
constexpr int kLinearCount = 16;

constexpr std::array<std::string_view, kLinearCount> kLinearNames = {
    "attn_qkv", "attn_q", "attn_q_a",   "attn_q_b",   "attn_kv_a", "attn_kv_b", "attn_out",  "router",
    "fc1",      "fc2",    "shared_fc1", "shared_fc2", "dense_fc1", "dense_fc2", "embedding", "head",
};
constexpr std::string_view name_of(Linear linear) {
  return kLinearNames[static_cast<std::size_t>(linear)];
}

/// Embedding and head stand outside the layers. The embedding is a look-up: it has no product.
constexpr bool outside_layers(Linear linear) {
  return linear == Linear::embedding || linear == Linear::head;
}

/// Weight [out, in] of one linear layer (of one expert), and the average number of its products per token. Sizes of 0:
/// the model has no such layer.
struct LinearShape {
  std::int64_t out = 0;
  std::int64_t in = 0;
  double uses_per_token = 0;  ///< top_k for fc1 and fc2, else 1
};

/// The part of a model configuration that a recipe is resolved against.
struct ModelShape {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t dense_layers = 0;  ///< the first ones: dense_fc1, dense_fc2 in place of router and experts
  bool shared_experts = false;
  std::array<LinearShape, kLinearCount> linear{};

  [[nodiscard]] const LinearShape& shape(Linear which) const { return linear[static_cast<std::size_t>(which)]; }

  /// Whether layer `layer` (0-based) has this linear layer. False for embedding and head.
  [[nodiscard]] bool has(std::int64_t layer, Linear which) const {
    switch (which) {
      case Linear::attn_qkv:  // or those of latent attention
      case Linear::attn_q:
      case Linear::attn_q_a:
      case Linear::attn_q_b:
      case Linear::attn_kv_a:
      case Linear::attn_kv_b:
      case Linear::attn_out:
        return shape(which).out > 0;
      case Linear::router:
      case Linear::fc1:
      case Linear::fc2:
        return layer >= dense_layers;
      case Linear::shared_fc1:
      case Linear::shared_fc2:
        return layer >= dense_layers && shared_experts;
      case Linear::dense_fc1:
      case Linear::dense_fc2:
        return layer < dense_layers;
      case Linear::embedding:
      case Linear::head:
        break;
    }
    return false;
  }
};

}  // namespace ng
