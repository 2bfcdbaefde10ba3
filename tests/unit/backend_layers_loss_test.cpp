// SPDX-License-Identifier: Apache-2.0
//
// Claim: cross entropy and its gradient, long sums, AdamW and initial values are those of backend.hpp: bit for bit
// where an order is written, within derived bounds of double elsewhere. Alone: bin/unit_backend_layers
// --gtest_filter='Loss*:Sums*:Optimizer*:Normal*'
#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

double plain_loss(const Doubles& logits, std::size_t V, const std::vector<std::int32_t>& targets, Doubles* token_loss) {
  double total = 0.0;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    double sum = 0.0;
    for (std::size_t v = 0; v < V; ++v) sum += std::exp(logits[t * V + v]);
    const double loss = std::log(sum) - logits[t * V + static_cast<std::size_t>(targets[t])];
    if (token_loss != nullptr) token_loss->push_back(loss);
    total += loss;
  }
  return total;
}

TEST(Loss, CrossEntropyAndItsDerivative) {
  const auto b = cpu();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    for (const std::int64_t V : {1, 9, 256}) {
      const std::vector<std::int32_t> targets = {0, static_cast<std::int32_t>(V - 1), static_cast<std::int32_t>(V / 2)};
      const Tensor logits = random_tensor(*b, dtype, 3, V, 1, 2.0), target = integers(*b, targets);
      const Tensor loss = b->tensor(Dtype::f32, 1, 3), d = b->tensor(dtype, 3, V);
      b->cross_entropy(logits.view, target.view, 0.25f, loss.view, d.view);
      Doubles expected;
      const Doubles at = values_of(*b, logits);
      plain_loss(at, static_cast<std::size_t>(V), targets, &expected);
      // The sum's V/8 roundings and exp's 4 enter through log; values below 16.
      const double relative = (40.0 + static_cast<double>(V) / 8.0) * kHalfUlpF32;
      expect_near(
          values_of(*b, loss), expected, [&](std::size_t) { return 2.0 * relative; }, "loss");
      const Doubles gradient = differences(
          [&](const Doubles& v) { return 0.25 * plain_loss(v, static_cast<std::size_t>(V), targets, nullptr); }, at);
      expect_near(
          values_of(*b, d), gradient,
          [&](std::size_t i) { return 0.25 * relative + 1.01 * half_ulp(dtype) * std::abs(gradient[i]) + 1e-8; },
          "d_logits");

      const Tensor only = b->tensor(Dtype::f32, 1, 3);
      b->cross_entropy(logits.view, target.view, 0.25f, only.view, TensorView{});
      EXPECT_EQ(bytes_of(*b, only.view), bytes_of(*b, loss.view));
      b->cross_entropy(logits.view, target.view, 0.25f, only.view, logits.view);  // in place
      EXPECT_EQ(bytes_of(*b, logits.view), bytes_of(*b, d.view));
    }
  }
}

TEST(Loss, ExtremeLogits) {
  const auto b = cpu();
  const Tensor logits = from_values(*b, Dtype::f32, 2, 3, {3e38, -3e38, 0, -1e30, -1e30, -1e30});
  const Tensor target = integers(*b, {0, 2}), loss = b->tensor(Dtype::f32, 1, 2), d = b->tensor(Dtype::f32, 2, 3);
  b->cross_entropy(logits.view, target.view, 1.0f, loss.view, d.view);
  EXPECT_EQ(loss.view.as<float>()[0], 0.0f);
  EXPECT_NEAR(static_cast<double>(loss.view.as<float>()[1]), std::log(3.0), 4.0 * kHalfUlpF32);
  EXPECT_EQ(d.view.as<float>()[0], 0.0f);
  const Tensor wrong = integers(*b, {3, 0});
  EXPECT_ANY_THROW(b->cross_entropy(logits.view, wrong.view, 1.0f, loss.view, d.view));
}

double written_sum(const Doubles& terms) {
  std::vector<double> level;
  for (std::size_t first = 0; first < terms.size(); first += 256) {
    double sum = 0.0;
    for (std::size_t i = first; i < std::min(terms.size(), first + 256); ++i) sum += terms[i];
    level.push_back(sum);
  }
  while (level.size() > 1) {
    std::vector<double> next;
    for (std::size_t i = 0; i + 1 < level.size(); i += 2) next.push_back(level[i] + level[i + 1]);
    if (level.size() % 2 != 0) next.push_back(level.back());
    level = next;
  }
  return level.empty() ? 0.0 : level[0];
}

TEST(Sums, FollowTheTree) {
  const auto b = cpu();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    for (const auto& [rows, cols] :
         {std::pair<std::int64_t, std::int64_t>{0, 5}, {1, 1}, {3, 100}, {1, 2048}, {7, 5000}, {1, 70000}}) {
      const Tensor wide = random_tensor(*b, dtype, rows, cols + 3, 2);
      for (const TensorView& x : {wide.view, col_slice(wide.view, 1, cols)}) {
        Doubles terms = values_of(*b, x);
        EXPECT_EQ(b->sum(x), written_sum(terms));
        for (double& t : terms) t *= t;
        EXPECT_EQ(b->sum_of_squares(x), written_sum(terms));
      }
    }
  }
}

TEST(Optimizer, AdamWFollowsTheWrittenOrder) {
  const auto b = cpu();
  const std::int64_t n = 1003;
  for (const bool decay : {true, false}) {
    const Tensor p = random_tensor(*b, Dtype::f32, 1, n, 3), g = random_tensor(*b, Dtype::f32, 1, n, 4, 0.01);
    const Tensor m = random_tensor(*b, Dtype::f32, 1, n, 5, 0.01), v = random_tensor(*b, Dtype::f32, 1, n, 6, 0.01);
    for (std::int64_t i = 0; i < n; ++i) v.view.as<float>()[i] = std::abs(v.view.as<float>()[i]);
    v.view.as<float>()[0] = m.view.as<float>()[0] = g.view.as<float>()[0] = 0.0f;
    ng::AdamWSpec spec;
    const ng::StepScalars now{3e-3f, 0.7f, 1.9f, 3.3f};
    std::vector<float> pe(p.view.as<float>(), p.view.as<float>() + n), me(m.view.as<float>(), m.view.as<float>() + n);
    std::vector<float> ve(v.view.as<float>(), v.view.as<float>() + n);
    for (std::size_t i = 0; i < pe.size(); ++i) {
      const float grad = now.clip_factor * g.view.as<float>()[i];
      const float m_old = spec.beta1 * me[i], m_new = (1.0f - spec.beta1) * grad;
      me[i] = m_old + m_new;
      const float v_old = spec.beta2 * ve[i], scaled = (1.0f - spec.beta2) * grad, v_new = scaled * grad;
      ve[i] = v_old + v_new;
      const float up = me[i] * now.bias_correction1, root = std::sqrt(ve[i] * now.bias_correction2) + spec.epsilon;
      const float shrink = (decay ? spec.weight_decay : 0.0f) * pe[i];
      const float change = now.learning_rate * (up / root + shrink);
      pe[i] = pe[i] - change;
    }
    b->adamw(spec, now, {p.view, g.view, m.view, v.view, decay});
    expect_same(values_of(*b, p), Doubles(pe.begin(), pe.end()), "master");
    expect_same(values_of(*b, m), Doubles(me.begin(), me.end()), "first");
    expect_same(values_of(*b, v), Doubles(ve.begin(), ve.end()), "second");
    EXPECT_EQ(m.view.as<float>()[0], 0.0f);  // nothing known, nothing changed but by decay
  }
}

TEST(Normal, ElementsAreAFunctionOfTheirLogicalPlace) {
  const auto b = cpu();
  const ng::RandomStream stream{11, ng::RandomPurpose::initial_weights, 77, 0};
  const Tensor whole = b->tensor(Dtype::f32, 40, 51);
  b->fill_normal(whole.view, stream, 0.02);
  const Tensor parts = b->tensor(Dtype::f32, 40, 51);
  b->fill_normal(col_slice(row_slice(parts.view, 0, 13), 0, 51), stream, 0.02);
  b->fill_normal(col_slice(row_slice(parts.view, 13, 27), 0, 20), stream, 0.02);
  b->fill_normal(col_slice(row_slice(parts.view, 13, 27), 20, 31), stream, 0.02);
  EXPECT_EQ(bytes_of(*b, whole.view), bytes_of(*b, parts.view));
  for (std::uint64_t i : {0u, 1u, 2u, 777u, 2039u}) {
    const ng::PhiloxBlock block = ng::random_block(stream, i / 2);
    const double value = ng::normal_from_bits(block.word[2 * (i % 2)], block.word[2 * (i % 2) + 1]) * 0.02;
    EXPECT_EQ(whole.view.as<float>()[i], static_cast<float>(value)) << i;
  }
  const Tensor many = b->tensor(Dtype::f32, 1, 100000);
  b->fill_normal(many.view, stream, 1.0);
  // Standard errors of mean and variance: 1/sqrt(n), sqrt(2/n); five of them.
  EXPECT_NEAR(b->sum(many.view) / 1e5, 0.0, 5.0 * 0.00317);
  EXPECT_NEAR(b->sum_of_squares(many.view) / 1e5, 1.0, 5.0 * 0.00448);
}

}  // namespace
}  // namespace layers_test
