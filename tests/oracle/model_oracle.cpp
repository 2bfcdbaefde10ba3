// SPDX-License-Identifier: Apache-2.0
//
// The model's definition as loops, once, over a scalar type: double gives the loss, Var the loss with its tape.
// Nothing here is fast and nothing should become so.
#include "model_oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <stdexcept>

#include "scalar_tape.hpp"

namespace ng_oracle {
namespace {

using std::exp;
using std::log;
using std::sqrt;
using Index = std::int64_t;

std::size_t at(Index i) {
  return static_cast<std::size_t>(i);
}

template <class Real>
using Values = std::vector<Real>;

/// y[M] = W x, W[M, N] starting at entry `first` of `w`.
template <class Real>
Values<Real> product(const Values<Real>& w, Index first, Index M, Index N, const Values<Real>& x) {
  Values<Real> y(at(M));
  for (Index m = 0; m < M; ++m) {
    Real sum(0.0);
    for (Index n = 0; n < N; ++n) sum = sum + w[at(first + m * N + n)] * x[at(n)];
    y[at(m)] = sum;
  }
  return y;
}

template <class Real>
Values<Real> rms_norm(const Values<Real>& x, const Values<Real>& gain, double epsilon) {
  Real sum(0.0);
  for (const Real& v : x) sum = sum + v * v;
  const Real root = sqrt(sum / Real(static_cast<double>(x.size())) + Real(epsilon));
  Values<Real> y(x.size());
  for (std::size_t c = 0; c < x.size(); ++c) y[c] = x[c] / root * gain[c];
  return y;
}

/// log of the sum of exponentials; the largest term is taken out as a constant, which leaves value and derivative.
template <class Real>
Real log_sum_exp(const Values<Real>& x) {
  double largest = value_of(x[0]);
  for (const Real& v : x) largest = std::max(largest, value_of(v));
  Real sum(0.0);
  for (const Real& v : x) sum = sum + exp(v - Real(largest));
  return log(sum) + Real(largest);
}

template <class Real>
Values<Real> softmax(const Values<Real>& x) {
  const Real total = log_sum_exp(x);
  Values<Real> p(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) p[i] = exp(x[i] - total);
  return p;
}

/// fc1 [2F, C] from entry first1 on, fc2 [C, F] from entry first2 on.
template <class Real>
Values<Real> swiglu(const Values<Real>& h, const Values<Real>& fc1, Index first1, const Values<Real>& fc2, Index first2,
                    Index F) {
  const Index C = static_cast<Index>(h.size());
  const Values<Real> u = product(fc1, first1, 2 * F, C, h);
  Values<Real> y(at(F));
  for (Index f = 0; f < F; ++f) {
    const Real gate = u[at(f)];
    const Real silu = gate / (Real(1.0) + exp(Real(0.0) - gate));
    y[at(f)] = silu * u[at(F + f)];
  }
  return product(fc2, first2, C, F, y);
}

template <class Real>
void rotate_head(Values<Real>& head, Index first, Index D, Index position, double theta) {
  for (Index i = 0; i < D / 2; ++i) {
    const double angle =
        static_cast<double>(position) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
    const Real c(std::cos(angle));
    const Real s(std::sin(angle));
    const Real low = head[at(first + i)];
    const Real high = head[at(first + i + D / 2)];
    head[at(first + i)] = low * c - high * s;
    head[at(first + i + D / 2)] = high * c + low * s;
  }
}

/// Attention of one sequence. h: T vectors [C]; returns T vectors [C], the output projection included.
template <class Real>
std::vector<Values<Real>> attention(const ModelConfig& m, const std::vector<Values<Real>>& h, const Values<Real>& qkv,
                                    const Values<Real>& out) {
  const Index T = static_cast<Index>(h.size());
  const Index D = m.head_dim;
  const Index first_key = m.heads * D;
  const Index first_value = (m.heads + m.kv_heads) * D;
  std::vector<Values<Real>> u(at(T));  // T x [(H + 2 Hkv) D]
  for (Index t = 0; t < T; ++t) {
    u[at(t)] = product(qkv, 0, (m.heads + 2 * m.kv_heads) * D, m.hidden, h[at(t)]);
    for (Index head = 0; head < m.heads + m.kv_heads; ++head)  // queries and keys, not values
      rotate_head(u[at(t)], head * D, D, t, m.rope_theta);
  }
  std::vector<Values<Real>> result(at(T));
  for (Index t = 0; t < T; ++t) {
    Values<Real> mixed(at(m.heads * D), Real(0.0));
    for (Index head = 0; head < m.heads; ++head) {
      const Index group = head / (m.heads / m.kv_heads);
      Values<Real> score;
      for (Index s = 0; s <= t; ++s) {
        Real dot(0.0);
        for (Index d = 0; d < D; ++d) dot = dot + u[at(t)][at(head * D + d)] * u[at(s)][at(first_key + group * D + d)];
        score.push_back(dot / Real(std::sqrt(static_cast<double>(D))));
      }
      const Values<Real> p = softmax(score);
      for (Index s = 0; s <= t; ++s)
        for (Index d = 0; d < D; ++d)
          mixed[at(head * D + d)] = mixed[at(head * D + d)] + p[at(s)] * u[at(s)][at(first_value + group * D + d)];
    }
    result[at(t)] = product(out, 0, m.hidden, m.heads * D, mixed);
  }
  return result;
}

/// Experts of one token by falling probability, ties to the lowest index; all E of them.
template <class Real>
std::vector<int> ranked(const Values<Real>& p) {
  std::vector<int> order;
  for (std::size_t e = 0; e < p.size(); ++e) order.push_back(static_cast<int>(e));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return value_of(p[static_cast<std::size_t>(a)]) > value_of(p[static_cast<std::size_t>(b)]);
  });
  return order;
}

template <class Real>
struct Forward {
  const ModelConfig& m;
  const std::map<std::string, Values<Real>>& parameters;
  const RouterChoices* forced;
  Real aux{0.0};
  Real z{0.0};
  LossParts parts{};

  const Values<Real>& parameter(const std::string& name) const { return parameters.at(name); }

  /// The MoE half of layer l on all tokens; adds to aux, z, parts.choices, parts.router_margin.
  std::vector<Values<Real>> mixture(Index l, const std::vector<Values<Real>>& h) {
    const std::string layer = "layer." + std::to_string(l) + "/";
    const Values<Real>& fc1 = parameter(layer + "fc1");
    const Values<Real>& fc2 = parameter(layer + "fc2");
    const Index E = m.experts;
    const Index K = m.top_k;
    const Index F = m.expert_width;
    const Index C = m.hidden;
    const double tokens = static_cast<double>(h.size());
    std::vector<double> slots_of(at(E), 0.0);
    Values<Real> probability_sum(at(E), Real(0.0));
    Real z_sum(0.0);
    std::vector<Values<Real>> result;
    for (std::size_t token = 0; token < h.size(); ++token) {
      const Values<Real> logits = product(parameter(layer + "router"), 0, E, C, h[token]);
      const Values<Real> p = softmax(logits);
      const Real lse = log_sum_exp(logits);
      z_sum = z_sum + lse * lse;
      for (Index e = 0; e < E; ++e) probability_sum[at(e)] = probability_sum[at(e)] + p[at(e)];

      std::vector<int> chosen;
      if (forced != nullptr) {
        chosen = forced->at(at(l)).at(token);
        if (static_cast<Index>(chosen.size()) != K)
          throw std::invalid_argument("forced choices do not have top_k slots");
      } else {
        chosen = ranked(p);
        if (K < E) {
          const double last = value_of(p[static_cast<std::size_t>(chosen[at(K - 1)])]);
          const double next = value_of(p[static_cast<std::size_t>(chosen[at(K)])]);
          parts.router_margin = std::min(parts.router_margin, (last - next) / last);
        }
        chosen.resize(at(K));
      }
      parts.choices[at(l)].push_back(chosen);

      Real chosen_sum(0.0);
      for (int e : chosen) chosen_sum = chosen_sum + p.at(static_cast<std::size_t>(e));
      Values<Real> y(at(C), Real(0.0));
      for (int e : chosen) {
        slots_of[static_cast<std::size_t>(e)] += 1.0;
        const Real probability = p[static_cast<std::size_t>(e)];
        const Real weight = m.renormalize ? probability / chosen_sum : probability;
        const Values<Real> expert = swiglu(h[token], fc1, e * 2 * F * C, fc2, e * C * F, F);
        for (Index c = 0; c < C; ++c) y[at(c)] = y[at(c)] + weight * expert[at(c)];
      }
      if (m.shared_experts > 0) {
        const Values<Real> shared = swiglu(h[token], parameter(layer + "shared_fc1"), 0,
                                           parameter(layer + "shared_fc2"), 0, m.shared_experts * F);
        for (Index c = 0; c < C; ++c) y[at(c)] = y[at(c)] + shared[at(c)];
      }
      result.push_back(y);
    }
    Real balance(0.0);
    for (Index e = 0; e < E; ++e) {
      const Real share(slots_of[at(e)] / (tokens * static_cast<double>(K)));
      balance = balance + share * (probability_sum[at(e)] / Real(tokens));
    }
    aux = aux + Real(m.aux_coefficient * static_cast<double>(E)) * balance;
    z = z + Real(m.z_coefficient) * (z_sum / Real(tokens));
    return result;
  }

  Real run(const std::vector<Index>& ids, const std::vector<Index>& targets, Index B, Index T) {
    const Index C = m.hidden;
    const Index V = m.vocabulary;
    parts.router_margin = std::numeric_limits<double>::infinity();
    parts.choices.resize(at(m.layers));
    std::vector<Values<Real>> x(at(B * T));  // B*T x [C]
    for (Index token = 0; token < B * T; ++token)
      for (Index c = 0; c < C; ++c) x[at(token)].push_back(parameter("embedding")[at(ids[at(token)] * C + c)]);

    for (Index l = 0; l < m.layers; ++l) {
      const std::string layer = "layer." + std::to_string(l) + "/";
      for (Index b = 0; b < B; ++b) {
        std::vector<Values<Real>> h;
        for (Index t = 0; t < T; ++t)
          h.push_back(rms_norm(x[at(b * T + t)], parameter(layer + "attn_norm"), m.norm_epsilon));
        const auto y = attention(m, h, parameter(layer + "attn_qkv"), parameter(layer + "attn_out"));
        for (Index t = 0; t < T; ++t) add_to(x[at(b * T + t)], y[at(t)]);
      }
      std::vector<Values<Real>> h;
      for (const auto& row : x) h.push_back(rms_norm(row, parameter(layer + "ffn_norm"), m.norm_epsilon));
      if (l < m.dense_layers) {
        for (std::size_t token = 0; token < x.size(); ++token)
          add_to(x[token],
                 swiglu(h[token], parameter(layer + "dense_fc1"), 0, parameter(layer + "dense_fc2"), 0, m.dense_width));
      } else {
        const auto y = mixture(l, h);
        for (std::size_t token = 0; token < x.size(); ++token) add_to(x[token], y[token]);
      }
    }

    const Values<Real>& head = parameter(m.tied_head ? "embedding" : "head");
    Real sum(0.0);
    for (Index token = 0; token < B * T; ++token) {
      const Values<Real> h = rms_norm(x[at(token)], parameter("final_norm"), m.norm_epsilon);
      const Values<Real> logits = product(head, 0, V, C, h);
      const Real token_loss = log_sum_exp(logits) - logits[at(targets[at(token)])];
      sum = sum + token_loss;
      parts.token_losses.push_back(value_of(token_loss));
      for (const Real& v : logits) parts.logits.push_back(value_of(v));
    }
    const Real cross_entropy = sum / Real(static_cast<double>(B * T));
    const Real total = cross_entropy + aux + z;
    parts.cross_entropy = value_of(cross_entropy);
    parts.aux = value_of(aux);
    parts.z = value_of(z);
    parts.total = value_of(total);
    return total;
  }

  static void add_to(Values<Real>& x, const Values<Real>& y) {
    for (std::size_t c = 0; c < x.size(); ++c) x[c] = x[c] + y[c];
  }
};

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument("model oracle: " + message);
}

void check(const ModelConfig& m, const Parameters& parameters, const std::vector<Index>& ids,
           const std::vector<Index>& targets, Index B, Index T) {
  require(m.head_dim % 2 == 0 && m.kv_heads > 0 && m.heads % m.kv_heads == 0, "heads do not fit");
  require(m.layers <= m.dense_layers || (m.top_k > 0 && m.top_k <= m.experts), "top_k does not fit experts");
  require(static_cast<Index>(ids.size()) == B * T && ids.size() == targets.size(), "ids or targets are not [B, T]");
  for (const auto* list : {&ids, &targets})
    for (Index id : *list) require(id >= 0 && id < m.vocabulary, "id out of range");
  const auto shapes = parameter_shapes(m);
  require(shapes.size() == parameters.size(), "wrong number of parameters");
  for (const auto& [name, shape] : shapes) {
    Index size = 1;
    for (Index extent : shape) size *= extent;
    const auto found = parameters.find(name);
    require(found != parameters.end(), "no parameter " + name);
    require(static_cast<Index>(found->second.size()) == size, "wrong size of " + name);
  }
}

}  // namespace

std::map<std::string, std::vector<Index>> parameter_shapes(const ModelConfig& m) {
  std::map<std::string, std::vector<Index>> shapes;
  shapes["embedding"] = {m.vocabulary, m.hidden};
  for (Index l = 0; l < m.layers; ++l) {
    const std::string layer = "layer." + std::to_string(l) + "/";
    shapes[layer + "attn_norm"] = {m.hidden};
    shapes[layer + "attn_qkv"] = {(m.heads + 2 * m.kv_heads) * m.head_dim, m.hidden};
    shapes[layer + "attn_out"] = {m.hidden, m.heads * m.head_dim};
    shapes[layer + "ffn_norm"] = {m.hidden};
    if (l < m.dense_layers) {
      shapes[layer + "dense_fc1"] = {2 * m.dense_width, m.hidden};
      shapes[layer + "dense_fc2"] = {m.hidden, m.dense_width};
      continue;
    }
    shapes[layer + "router"] = {m.experts, m.hidden};
    shapes[layer + "fc1"] = {m.experts, 2 * m.expert_width, m.hidden};
    shapes[layer + "fc2"] = {m.experts, m.hidden, m.expert_width};
    if (m.shared_experts > 0) {
      shapes[layer + "shared_fc1"] = {2 * m.shared_experts * m.expert_width, m.hidden};
      shapes[layer + "shared_fc2"] = {m.hidden, m.shared_experts * m.expert_width};
    }
  }
  shapes["final_norm"] = {m.hidden};
  if (!m.tied_head) shapes["head"] = {m.vocabulary, m.hidden};
  return shapes;
}

LossParts loss(const ModelConfig& config, const Parameters& parameters, const std::vector<Index>& ids,
               const std::vector<Index>& targets, Index B, Index T, const RouterChoices* forced) {
  check(config, parameters, ids, targets, B, T);
  Forward<double> forward{config, parameters, forced};
  forward.run(ids, targets, B, T);
  return forward.parts;
}

LossAndGradients loss_and_gradients(const ModelConfig& config, const Parameters& parameters,
                                    const std::vector<Index>& ids, const std::vector<Index>& targets, Index B, Index T,
                                    const RouterChoices* forced) {
  check(config, parameters, ids, targets, B, T);
  Tape tape;
  std::map<std::string, Values<Var>> leaves;
  for (const auto& [name, values] : parameters)
    for (double v : values) leaves[name].push_back(Var::leaf(v));
  Forward<Var> forward{config, leaves, forced};
  const Var total = forward.run(ids, targets, B, T);
  const std::vector<double> adjoint = tape.backward(total.index);
  LossAndGradients result{forward.parts, {}};
  for (const auto& [name, values] : leaves)
    for (const Var& leaf : values) result.gradients[name].push_back(adjoint[static_cast<std::size_t>(leaf.index)]);
  return result;
}

double finite_difference(const ModelConfig& config, const Parameters& parameters, const std::vector<Index>& ids,
                         const std::vector<Index>& targets, Index B, Index T, const RouterChoices& forced,
                         const std::string& name, std::size_t index, double h) {
  Parameters moved = parameters;
  const double centre = moved.at(name).at(index);
  const auto total_at = [&](double offset) {
    moved[name][index] = centre + offset;
    return loss(config, moved, ids, targets, B, T, &forced).total;
  };
  return (total_at(-2 * h) - 8 * total_at(-h) + 8 * total_at(h) - total_at(2 * h)) / (12 * h);
}

void rotate(std::vector<double>& head, Index position, double theta) {
  rotate_head(head, 0, static_cast<Index>(head.size()), position, theta);
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
    const bool gain = name.ends_with("norm");
    for (Index i = 0; i < size; ++i) {
      const double value = gain ? 1.0 + 0.1 * normal() : std * normal();
      parameters[name].push_back(static_cast<double>(static_cast<float>(value)));
    }
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
