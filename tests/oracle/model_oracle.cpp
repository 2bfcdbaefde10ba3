// SPDX-License-Identifier: Apache-2.0
//
// The model's definition as loops, once, over a scalar type: double gives the loss, Var the loss with its tape.
// Nothing here is fast and nothing should become so.
#include "model_oracle.hpp"

#include <limits>
#include <stdexcept>

#include "model_oracle_attention.hpp"
#include "model_oracle_parts.hpp"
#include "model_oracle_router.hpp"

namespace ng_oracle {
namespace {

using namespace model_parts;

template <class Real>
std::vector<double> plain(const Values<Real>& x) {
  std::vector<double> values;
  for (const Real& v : x) values.push_back(value_of(v));
  return values;
}

/// s of one token from its router logits.
template <class Real>
Values<Real> gate_scores(const ModelConfig& m, const Values<Real>& logits) {
  if (m.gate == Gate::softmax) return softmax(logits);
  Values<Real> s;
  for (const Real& z : logits) s.push_back(Real(1.0) / (Real(1.0) + exp(Real(0.0) - z)));
  return s;
}

template <class Real>
struct Forward {
  const ModelConfig& m;
  const std::map<std::string, Values<Real>>& parameters;
  const RouterDecisions* forced;
  Index B;
  Index T;
  Real aux{0.0};
  Real z{0.0};
  LossParts parts{};

  LayerParameters<Real> of_layer(Index l) const {
    return [this, layer = "layer." + std::to_string(l) + "/"](const std::string& name) -> const Values<Real>& {
      return parameters.at(layer + name);
    };
  }

  /// Experts and dropped slots of all tokens of layer l from s [B*T][E], into parts.decisions.
  void decide(Index l, const std::vector<Values<Real>>& s) {
    auto& experts = parts.decisions.experts[at(l)];
    auto& kept = parts.decisions.kept[at(l)];
    if (forced != nullptr) {
      experts = forced->experts.at(at(l));
      kept = forced->kept.at(at(l));
      if (experts.size() != s.size() || kept.size() != s.size())
        throw std::invalid_argument("forced decisions do not have one entry per token");
      for (const auto* list : {&experts, &kept})
        for (const auto& slots : *list)
          if (static_cast<Index>(slots.size()) != m.top_k)
            throw std::invalid_argument("forced decisions do not have top_k slots");
      return;
    }
    std::vector<double> bias;
    if (m.bias_rate > 0.0) bias = plain(of_layer(l)("router_bias"));
    for (const Values<Real>& scores : s) {
      experts.push_back(chosen_experts(m, plain(scores), bias, parts.router_margin));
      kept.emplace_back(at(m.top_k), 1);
    }
    for (Index b = 0; b < B; ++b)
      for (int e = 0; e < static_cast<int>(m.experts); ++e) {
        std::vector<double> of_expert;  // scores of the slots that chose e, in token order
        std::vector<int*> place;
        for (Index token = b * T; token < (b + 1) * T; ++token)
          for (std::size_t k = 0; k < at(m.top_k); ++k)
            if (experts[at(token)][k] == e) {
              of_expert.push_back(value_of(s[at(token)][static_cast<std::size_t>(e)]));
              place.push_back(&kept[at(token)][k]);
            }
        const std::vector<bool> served = kept_slots(m, T, of_expert, parts.router_margin);
        for (std::size_t i = 0; i < served.size(); ++i) *place[i] = served[i] ? 1 : 0;
      }
  }

  /// E * sum_e f_e P_e over `count` tokens from `first` on.
  Real imbalance(const std::vector<Values<Real>>& s, const std::vector<std::vector<int>>& experts, Index first,
                 Index count) {
    std::vector<double> slots_of(at(m.experts), 0.0);
    Values<Real> share_sum(at(m.experts), Real(0.0));
    for (Index token = first; token < first + count; ++token) {
      for (int e : experts[at(token)]) slots_of[static_cast<std::size_t>(e)] += 1.0;
      Real total(0.0);
      for (const Real& score : s[at(token)]) total = total + score;
      for (std::size_t e = 0; e < at(m.experts); ++e) share_sum[e] = share_sum[e] + s[at(token)][e] / total;
    }
    const double tokens = static_cast<double>(count);
    Real result(0.0);
    for (std::size_t e = 0; e < at(m.experts); ++e)
      result = result + Real(slots_of[e] / (tokens * static_cast<double>(m.top_k))) * (share_sum[e] / Real(tokens));
    return Real(static_cast<double>(m.experts)) * result;
  }

  /// The MoE half of layer l on all tokens; adds to aux, z and parts.
  std::vector<Values<Real>> mixture(Index l, const std::vector<Values<Real>>& h) {
    const auto parameter = of_layer(l);
    const Values<Real>& fc1 = parameter("fc1");
    const Values<Real>& fc2 = parameter("fc2");
    const Index F = m.expert_width;
    const Index C = m.hidden;
    const Real tokens(static_cast<double>(h.size()));
    std::vector<Values<Real>> s;
    Real z_sum(0.0);
    for (const Values<Real>& row : h) {
      const Values<Real> logits = product(parameter("router"), 0, m.experts, C, row);
      const Real lse = log_sum_exp(logits);
      z_sum = z_sum + lse * lse;
      s.push_back(gate_scores(m, logits));
    }
    z = z + Real(m.z_coefficient) * (z_sum / tokens);

    decide(l, s);
    const auto& experts = parts.decisions.experts[at(l)];
    if (m.balance == Balance::batch) {
      aux = aux + Real(m.aux_coefficient) * imbalance(s, experts, 0, B * T);
    } else {
      Real sum(0.0);
      for (Index b = 0; b < B; ++b) sum = sum + imbalance(s, experts, b * T, T);
      aux = aux + Real(m.aux_coefficient) * (sum / Real(static_cast<double>(B)));
    }

    std::vector<Values<Real>> result;
    for (std::size_t token = 0; token < h.size(); ++token) {
      Real chosen_sum(0.0);
      for (int e : experts[token]) chosen_sum = chosen_sum + s[token].at(static_cast<std::size_t>(e));
      Values<Real> y(at(C), Real(0.0));
      for (std::size_t k = 0; k < experts[token].size(); ++k) {
        if (parts.decisions.kept[at(l)][token][k] == 0) continue;
        const Index e = experts[token][k];
        const Real share = m.renormalize ? s[token][at(e)] / chosen_sum : s[token][at(e)];
        const Values<Real> expert = swiglu(h[token], fc1, e * 2 * F * C, fc2, e * C * F, F);
        for (std::size_t c = 0; c < y.size(); ++c) y[c] = y[c] + Real(m.routed_scaling) * share * expert[c];
      }
      if (m.shared_experts > 0)
        add_to(y, swiglu(h[token], parameter("shared_fc1"), 0, parameter("shared_fc2"), 0, m.shared_experts * F));
      result.push_back(y);
    }
    return result;
  }

  Real run(const std::vector<Index>& ids, const std::vector<Index>& targets) {
    const Index C = m.hidden;
    const Index V = m.vocabulary;
    parts.router_margin = std::numeric_limits<double>::infinity();
    parts.decisions.experts.resize(at(m.layers));
    parts.decisions.kept.resize(at(m.layers));
    std::vector<Values<Real>> x;  // B*T x [C]
    for (Index id : ids) x.push_back(part(parameters.at("embedding"), id * C, C));

    for (Index l = 0; l < m.layers; ++l) {
      const auto parameter = of_layer(l);
      for (Index b = 0; b < B; ++b) {
        std::vector<Values<Real>> h;
        for (Index t = 0; t < T; ++t) h.push_back(rms_norm(x[at(b * T + t)], parameter("attn_norm"), m.norm_epsilon));
        const auto y = attention(m, h, parameter);
        for (Index t = 0; t < T; ++t) add_to(x[at(b * T + t)], y[at(t)]);
      }
      std::vector<Values<Real>> h;
      for (const auto& row : x) h.push_back(rms_norm(row, parameter("ffn_norm"), m.norm_epsilon));
      if (l < m.dense_layers) {
        for (std::size_t token = 0; token < x.size(); ++token)
          add_to(x[token], swiglu(h[token], parameter("dense_fc1"), 0, parameter("dense_fc2"), 0, m.dense_width));
      } else {
        const auto y = mixture(l, h);
        for (std::size_t token = 0; token < x.size(); ++token) add_to(x[token], y[token]);
      }
    }

    const Values<Real>& head = parameters.at(m.tied_head ? "embedding" : "head");
    Real sum(0.0);
    for (Index token = 0; token < B * T; ++token) {
      const Values<Real> h = rms_norm(x[at(token)], parameters.at("final_norm"), m.norm_epsilon);
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
};

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument("model oracle: " + message);
}

void check_config(const ModelConfig& m) {
  require(m.kv_heads > 0 && m.heads % m.kv_heads == 0, "heads do not fit");
  if (m.mla.present()) {
    require(m.kv_heads == m.heads && m.head_dim == m.mla.nope_dim + m.mla.rope_dim, "heads do not fit mla");
    require(m.mla.rope_dim % 2 == 0 && m.mla.value_dim > 0, "mla sizes do not fit");
    require(m.qk_norm == QkNorm::none, "qk_norm is not defined with mla");
  } else {
    require(m.head_dim % 2 == 0, "head_dim is odd");
  }
  if (m.layers <= m.dense_layers) return;
  require(m.route_groups > 0 && m.experts % m.route_groups == 0, "route_groups does not divide experts");
  require(m.route_groups_kept > 0 && m.route_groups_kept <= m.route_groups, "route_groups_kept does not fit");
  const Index of_group = m.experts / m.route_groups;
  require(m.top_k > 0 && m.top_k <= m.route_groups_kept * of_group, "top_k does not fit experts");
  require(m.group_score == GroupScore::max || of_group > 1, "a group of one expert has no two largest");
}

void check(const ModelConfig& m, const Parameters& parameters, const std::vector<Index>& ids,
           const std::vector<Index>& targets, Index B, Index T) {
  check_config(m);
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

std::vector<Index> expert_counts(const ModelConfig& config, const RouterDecisions& decisions, Index layer) {
  std::vector<Index> counts(at(config.experts), 0);
  for (const auto& slots : decisions.experts.at(at(layer)))
    for (int e : slots) ++counts.at(static_cast<std::size_t>(e));
  return counts;
}

LossParts loss(const ModelConfig& config, const Parameters& parameters, const std::vector<Index>& ids,
               const std::vector<Index>& targets, Index B, Index T, const RouterDecisions* forced) {
  check(config, parameters, ids, targets, B, T);
  Forward<double> forward{config, parameters, forced, B, T};
  forward.run(ids, targets);
  return forward.parts;
}

LossAndGradients loss_and_gradients(const ModelConfig& config, const Parameters& parameters,
                                    const std::vector<Index>& ids, const std::vector<Index>& targets, Index B, Index T,
                                    const RouterDecisions* forced) {
  check(config, parameters, ids, targets, B, T);
  Tape tape;
  std::map<std::string, Values<Var>> leaves;
  for (const auto& [name, values] : parameters)
    for (double v : values) leaves[name].push_back(Var::leaf(v));
  Forward<Var> forward{config, leaves, forced, B, T};
  const Var total = forward.run(ids, targets);
  const std::vector<double> adjoint = tape.backward(total.index);
  LossAndGradients result{forward.parts, {}};
  for (const auto& [name, values] : leaves)
    for (const Var& leaf : values) result.gradients[name].push_back(adjoint[static_cast<std::size_t>(leaf.index)]);
  return result;
}

double finite_difference(const ModelConfig& config, const Parameters& parameters, const std::vector<Index>& ids,
                         const std::vector<Index>& targets, Index B, Index T, const RouterDecisions& forced,
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

}  // namespace ng_oracle
