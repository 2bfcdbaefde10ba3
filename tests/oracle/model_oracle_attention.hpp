// SPDX-License-Identifier: Apache-2.0
//
// The attention half of the model oracle: grouped heads with or without QK-norm, and multi-head latent attention. Both
// make queries, keys and values of each head; what follows is the same.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "model_oracle.hpp"
#include "model_oracle_parts.hpp"

namespace ng_oracle::model_parts {

/// [token][head][number]
template <class Real>
using Heads = std::vector<std::vector<Values<Real>>>;

template <class Real>
struct QueriesKeysValues {
  Heads<Real> query, key, value;
};

/// Parameters of the layer by their short name.
template <class Real>
using LayerParameters = std::function<const Values<Real>&(const std::string&)>;

template <class Real>
Values<Real> part(const Values<Real>& x, Index first, Index count) {
  const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first);
  return Values<Real>(begin, begin + static_cast<std::ptrdiff_t>(count));
}

/// `x` cut into heads of D.
template <class Real>
std::vector<Values<Real>> split(const Values<Real>& x, Index D) {
  std::vector<Values<Real>> heads;
  for (Index first = 0; first < static_cast<Index>(x.size()); first += D) heads.push_back(part(x, first, D));
  return heads;
}

/// Queries or keys of one token, all heads side by side, after QK-norm.
template <class Real>
std::vector<Values<Real>> normed(const ModelConfig& m, const Values<Real>& x, const LayerParameters<Real>& parameter,
                                 const std::string& gain) {
  if (m.qk_norm == QkNorm::full) return split(rms_norm(x, parameter(gain), m.norm_epsilon), m.head_dim);
  std::vector<Values<Real>> heads = split(x, m.head_dim);
  if (m.qk_norm == QkNorm::head)
    for (Values<Real>& head : heads) head = rms_norm(head, parameter(gain), m.norm_epsilon);
  return heads;
}

template <class Real>
QueriesKeysValues<Real> grouped_heads(const ModelConfig& m, const std::vector<Values<Real>>& h,
                                      const LayerParameters<Real>& parameter) {
  const Index D = m.head_dim;
  QueriesKeysValues<Real> result;
  for (std::size_t t = 0; t < h.size(); ++t) {
    const Values<Real> u = product(parameter("attn_qkv"), 0, (m.heads + 2 * m.kv_heads) * D, m.hidden, h[t]);
    auto query = normed(m, part(u, 0, m.heads * D), parameter, "q_norm");
    auto key = normed(m, part(u, m.heads * D, m.kv_heads * D), parameter, "k_norm");
    for (auto* heads : {&query, &key})
      for (Values<Real>& head : *heads) rotate_head(head, 0, D, static_cast<Index>(t), m.rope_theta);
    result.query.push_back(query);
    result.key.push_back(key);
    result.value.push_back(split(part(u, (m.heads + m.kv_heads) * D, m.kv_heads * D), D));
  }
  return result;
}

template <class Real>
QueriesKeysValues<Real> latent_heads(const ModelConfig& m, const std::vector<Values<Real>>& h,
                                     const LayerParameters<Real>& parameter) {
  const Mla& mla = m.mla;
  const Index C = m.hidden;
  const Index query_dim = mla.nope_dim + mla.rope_dim;
  QueriesKeysValues<Real> result;
  for (std::size_t t = 0; t < h.size(); ++t) {
    const Index position = static_cast<Index>(t);
    Values<Real> q;
    if (mla.q_rank > 0) {
      const Values<Real> latent = product(parameter("attn_q_a"), 0, mla.q_rank, C, h[t]);
      q = product(parameter("attn_q_b"), 0, m.heads * query_dim, mla.q_rank,
                  rms_norm(latent, parameter("q_a_norm"), m.norm_epsilon));
    } else {
      q = product(parameter("attn_q"), 0, m.heads * query_dim, C, h[t]);
    }
    const Values<Real> a = product(parameter("attn_kv_a"), 0, mla.kv_rank + mla.rope_dim, C, h[t]);
    Values<Real> shared_key = part(a, mla.kv_rank, mla.rope_dim);
    rotate_head(shared_key, 0, mla.rope_dim, position, m.rope_theta);
    const Values<Real> kv = product(parameter("attn_kv_b"), 0, m.heads * (mla.nope_dim + mla.value_dim), mla.kv_rank,
                                    rms_norm(part(a, 0, mla.kv_rank), parameter("kv_a_norm"), m.norm_epsilon));
    std::vector<Values<Real>> queries = split(q, query_dim);
    std::vector<Values<Real>> keys, values;
    for (Values<Real>& query : queries) rotate_head(query, mla.nope_dim, mla.rope_dim, position, m.rope_theta);
    for (const Values<Real>& head : split(kv, mla.nope_dim + mla.value_dim)) {
      Values<Real> key = part(head, 0, mla.nope_dim);
      key.insert(key.end(), shared_key.begin(), shared_key.end());
      keys.push_back(key);
      values.push_back(part(head, mla.nope_dim, mla.value_dim));
    }
    result.query.push_back(queries);
    result.key.push_back(keys);
    result.value.push_back(values);
  }
  return result;
}

/// Attention of one sequence. h: T vectors [C]; returns T vectors [C], the output projection included.
template <class Real>
std::vector<Values<Real>> attention(const ModelConfig& m, const std::vector<Values<Real>>& h,
                                    const LayerParameters<Real>& parameter) {
  const auto [query, key, value] = m.mla.present() ? latent_heads(m, h, parameter) : grouped_heads(m, h, parameter);
  const std::size_t shared_by = static_cast<std::size_t>(m.heads / m.kv_heads);
  std::vector<Values<Real>> result;
  for (std::size_t t = 0; t < h.size(); ++t) {
    Values<Real> mixed;
    for (std::size_t head = 0; head < query[t].size(); ++head) {
      const Values<Real>& q = query[t][head];
      Values<Real> score;
      for (std::size_t s = 0; s <= t; ++s) {
        Real dot(0.0);
        for (std::size_t d = 0; d < q.size(); ++d) dot = dot + q[d] * key[s][head / shared_by][d];
        score.push_back(dot / Real(std::sqrt(static_cast<double>(q.size()))));
      }
      const Values<Real> p = softmax(score);
      Values<Real> sum(value[t][head / shared_by].size(), Real(0.0));
      for (std::size_t s = 0; s <= t; ++s)
        for (std::size_t d = 0; d < sum.size(); ++d) sum[d] = sum[d] + p[s] * value[s][head / shared_by][d];
      mixed.insert(mixed.end(), sum.begin(), sum.end());
    }
    result.push_back(product(parameter("attn_out"), 0, m.hidden, static_cast<Index>(mixed.size()), mixed));
  }
  return result;
}

}  // namespace ng_oracle::model_parts
