// SPDX-License-Identifier: Apache-2.0
//
// Order, shapes and initial values of the parameters.
#include "narrowgauge/model/parameters.hpp"

#include <cmath>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/sha256.hpp"

namespace ng {

std::vector<Parameter> describe_parameters(const ModelConfig& c) {
  std::vector<Parameter> list;
  const double output_std = c.init_std / std::sqrt(2.0 * static_cast<double>(c.layers));
  const auto matrix = [&](std::string name, std::vector<std::int64_t> shape, double std) {
    Parameter p;
    p.name = std::move(name);
    p.shape = std::move(shape);
    p.init_std = std;
    p.decay = true;
    list.push_back(std::move(p));
  };
  const auto gain = [&](std::string name, std::int64_t width) {
    Parameter p;
    p.name = std::move(name);
    p.shape = {width};
    list.push_back(std::move(p));
  };
  matrix("embedding", {c.vocabulary, c.hidden}, c.init_std);
  for (std::int64_t l = 0; l < c.layers; ++l) {
    const std::string prefix = "layer." + std::to_string(l) + "/";
    gain(prefix + "attn_norm", c.hidden);
    if (c.mla.present()) {
      const LatentAttention& m = c.mla;
      const std::int64_t queries = c.heads * c.head_dim;
      if (m.q_rank > 0) {
        matrix(prefix + "attn_q_a", {m.q_rank, c.hidden}, c.init_std);
        gain(prefix + "q_a_norm", m.q_rank);
        matrix(prefix + "attn_q_b", {queries, m.q_rank}, c.init_std);
      } else {
        matrix(prefix + "attn_q", {queries, c.hidden}, c.init_std);
      }
      matrix(prefix + "attn_kv_a", {m.kv_rank + m.rope_dim, c.hidden}, c.init_std);
      gain(prefix + "kv_a_norm", m.kv_rank);
      matrix(prefix + "attn_kv_b", {c.heads * (m.nope_dim + m.value_dim), m.kv_rank}, c.init_std);
    } else {
      matrix(prefix + "attn_qkv", {c.qkv_width(), c.hidden}, c.init_std);
      if (c.qk_norm != QkNorm::none) {
        gain(prefix + "q_norm", c.qk_norm == QkNorm::head ? c.head_dim : c.heads * c.head_dim);
        gain(prefix + "k_norm", c.qk_norm == QkNorm::head ? c.head_dim : c.kv_heads * c.head_dim);
      }
    }
    matrix(prefix + "attn_out", {c.hidden, c.attention_width()}, output_std);
    gain(prefix + "ffn_norm", c.hidden);
    if (c.is_dense(l)) {
      matrix(prefix + "dense_fc1", {2 * c.dense_width, c.hidden}, c.init_std);
      matrix(prefix + "dense_fc2", {c.hidden, c.dense_width}, output_std);
      continue;
    }
    matrix(prefix + "router", {c.experts, c.hidden}, c.init_std);
    if (c.bias_rate > 0.0) {
      Parameter p;
      p.name = prefix + "router_bias";
      p.shape = {c.experts};
      p.init_value = 0.0f;
      p.trained = false;
      list.push_back(std::move(p));
    }
    matrix(prefix + "fc1", {c.experts, 2 * c.expert_width, c.hidden}, c.init_std);
    matrix(prefix + "fc2", {c.experts, c.hidden, c.expert_width}, output_std);
    if (c.shared_experts > 0) {
      matrix(prefix + "shared_fc1", {2 * c.shared_width(), c.hidden}, c.init_std);
      matrix(prefix + "shared_fc2", {c.hidden, c.shared_width()}, output_std);
    }
  }
  gain("final_norm", c.hidden);
  if (!c.tied_head) matrix("head", {c.vocabulary, c.hidden}, c.init_std);
  return list;
}

Parameters::Parameters(const ModelConfig& config, Backend& backend, std::uint32_t seed)
    : all_(describe_parameters(config)) {
  for (Parameter& p : all_) {
    std::int64_t rows = 1;
    for (std::size_t i = 0; i + 1 < p.shape.size(); ++i) rows *= p.shape[i];
    const std::int64_t cols = p.shape.back();
    p.master = backend.tensor(Dtype::f32, rows, cols);
    p.gradient = backend.zeros(Dtype::f32, p.trained ? rows : 0, cols);
    if (p.init_std > 0.0) {
      backend.fill_normal(p.master.view, RandomStream{seed, RandomPurpose::initial_weights, sha256_first32(p.name), 0},
                          p.init_std);
    } else {
      const std::vector<float> values(static_cast<std::size_t>(rows * cols), p.init_value);
      backend.upload(p.master.view, values.data());
    }
  }
}

Parameter& Parameters::at(const std::string& name) {
  for (Parameter& p : all_)
    if (p.name == name) return p;
  NG_CHECK(false, "no parameter ", name);
  return all_.front();
}

void Parameters::zero_gradients(Backend& backend) {
  for (Parameter& p : all_) backend.fill_zero(p.gradient.view);
}

}  // namespace ng
