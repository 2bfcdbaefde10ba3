// SPDX-License-Identifier: Apache-2.0
//
// The shape of a model as written in studies/models/*.toml: sizes and constants, no weights. Everything that decides
// the model's function stands here and in its canonical JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/recipe/linear.hpp"

namespace ng {

/// Letters: V vocabulary, C hidden, H heads, G kv_heads, D head_dim, E experts, K top_k, F expert_width.
struct ModelConfig {
  std::string name;
  std::int64_t vocabulary = 0;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  ///< even: RoPE turns pairs
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-5;
  std::int64_t dense_layers = 0;  ///< the first ones have a dense feed-forward part instead of experts
  std::int64_t dense_width = 0;   ///< 0 when there are none
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t expert_width = 0;
  std::int64_t shared_experts = 0;  ///< one shared feed-forward part of this many times expert_width
  bool renormalize = true;          ///< combine weights of the chosen experts sum to 1
  double aux_coefficient = 0.0;
  double z_coefficient = 0.0;
  bool tied_head = false;  ///< the head is the embedding
  double init_std = 0.02;
  std::int64_t context = 0;  ///< longest sequence

  /// Every key is demanded. UserError "file:line:column: key ...".
  static ModelConfig from_file(const std::filesystem::path& path);
  static ModelConfig from_text(std::string name, std::string text);
  /// From a document to which overrides (--set) may have been applied.
  static ModelConfig from_document(const TomlDocument& document);

  /// UserError naming the key when sizes do not fit together.
  void check() const;

  [[nodiscard]] bool is_dense(std::int64_t layer) const { return layer < dense_layers; }
  [[nodiscard]] std::int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  [[nodiscard]] std::int64_t shared_width() const { return shared_experts * expert_width; }

  /// All trainable numbers.
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
