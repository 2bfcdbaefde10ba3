// SPDX-License-Identifier: Apache-2.0
//
// Names and shapes of the model oracle's parameters, and random values for tests.
#include <cmath>
#include <numbers>
#include <random>

#include "model_oracle.hpp"

namespace ng_oracle {

using Index = std::int64_t;
using Shapes = std::map<std::string, std::vector<Index>>;

namespace {

void add_attention(const ModelConfig& m, const std::string& layer, Shapes& shapes) {
  shapes[layer + "attn_norm"] = {m.hidden};
  if (m.mla.present()) {
    const Mla& mla = m.mla;
    const Index query_width = m.heads * (mla.nope_dim + mla.rope_dim);
    if (mla.q_rank > 0) {
      shapes[layer + "attn_q_a"] = {mla.q_rank, m.hidden};
      shapes[layer + "q_a_norm"] = {mla.q_rank};
      shapes[layer + "attn_q_b"] = {query_width, mla.q_rank};
    } else {
      shapes[layer + "attn_q"] = {query_width, m.hidden};
    }
    shapes[layer + "attn_kv_a"] = {mla.kv_rank + mla.rope_dim, m.hidden};
    shapes[layer + "kv_a_norm"] = {mla.kv_rank};
    shapes[layer + "attn_kv_b"] = {m.heads * (mla.nope_dim + mla.value_dim), mla.kv_rank};
    shapes[layer + "attn_out"] = {m.hidden, m.heads * mla.value_dim};
    return;
  }
  shapes[layer + "attn_qkv"] = {(m.heads + 2 * m.kv_heads) * m.head_dim, m.hidden};
  if (m.qk_norm != QkNorm::none) {
    const bool full = m.qk_norm == QkNorm::full;
    shapes[layer + "q_norm"] = {full ? m.heads * m.head_dim : m.head_dim};
    shapes[layer + "k_norm"] = {full ? m.kv_heads * m.head_dim : m.head_dim};
  }
  shapes[layer + "attn_out"] = {m.hidden, m.heads * m.head_dim};
}

void add_experts(const ModelConfig& m, const std::string& layer, Shapes& shapes) {
  shapes[layer + "router"] = {m.experts, m.hidden};
  if (m.bias_rate > 0.0) shapes[layer + "router_bias"] = {m.experts};
  shapes[layer + "fc1"] = {m.experts, 2 * m.expert_width, m.hidden};
  shapes[layer + "fc2"] = {m.experts, m.hidden, m.expert_width};
  if (m.shared_experts > 0) {
    shapes[layer + "shared_fc1"] = {2 * m.shared_experts * m.expert_width, m.hidden};
    shapes[layer + "shared_fc2"] = {m.hidden, m.shared_experts * m.expert_width};
  }
}

}  // namespace

Shapes parameter_shapes(const ModelConfig& m) {
  Shapes shapes;
  shapes["embedding"] = {m.vocabulary, m.hidden};
  for (Index l = 0; l < m.layers; ++l) {
    const std::string layer = "layer." + std::to_string(l) + "/";
    add_attention(m, layer, shapes);
    shapes[layer + "ffn_norm"] = {m.hidden};
    if (l < m.dense_layers) {
      shapes[layer + "dense_fc1"] = {2 * m.dense_width, m.hidden};
      shapes[layer + "dense_fc2"] = {m.hidden, m.dense_width};
    } else {
      add_experts(m, layer, shapes);
    }
  }
  shapes["final_norm"] = {m.hidden};
  if (!m.tied_head) shapes["head"] = {m.vocabulary, m.hidden};
  return shapes;
}

Parameters random_parameters(const ModelConfig& config, std::uint64_t seed, double std) {
  std::mt19937_64 generator(seed);
  const auto uniform = [&] { return (static_cast<double>(generator() >> 11) + 0.5) * 0x1p-53; };
  const auto normal = [&] {  // Box and Muller; std::normal_distribution differs between standard libraries
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  };
  Parameters parameters;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    Index size = 1;
    for (Index extent : shape) size *= extent;
    const double mean = name.ends_with("norm") ? 1.0 : 0.0;
    const double spread = name.ends_with("norm") || name.ends_with("bias") ? 0.1 : std;
    for (Index i = 0; i < size; ++i)
      parameters[name].push_back(static_cast<double>(static_cast<float>(mean + spread * normal())));
  }
  return parameters;
}

std::vector<Index> random_ids(Index count, Index vocabulary, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<Index> ids;
  for (Index i = 0; i < count; ++i)
    ids.push_back(static_cast<Index>(generator() % static_cast<std::uint64_t>(vocabulary)));
  return ids;
}

}  // namespace ng_oracle
