// SPDX-License-Identifier: Apache-2.0
//
// Claim: every field of a Routing, on the device and on the host, and the gradients of the logits are the CPU
// backend's bytes: for every gate, bias, normalization, scaling, group rule, capacity, balance and alignment, with
// ties, empty experts, special values, no token or one, strides, and micro-batches. Alone: bin/operations_on_host
// --gtest_filter='*Router*'
#include "narrowgauge/numerics/router.hpp"

#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

struct RouterCase {
  RouterSpec spec{};
  std::int64_t tokens = 0;
  Values kind = Values::normal;
  bool bias = false;
  bool ties = false;      ///< logits and biases of few values
  std::int64_t row0 = 0;  ///< of the micro-batch in a step of three times its tokens
  bool row_ids = false;   ///< tokens that lie apart in the step
  std::uint32_t seed = 1;
};

/// A tensor of f32 of multiples of 1/2 in [-1, 1].
Tensor few_values(Backend& backend, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::vector<float> list = values(Values::normal, rows * cols, seed);
  for (float& x : list) x = static_cast<float>(static_cast<int>(x)) * 0.5f;
  Tensor tensor = backend.tensor(Dtype::f32, rows, cols);
  backend.upload(tensor.view, list.data());
  return tensor;
}

Outputs run(const RouterCase& c, Backend& b) {
  const std::int64_t T = c.tokens, E = c.spec.experts, K = c.spec.top_k;
  const Tensor logits = c.ties ? few_values(b, T, E, c.seed) : tensor_of(b, Dtype::f32, T, E, c.kind, c.seed, 3);
  const Tensor bias = !c.bias  ? Tensor{}
                      : c.ties ? few_values(b, 1, E, c.seed + 1)
                               : tensor_of(b, Dtype::f32, 1, E, Values::normal, c.seed + 1);
  std::vector<std::int64_t> ids;
  for (std::int64_t t = 0; t < T; ++t) ids.push_back(3 * t + 1);
  const Tensor row_ids = b.tensor(Dtype::i64, 1, T);
  b.upload(row_ids.view, ids.data());
  const Placement placement{3 * T, E, c.row0, 0, c.row_ids ? row_ids.view.as<const std::int64_t>() : nullptr};
  const Routing r = b.route(c.spec, logits.view, placement, bias.view);

  const Tensor d_weight = tensor_of(b, Dtype::f32, T, K, Values::normal, c.seed + 2);
  const Tensor d_logits = tensor_of(b, Dtype::f32, T, E, Values::special, c.seed + 3, 2);
  b.route_backward(c.spec, r, d_weight.view, 0.375f, d_logits.view);

  Outputs out;
  out.add(b, "probabilities", r.probabilities.view);
  out.add(b, "scores", r.scores.view);
  out.add(b, "shares", r.shares.view);
  out.add(b, "expert", r.expert.view);
  out.add(b, "full_weight", r.full_weight.view);
  out.add(b, "weight", r.weight.view);
  out.add(b, "row_of_slot", r.row_of_slot.view);
  out.add(b, "token_of_row", r.token_of_row.view);
  out.add(b, "slot_of_row", r.slot_of_row.view);
  out.add(b, "log_sum_exp", r.log_sum_exp.view);
  out.add("offsets", r.groups.offsets);
  out.add("counts", r.counts);
  out.add("sequence_counts", r.sequence_counts);
  out.add("dropped and rows", std::vector<std::int64_t>{r.dropped, r.rows});
  if (c.kind != Values::special) {  // which NaN a sum is is the machine's
    out.add("aux_loss", r.aux_loss);
    out.add("z_loss", r.z_loss);
    out.add("entropy", r.entropy);
  }
  out.add(b, "d_logits", d_logits.view);
  return out;
}

std::string name_of(const RouterCase& c) {
  const RouterSpec& s = c.spec;
  return "T " + std::to_string(c.tokens) + " E " + std::to_string(s.experts) + " K " + std::to_string(s.top_k) +
         (s.gate == Gate::sigmoid ? " sigmoid" : " softmax") + (c.bias ? " bias" : "") +
         (s.renormalize ? " renormalize" : "") + " groups " + std::to_string(s.groups_kept) + " of " +
         std::to_string(s.groups) + " capacity " + std::to_string(s.capacity_factor) +
         (s.drop == Drop::position ? " by position" : "") + (s.balance == Balance::sequence ? " by sequence" : "") +
         " of " + std::to_string(s.sequence_length) + " alignment " + std::to_string(s.row_alignment) +
         (c.ties ? " ties" : "");
}

RouterSpec spec_of(std::int64_t E, std::int64_t K) {
  RouterSpec spec;
  spec.experts = E;
  spec.top_k = K;
  spec.aux_coefficient = 0.0125f;
  spec.z_coefficient = 0.001f;
  return spec;
}

class RouterParity : public OperationParity {
 protected:
  static void expect(const RouterCase& c) {
    expect_parity(name_of(c), [&](Backend& b) { return run(c, b); });
  }
};

TEST_F(RouterParity, EveryOption) {
  std::uint32_t seed = 10;
  for (const Gate gate : {Gate::softmax, Gate::sigmoid})
    for (const bool bias : {false, true})
      for (const bool renormalize : {false, true})
        for (const std::int64_t groups : {1, 4})
          for (const double capacity : {0.0, 0.8})
            for (const Balance balance : {Balance::batch, Balance::sequence})
              for (const bool ties : {false, true}) {
                RouterCase c;
                c.spec = spec_of(24, 3);
                c.spec.gate = gate;
                c.spec.renormalize = renormalize;
                c.spec.routed_scaling = renormalize == bias ? 2.5f : 1.0f;
                c.spec.groups = groups;
                c.spec.groups_kept = groups / 2 + groups % 2;
                c.spec.group_score = bias ? GroupScore::top2_sum : GroupScore::max;
                c.spec.capacity_factor = capacity;
                c.spec.drop = renormalize ? Drop::probability : Drop::position;
                c.spec.balance = balance;
                c.spec.sequence_length = 90;
                c.spec.row_alignment = ties ? 1 : 32;
                c.tokens = 180;
                c.bias = bias;
                c.ties = ties;
                c.row0 = ties ? 180 : 0;
                c.row_ids = !ties && bias;
                c.seed = ++seed;
                expect(c);
              }
}

// More than one piece of a sequence, leaf of a sum and warp of experts; experts that nobody chooses.
TEST_F(RouterParity, EveryShape) {
  std::uint32_t seed = 200;
  for (const auto& [E, K] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                             {2, 2},
                             {5, 1},
                             {8, 2},
                             {33, 6},
                             {64, 8},
                             {130, 4},
                             {256, 8},
                             {300, 9}})
    for (const auto& [tokens, length] :
         {std::pair<std::int64_t, std::int64_t>{0, 0}, {0, 8}, {1, 0}, {1, 1}, {70, 0}, {600, 300}, {1100, 0}}) {
      RouterCase c;
      c.spec = spec_of(E, K);
      c.spec.sequence_length = length;
      c.spec.balance = length > 0 ? Balance::sequence : Balance::batch;
      c.spec.row_alignment = tokens == 600 ? 128 : tokens == 70 ? 1 : 32;
      c.spec.capacity_factor = E % 2 == 0 ? 0.7 : 0.0;
      c.spec.gate = K % 2 == 0 ? Gate::softmax : Gate::sigmoid;
      c.tokens = tokens;
      c.kind = tokens == 70 ? Values::wide : Values::normal;
      c.row0 = tokens;
      c.seed = ++seed;
      expect(c);
    }
}

// Without coefficients there are no losses; equal scores everywhere are dropped by token.
TEST_F(RouterParity, EqualScoresAndNoLosses) {
  for (const Drop drop : {Drop::probability, Drop::position}) {
    RouterCase c;
    c.spec = spec_of(4, 2);
    c.spec.aux_coefficient = c.spec.z_coefficient = 0.0f;
    c.spec.capacity_factor = 0.3;
    c.spec.drop = drop;
    c.tokens = 500;
    expect_parity("equal scores", [&](Backend& b) {
      Tensor logits = b.zeros(Dtype::f32, c.tokens, 4);
      const Routing r = b.route(c.spec, logits.view, logits.view.placement);
      Outputs out;
      out.add(b, "expert", r.expert.view);
      out.add(b, "row_of_slot", r.row_of_slot.view);
      out.add(b, "weight", r.weight.view);
      out.add("dropped", std::vector<std::int64_t>{r.dropped});
      return out;
    });
  }
}

// NaN, infinities and huge logits: the choice is a choice, and the same one; a bias can prefer scores of 0.
TEST_F(RouterParity, SpecialValues) {
  std::uint32_t seed = 400;
  for (const Gate gate : {Gate::softmax, Gate::sigmoid})
    for (const bool bias : {false, true})
      for (const std::int64_t E : {6, 64}) {
        RouterCase c;
        c.spec = spec_of(E, 3);
        c.spec.gate = gate;
        c.spec.groups = 2;
        c.spec.groups_kept = bias ? 1 : 2;
        c.spec.group_score = GroupScore::top2_sum;
        c.spec.capacity_factor = 0.5;
        c.tokens = 150;
        c.kind = Values::special;
        c.bias = bias;
        c.seed = ++seed;
        expect(c);
      }
}

}  // namespace
}  // namespace ng_test
