// SPDX-License-Identifier: Apache-2.0
//
// The shape of a model as written in studies/models/*.toml: sizes and constants, no weights. Everything that decides
// the model's function stands here and in its canonical JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "narrowgauge/backend/attention_shape.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/numerics/router_spec.hpp"
#include "narrowgauge/recipe/linear.hpp"

namespace ng {

/// Multi-head latent attention (arXiv 2405.04434): keys and values of all heads from one latent of kv_rank, beside it a
/// rotated key part that all heads share; queries from a latent of their own, or (q_rank 0) directly.
struct LatentAttention {
  std::int64_t q_rank = 0;
  std::int64_t kv_rank = 0;
  std::int64_t nope_dim = 0;  ///< of a query or key, not rotated
  std::int64_t rope_dim = 0;  ///< rotated; even
  std::int64_t value_dim = 0;

  /// Whether a model has latent attention.
  [[nodiscard]] bool present() const { return kv_rank > 0; }
  friend bool operator==(const LatentAttention&, const LatentAttention&) = default;
};

/// Letters: V vocabulary, C hidden, H heads, G kv_heads, D head_dim, E experts, K top_k, F expert_width.
struct ModelConfig {
  std::string name;
  std::int64_t vocabulary = 0;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  ///< even: RoPE turns pairs; with mla nope_dim + rope_dim
  LatentAttention mla{};      ///< if present: kv_heads = heads
  QkNorm qk_norm = QkNorm::none;
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-5;
  std::int64_t dense_layers = 0;  ///< the first ones have a dense feed-forward part instead of experts
  std::int64_t dense_width = 0;   ///< 0 when there are none
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t expert_width = 0;
  std::int64_t shared_experts = 0;  ///< one shared feed-forward part of this many times expert_width
  Gate gate = Gate::softmax;
  bool renormalize = true;             ///< scores of the chosen experts are divided by their sum
  double routed_scaling = 1.0;         ///< factor of the combine weights
  std::int64_t route_groups = 1;       ///< groups of neighbouring experts ...
  std::int64_t route_groups_kept = 1;  ///< ... of which a token may use this many
  GroupScore group_score = GroupScore::max;
  double bias_rate = 0.0;        ///< step of the router bias against the load, once per step; 0: no bias
  double capacity_factor = 0.0;  ///< slots of an expert in a sequence, in units of its even share; 0: dropless
  Drop drop = Drop::probability;
  double aux_coefficient = 0.0;
  Balance balance = Balance::batch;
  double z_coefficient = 0.0;
  bool tied_head = false;  ///< the head is the embedding
  double init_std = 0.02;
  std::int64_t context = 0;  ///< longest sequence

  /// Keys of options (qk_norm, mla, gate, routed_scaling, route_groups, route_groups_kept, group_score, bias_rate,
  /// capacity_factor, drop, balance) may be left out for the defaults above; every other key is demanded. UserError
  /// "file:line:column: key ...".
  static ModelConfig from_file(const std::filesystem::path& path);
  static ModelConfig from_text(std::string name, std::string text);
  /// From a document to which overrides (--set) may have been applied.
  static ModelConfig from_document(const TomlDocument& document);

  /// UserError naming the key when sizes do not fit together.
  void check() const;

  [[nodiscard]] bool is_dense(std::int64_t layer) const { return layer < dense_layers; }
  [[nodiscard]] std::int64_t value_dim() const { return mla.present() ? mla.value_dim : head_dim; }
  [[nodiscard]] std::int64_t rope_width() const { return mla.present() ? mla.rope_dim : head_dim; }
  /// Of queries, keys and values together, as attention reads them.
  [[nodiscard]] std::int64_t qkv_width() const { return (heads + kv_heads) * head_dim + kv_heads * value_dim(); }
  [[nodiscard]] std::int64_t attention_width() const { return heads * value_dim(); }
  [[nodiscard]] std::int64_t shared_width() const { return shared_experts * expert_width; }

  /// All trainable numbers; a router's bias is none.
  [[nodiscard]] std::int64_t total_parameters() const;
  /// Those that one token meets: top_k experts of each layer; embedding and head included.
  [[nodiscard]] std::int64_t active_parameters() const;

  /// What a recipe has to know.
  [[nodiscard]] ModelShape shape() const;

  /// Canonical JSON of every key; without the name, which computes nothing.
  [[nodiscard]] Json to_json() const;

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

}  // namespace ng
