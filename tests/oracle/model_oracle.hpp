// SPDX-License-Identifier: Apache-2.0
//
// The judge of the model: a mixture-of-experts transformer in double precision, plain loops written from the
// definition below, and its gradient by a scalar tape and by finite differences. Shares no code with the program;
// std only. Quantizes nothing: it judges the mathematics of forward and backward, not the narrow formats.
//
// Definition (B sequences, T tokens each, C hidden, D head_dim, H query heads, G key/value heads, E experts, K top_k):
//   x = embedding[id]; per layer x += attention(rmsnorm(x)), x += ffn(rmsnorm(x)); loss from rmsnorm(x) * head^T.
//   rmsnorm: x / sqrt(mean(x^2) + norm_epsilon) * gain.
//
//   Attention, per head: causal softmax of q.k / sqrt(length of q), the weighted sum of v; the heads side by side times
//   attn_out. RoPE, half-split: of n numbers the pair (x_i, x_{i+n/2}) is turned by t * rope_theta^(-2i/n).
//   - grouped heads: attn_qkv rows: H query heads, then G key heads, then G value heads, D rows each; q and k through
//     QK-norm, then RoPE; query head h reads key/value head h / (H / G). QK-norm: rmsnorm of each head with the gains
//     q_norm, k_norm [D] (`head`), or of all heads of a token at once with gains [H D], [G D] (`full`).
//   - latent (mla): q = attn_q h, or attn_q_b rmsnorm(attn_q_a h; q_a_norm) if q_rank > 0; per head nope numbers, then
//     rope numbers. a = attn_kv_a h: kv_rank numbers of the latent, then rope numbers of a key that all heads share.
//     attn_kv_b rmsnorm(latent; kv_a_norm): per head nope numbers of its key, then value_dim of its value. RoPE on the
//     rope part of q and on the shared key; a head's key is its nope part, then the shared one.
//
//   swiglu(h; fc1, fc2): fc2 * (silu(gate) * up), gate = the first half of fc1's rows, up = the second.
//   The first dense_layers layers have a dense SwiGLU. The others: z = router * h, s = softmax(z) or sigmoid(z),
//   c_e = s_e + b_e with the router bias b. The experts stand in route_groups groups of neighbours; a group's score is
//   its largest c, or the sum of its two largest; experts of other than the route_groups_kept best groups cannot be
//   chosen. Of the rest the K largest c are the slots, in falling order. Ties: the lowest group, the lowest expert.
//   Slot weight: routed_scaling * s_k, divided by the sum of the chosen s if `renormalize`. Output = sum over slots of
//   weight * expert, plus one shared SwiGLU of width shared_experts * expert_width if shared_experts > 0.
//   With capacity_factor > 0 an expert serves ceil(capacity_factor * T * K / E) (in double, from left to right) slots
//   of each sequence: those of largest s_e (ties: the earlier token), or of the earliest tokens; the weight of the
//   others is 0, no other weight changes.
//
//   Per MoE layer: aux = aux_coefficient * mean over scopes of E * sum_e f_e P_e; the scope is all B*T tokens or each
//   sequence; f_e = share of the scope's slots that chose e, before any is dropped (a constant for the gradient),
//   P_e = mean over the scope's tokens of s_e / sum_j s_j. z = z_coefficient * mean (log sum exp router logits)^2.
//   total = mean cross entropy in nats + sum of aux + sum of z. The router bias has no gradient; nor has any decision.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ng_oracle {

enum class QkNorm { none, head, full };
enum class Gate { softmax, sigmoid };
enum class GroupScore { max, top2_sum };
enum class Balance { batch, sequence };
enum class Drop { probability, position };

struct Mla {
  std::int64_t q_rank = 0;  ///< 0: queries are made from h directly
  std::int64_t kv_rank = 0;
  std::int64_t nope_dim = 0;
  std::int64_t rope_dim = 0;
  std::int64_t value_dim = 0;

  bool present() const { return kv_rank > 0; }
};

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
  QkNorm qk_norm = QkNorm::none;
  Mla mla{};  ///< if present: kv_heads = heads, head_dim = nope_dim + rope_dim
  std::int64_t dense_layers = 0;
  std::int64_t dense_width = 0;
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t expert_width = 0;
  std::int64_t shared_experts = 0;
  Gate gate = Gate::softmax;
  bool renormalize = true;
  double routed_scaling = 1.0;
  std::int64_t route_groups = 1;
  std::int64_t route_groups_kept = 1;
  GroupScore group_score = GroupScore::max;
  double bias_rate = 0.0;  ///< above 0: the router has a bias
  double capacity_factor = 0.0;
  Drop drop = Drop::probability;
  double aux_coefficient = 0.0;
  Balance balance = Balance::batch;
  double z_coefficient = 0.0;
  bool tied_head = false;
  double init_std = 0.02;
  std::int64_t context = 0;
};

/// Parameter name ("layer.0/fc1", ...) to values, row-major in the shape that parameter_shapes gives.
using Parameters = std::map<std::string, std::vector<double>>;

/// Every parameter the configuration has, and its shape: matrices [out, in], expert stacks [E, out, in], gains [C],
/// router biases [E].
std::map<std::string, std::vector<std::int64_t>> parameter_shapes(const ModelConfig& config);

/// Integers by [layer][token][slot]; empty for dense layers. Token = b*T + t.
using SlotValues = std::vector<std::vector<std::vector<int>>>;

struct RouterDecisions {
  SlotValues experts;  ///< chosen, in the order of falling c
  SlotValues kept;     ///< 1: served; 0: dropped
};

struct LossParts {
  double cross_entropy = 0.0;        ///< mean over tokens, nats
  double aux = 0.0;                  ///< summed over layers, coefficient included
  double z = 0.0;                    ///< summed over layers, coefficient included
  double total = 0.0;                ///< cross_entropy + aux + z
  std::vector<double> token_losses;  ///< [B*T], nats
  std::vector<double> logits;        ///< [B*T, V]
  RouterDecisions decisions;
  /// How clear the least clear decision was (group, expert, order of the chosen, drop), as the relative difference of
  /// the two scores; infinite if nothing was to decide. A computation whose scores have half this relative error
  /// decides alike.
  double router_margin = 0.0;
};

/// Slots per expert of a layer, dropped ones included: what moves the router bias.
std::vector<std::int64_t> expert_counts(const ModelConfig& config, const RouterDecisions& decisions,
                                        std::int64_t layer);

/// Forward. ids, targets: [B, T]. `forced`, where given, replaces what the router decides (weights still follow the
/// scores), so that a finite difference never crosses a change of mind.
/// Throws std::invalid_argument if a parameter is missing, surplus or has a wrong size, an id is out of range, or the
/// configuration contradicts itself.
LossParts loss(const ModelConfig& config, const Parameters& parameters, const std::vector<std::int64_t>& ids,
               const std::vector<std::int64_t>& targets, std::int64_t B, std::int64_t T,
               const RouterDecisions* forced = nullptr);

struct LossAndGradients {
  LossParts parts;
  Parameters gradients;  ///< d total / d parameter, same names and shapes
};

/// Forward and gradient through the scalar tape. What the router decides is a constant of the derivative.
LossAndGradients loss_and_gradients(const ModelConfig& config, const Parameters& parameters,
                                    const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& targets,
                                    std::int64_t B, std::int64_t T, const RouterDecisions* forced = nullptr);

/// d total / d parameters[name][index] by the five-point central difference
/// (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h, with the decisions forced: truncation h^4/30 times the fifth derivative.
double finite_difference(const ModelConfig& config, const Parameters& parameters, const std::vector<std::int64_t>& ids,
                         const std::vector<std::int64_t>& targets, std::int64_t B, std::int64_t T,
                         const RouterDecisions& forced, const std::string& name, std::size_t index, double h);

/// RoPE of one vector (even length) at `position`, half-split; in place.
void rotate(std::vector<double>& head, std::int64_t position, double theta);

/// Parameters for tests: matrices N(0, std^2), gains 1 + N(0, 0.1^2), router biases N(0, 0.1^2), every value
/// representable in FP32.
Parameters random_parameters(const ModelConfig& config, std::uint64_t seed, double std);

/// `count` tokens uniform in [0, vocabulary).
std::vector<std::int64_t> random_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed);

}  // namespace ng_oracle
