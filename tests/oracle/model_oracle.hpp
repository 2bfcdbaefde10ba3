// SPDX-License-Identifier: Apache-2.0
//
// The judge of the model: a mixture-of-experts transformer in double precision, plain loops written from the
// definition below, and its gradient by a scalar tape and by finite differences. Shares no code with the program;
// std only. Quantizes nothing: it judges the mathematics of forward and backward, not the narrow formats.
//
// Definition (B sequences, T tokens each, C hidden, D head_dim, H query heads, E experts, K = top_k):
//   x = embedding[id]; per layer x += attention(rmsnorm(x)), x += ffn(rmsnorm(x)); loss from rmsnorm(x) * head^T.
//   rmsnorm: x / sqrt(mean(x^2) + norm_epsilon) * gain.
//   attn_qkv rows: H query heads, then kv_heads key heads, then kv_heads value heads, D rows each. RoPE on query and
//   key, half-split: (x_i, x_{i+D/2}) turned by t * rope_theta^(-2i/D). Causal softmax of q.k / sqrt(D); query head h
//   reads key/value head h / (H / kv_heads).
//   swiglu(h; fc1, fc2): fc2 * (silu(gate) * up), gate = the first half of fc1's rows, up = the second.
//   The first dense_layers layers have a dense SwiGLU. The others: p = softmax(router * h); the K largest p (ties: the
//   lowest expert) are the slots; weight p_k, divided by their sum if `renormalize`; output = sum over slots of
//   weight * expert, plus one shared SwiGLU of width shared_experts * expert_width if shared_experts > 0.
//   Per MoE layer: aux = aux_coefficient * E * sum_e f_e P_e, f_e = share of all slots that went to e (a constant for
//   the gradient), P_e = mean p_e; z = z_coefficient * mean (log sum exp router logits)^2.
//   total = mean cross entropy in nats + sum of aux + sum of z.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ng_oracle {

/// The keys of a model file, same names and units.
struct ModelConfig {
  std::string name = "oracle";
  std::int64_t vocabulary = 0;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-5;
  std::int64_t dense_layers = 0;
  std::int64_t dense_width = 0;
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t expert_width = 0;
  std::int64_t shared_experts = 0;
  bool renormalize = true;
  double aux_coefficient = 0.0;
  double z_coefficient = 0.0;
  bool tied_head = false;
  double init_std = 0.02;
  std::int64_t context = 0;
};

/// Parameter name ("layer.0/fc1", ...) to values, row-major in the shape that parameter_shapes gives.
using Parameters = std::map<std::string, std::vector<double>>;

/// Every parameter the configuration has, and its shape: matrices [out, in], expert stacks [E, out, in], gains [C].
std::map<std::string, std::vector<std::int64_t>> parameter_shapes(const ModelConfig& config);

/// Chosen experts as [layer][token][slot], in order of falling probability; empty for dense layers. Token = b*T + t.
using RouterChoices = std::vector<std::vector<std::vector<int>>>;

struct LossParts {
  double cross_entropy = 0.0;        ///< mean over tokens, nats
  double aux = 0.0;                  ///< summed over layers, coefficient included
  double z = 0.0;                    ///< summed over layers, coefficient included
  double total = 0.0;                ///< cross_entropy + aux + z
  std::vector<double> token_losses;  ///< [B*T], nats
  std::vector<double> logits;        ///< [B*T, V]
  RouterChoices choices;
  /// Smallest relative gap between the last chosen and the first rejected probability, over tokens and layers
  /// (infinite if K = E or choices were forced): a computation with a smaller relative error routes alike.
  double router_margin = 0.0;
};

/// Forward. ids, targets: [B, T]. `forced`, where given, replaces the top-k choice (weights still follow the
/// probabilities), so that a finite difference never crosses a change of expert.
/// Throws std::invalid_argument if a parameter is missing, surplus or has a wrong size, or an id is out of range.
LossParts loss(const ModelConfig& config, const Parameters& parameters, const std::vector<std::int64_t>& ids,
               const std::vector<std::int64_t>& targets, std::int64_t B, std::int64_t T,
               const RouterChoices* forced = nullptr);

struct LossAndGradients {
  LossParts parts;
  Parameters gradients;  ///< d total / d parameter, same names and shapes
};

/// Forward and gradient through the scalar tape. The choice of experts is a constant of the derivative.
LossAndGradients loss_and_gradients(const ModelConfig& config, const Parameters& parameters,
                                    const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& targets,
                                    std::int64_t B, std::int64_t T, const RouterChoices* forced = nullptr);

/// d total / d parameters[name][index] by the five-point central difference
/// (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h, with the choices forced: truncation h^4/30 times the fifth derivative.
double finite_difference(const ModelConfig& config, const Parameters& parameters, const std::vector<std::int64_t>& ids,
                         const std::vector<std::int64_t>& targets, std::int64_t B, std::int64_t T,
                         const RouterChoices& forced, const std::string& name, std::size_t index, double h);

/// RoPE of one head vector (even length) at `position`, half-split; in place.
void rotate(std::vector<double>& head, std::int64_t position, double theta);

/// Parameters for tests: matrices N(0, std^2), gains 1 + N(0, 0.1^2), every value representable in FP32.
Parameters random_parameters(const ModelConfig& config, std::uint64_t seed, double std);

/// `count` tokens uniform in [0, vocabulary).
std::vector<std::int64_t> random_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed);

}  // namespace ng_oracle
