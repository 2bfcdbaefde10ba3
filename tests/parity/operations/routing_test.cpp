// SPDX-License-Identifier: Apache-2.0
//
// Claim: rows move to the experts and back, with and without dropped slots and padding, as on the CPU backend, to the
// byte: f32 and bf16, wide and ragged rows, strides, special values. Alone: bin/operations_on_host
// --gtest_filter='*Moves*'
#include "operations/parity.hpp"

namespace ng_test {
namespace {

using namespace ng;

struct MoveCase {
  std::int64_t tokens, experts, slots, cols;
  double capacity;
  std::int64_t alignment;
  std::int64_t padding;  ///< unused elements behind each row
  Dtype rows_dtype, token_dtype;
  Values kind;
};

Outputs run(const MoveCase& c, Backend& b, std::uint32_t seed) {
  RouterSpec spec;
  spec.experts = c.experts;
  spec.top_k = c.slots;
  spec.capacity_factor = c.capacity;
  spec.row_alignment = c.alignment;
  const Tensor logits = tensor_of(b, Dtype::f32, c.tokens, c.experts, Values::normal, seed);
  const Routing r = b.route(spec, logits.view, Placement{3 * c.tokens, c.experts, c.tokens, 0, nullptr});

  const auto tensor = [&](Dtype dtype, std::int64_t rows, std::uint32_t offset) {
    return tensor_of(b, dtype, rows, c.cols, c.kind, seed + offset, c.padding);
  };
  const Tensor x = tensor(c.rows_dtype, c.tokens, 1), y = tensor(c.rows_dtype, r.rows, 2);
  b.permute(r, x.view, y.view);
  const Tensor expert_rows = tensor(c.rows_dtype, r.rows, 3), combined = tensor(c.token_dtype, c.tokens, 4);
  b.combine(r, expert_rows.view, combined.view);
  const Tensor dy = tensor(c.token_dtype, c.tokens, 5), d_rows = tensor(c.rows_dtype, r.rows, 6);
  const Tensor d_weight = b.tensor(Dtype::f32, c.tokens, c.slots);
  b.combine_backward(r, expert_rows.view, dy.view, d_rows.view, d_weight.view);
  const Tensor dx = tensor(c.token_dtype, c.tokens, 7), d_sum = tensor(c.token_dtype, c.tokens, 8);
  b.permute_backward(r, expert_rows.view, dx.view, false);
  b.permute_backward(r, expert_rows.view, d_sum.view, true);

  Outputs out;
  out.add(b, "permuted", y.view);
  out.add(b, "combined", combined.view);
  out.add(b, "gradient of rows", d_rows.view);
  out.add(b, "gradient of weights", d_weight.view);
  out.add(b, "gradient of tokens", dx.view);
  out.add(b, "added gradient of tokens", d_sum.view);
  return out;
}

TEST_F(OperationParity, MovesOfRows) {
  std::uint32_t seed = 1;
  for (const Dtype rows_dtype : {Dtype::f32, Dtype::bf16})
    for (const Dtype token_dtype : {Dtype::f32, Dtype::bf16})
      for (const std::int64_t cols : {1, 19, 64, 264, 520})
        for (const std::int64_t slots : {1, 3, 8})
          for (const double capacity : {0.0, 0.6}) {
            const std::int64_t padding = cols == 64 ? 8 : cols == 264 ? 4 : cols == 520 ? 0 : 3;
            const MoveCase c{23,          9,
                             slots,       cols,
                             capacity,    slots == 3 ? 32 : 1 + 7 * (cols % 2),
                             padding,     rows_dtype,
                             token_dtype, cols == 520 ? Values::special : Values::wide};
            seed += 20;
            expect_parity("moves of " + std::to_string(cols) + " columns, " + std::to_string(slots) + " slots",
                          [&](Backend& b) { return run(c, b, seed); });
          }
}

TEST_F(OperationParity, MovesOfNothing) {
  for (const auto& [tokens, cols] : {std::pair<std::int64_t, std::int64_t>{0, 16}, {1, 16}, {5, 0}}) {
    const MoveCase c{tokens, 4, 2, cols, 0.0, 8, 0, Dtype::bf16, Dtype::bf16, Values::normal};
    expect_parity("moves of nothing", [&](Backend& b) { return run(c, b, 7); });
  }
}

}  // namespace
}  // namespace ng_test
