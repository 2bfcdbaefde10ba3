// SPDX-License-Identifier: Apache-2.0
//
// Claim: route chooses the largest probabilities with ties to the lower expert, orders rows by (expert, token, slot)
// with padding, and its losses and gradients are those of the formulas in double; rows move there and back as
// backend.hpp says; padding changes no bit; two micro-batches see the logical slots of the whole. Alone:
// bin/unit_backend_layers --gtest_filter='Routing*'
#include <algorithm>
#include <numeric>

#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

ng::RouterSpec spec_of(std::int64_t E, std::int64_t K, bool renormalize, std::int64_t alignment = 4) {
  ng::RouterSpec spec;
  spec.experts = E;
  spec.top_k = K;
  spec.renormalize = renormalize;
  spec.aux_coefficient = 0.25f;
  spec.z_coefficient = 0.125f;
  spec.row_alignment = alignment;
  return spec;
}

ng::Placement whole(const TensorView& v) {
  return {v.rows, v.cols, 0, 0, nullptr};
}

struct Plain {
  Doubles p, weight, lse;
  std::vector<std::size_t> chosen;
  Doubles share;
  double aux = 0.0, z = 0.0, entropy = 0.0;
};

/// The router in double. `forced`: the choice to use instead of the largest.
Plain plain_route(const ng::RouterSpec& spec, const Doubles& logits, const std::vector<std::size_t>* forced = nullptr,
                  const Doubles* forced_share = nullptr) {
  const auto E = static_cast<std::size_t>(spec.experts), K = static_cast<std::size_t>(spec.top_k);
  const std::size_t T = logits.size() / E;
  Plain r;
  r.share.assign(E, 0.0);
  for (std::size_t t = 0; t < T; ++t) {
    double sum = 0.0;
    for (std::size_t e = 0; e < E; ++e) sum += std::exp(logits[t * E + e]);
    r.lse.push_back(std::log(sum));
    for (std::size_t e = 0; e < E; ++e) {
      r.p.push_back(std::exp(logits[t * E + e]) / sum);
      r.entropy -= r.p.back() * std::log(r.p.back()) / static_cast<double>(T);
    }
    std::vector<std::size_t> order(E);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t c) { return r.p[t * E + a] > r.p[t * E + c]; });
    for (std::size_t k = 0; k < K; ++k) r.chosen.push_back(forced != nullptr ? (*forced)[t * K + k] : order[k]);
    double total = 0.0;
    for (std::size_t k = 0; k < K; ++k) total += r.p[t * E + r.chosen[t * K + k]];
    for (std::size_t k = 0; k < K; ++k) {
      r.weight.push_back(r.p[t * E + r.chosen[t * K + k]] / (spec.renormalize ? total : 1.0));
      r.share[r.chosen[t * K + k]] += 1.0 / static_cast<double>(T * K);
    }
    r.z += static_cast<double>(spec.z_coefficient) * r.lse[t] * r.lse[t] / static_cast<double>(T);
  }
  if (forced_share != nullptr) r.share = *forced_share;
  for (std::size_t e = 0; e < E; ++e) {
    double mean = 0.0;
    for (std::size_t t = 0; t < T; ++t) mean += r.p[t * E + e] / static_cast<double>(T);
    r.aux += static_cast<double>(spec.aux_coefficient) * static_cast<double>(E) * r.share[e] * mean;
  }
  return r;
}

TEST(Routing, IsThatOfDoubleLoops) {
  const auto b = cpu();
  for (const bool renormalize : {false, true}) {
    for (const auto& [E, K] : {std::pair<std::int64_t, std::int64_t>{8, 2}, {5, 1}, {13, 13}, {1, 1}}) {
      for (const std::int64_t T : {1, 300}) {
        const ng::RouterSpec spec = spec_of(E, K, renormalize);
        const Tensor logits = random_tensor(*b, Dtype::f32, T, E, 1, 2.0);
        const ng::Routing r = b->route(spec, logits.view, whole(logits.view));
        const Plain plain = plain_route(spec, values_of(*b, logits));
        // Softmax: exp within 4 half units and that of the shifted argument (below 16: 8 more), sums of E/8 + 4
        // positive terms, one division; weights one sum and division more.
        const double relative = (30.0 + static_cast<double>(E)) * kHalfUlpF32;
        const auto within = [&](const Doubles& v) {
          return [&v, relative](std::size_t i) { return relative * std::abs(v[i]); };
        };
        expect_near(values_of(*b, r.probabilities), plain.p, within(plain.p), "probabilities");
        expect_near(values_of(*b, r.weight), plain.weight, within(plain.weight), "weight");
        expect_near(
            values_of(*b, r.log_sum_exp), plain.lse, [&](std::size_t) { return 10.0 * relative; }, "log_sum_exp");
        expect_same(values_of(*b, r.expert), Doubles(plain.chosen.begin(), plain.chosen.end()), "expert");
        EXPECT_NEAR(r.aux_loss, plain.aux, relative * plain.aux);
        EXPECT_NEAR(r.z_loss, plain.z, 40.0 * relative * std::max(plain.z, 0.1));
        EXPECT_NEAR(r.entropy, plain.entropy, 20.0 * relative);
        if (K == 1 && renormalize) {
          for (const double w : values_of(*b, r.weight)) EXPECT_EQ(w, 1.0);
        }
      }
    }
  }
}

TEST(Routing, RowsAreOrderedByExpertTokenSlotAndPadded) {
  const auto b = cpu();
  for (const std::int64_t alignment : {1, 4, 32}) {
    const std::int64_t T = 57, E = 7, K = 3;
    const Tensor logits = random_tensor(*b, Dtype::f32, T, E, 2);
    const ng::Placement place{1000, E, 400, 0, nullptr};
    const ng::Routing r = b->route(spec_of(E, K, true, alignment), logits.view, place);
    const Doubles expert = values_of(*b, r.expert), row_of_slot = values_of(*b, r.row_of_slot);
    const Doubles token_of_row = values_of(*b, r.token_of_row), slot_of_row = values_of(*b, r.slot_of_row);
    Doubles padding_ids;
    std::size_t row = 0, real = 0;
    ASSERT_EQ(r.groups.offsets.size(), static_cast<std::size_t>(E + 1));
    for (std::int64_t e = 0; e < E; ++e) {
      EXPECT_EQ(r.groups.offsets[static_cast<std::size_t>(e)], static_cast<std::int64_t>(row));
      std::int64_t count = 0;
      for (std::int64_t t = 0; t < T; ++t)
        for (std::int64_t k = 0; k < K; ++k) {
          const auto slot = static_cast<std::size_t>(t * K + k);
          if (expert[slot] != static_cast<double>(e)) continue;
          EXPECT_EQ(row_of_slot[slot], static_cast<double>(row));
          EXPECT_EQ(token_of_row[row], static_cast<double>(t));
          EXPECT_EQ(slot_of_row[row], static_cast<double>((400 + t) * K + k));
          ++row, ++count, ++real;
        }
      EXPECT_EQ(r.counts[static_cast<std::size_t>(e)], count);
      for (; row % static_cast<std::size_t>(alignment) != 0; ++row) {
        EXPECT_EQ(token_of_row[row], -1.0);
        padding_ids.push_back(slot_of_row[row]);  // behind all slots of the step, each its own
        EXPECT_GE(padding_ids.back(), 1000.0 * static_cast<double>(K));
      }
    }
    std::sort(padding_ids.begin(), padding_ids.end());
    EXPECT_TRUE(std::adjacent_find(padding_ids.begin(), padding_ids.end()) == padding_ids.end());
    EXPECT_EQ(real, static_cast<std::size_t>(T * K));
    EXPECT_EQ(r.rows, static_cast<std::int64_t>(row));
    EXPECT_EQ(r.groups.offsets.back(), r.rows);
  }
}

TEST(Routing, TiesGoToTheLowerExpert) {
  const auto b = cpu();
  const Tensor logits = from_values(*b, Dtype::f32, 2, 5, {1, 3, 1, 3, 3, 0, 0, 0, 0, 0});
  const ng::Routing r = b->route(spec_of(5, 3, true), logits.view, whole(logits.view));
  expect_same(values_of(*b, r.expert), {1, 3, 4, 0, 1, 2}, "expert");
}

TEST(Routing, NothingIsRoutedNowhere) {
  const auto b = cpu();
  const Tensor logits = b->tensor(Dtype::f32, 0, 4), d = b->tensor(Dtype::f32, 0, 4), dw = b->tensor(Dtype::f32, 0, 2);
  const ng::Routing r = b->route(spec_of(4, 2, true), logits.view, whole(logits.view));
  EXPECT_EQ(r.rows, 0);
  EXPECT_EQ(r.aux_loss, 0.0);
  EXPECT_EQ(r.z_loss, 0.0);
  b->route_backward(spec_of(4, 2, true), r, dw.view, 1.0f, d.view);
}

TEST(Routing, BackwardIsTheDerivative) {
  const auto b = cpu();
  for (const bool renormalize : {false, true}) {
    for (const auto& [E, K] : {std::pair<std::int64_t, std::int64_t>{6, 2}, {5, 1}, {4, 4}, {9, 3}}) {
      const std::int64_t T = 4;
      const ng::RouterSpec spec = spec_of(E, K, renormalize);
      const Tensor logits = random_tensor(*b, Dtype::f32, T, E, 3), dw = random_tensor(*b, Dtype::f32, T, K, 4);
      const Tensor d_logits = b->tensor(Dtype::f32, T, E);
      const ng::Routing r = b->route(spec, logits.view, whole(logits.view));
      const double loss_scale = 0.5;
      b->route_backward(spec, r, dw.view, static_cast<float>(loss_scale), d_logits.view);
      const Doubles at = values_of(*b, logits), weights = values_of(*b, dw);
      const Plain base = plain_route(spec, at);
      const Doubles expected = differences(
          [&](const Doubles& v) {  // the choice and the shares of the load are constants
            const Plain p = plain_route(spec, v, &base.chosen, &base.share);
            return weighted_sum(p.weight, weights) + loss_scale * (p.aux + p.z);
          },
          at);
      // A dozen roundings and the softmax's 30, of terms below 4.
      expect_near(
          values_of(*b, d_logits), expected, [](std::size_t) { return 4.0 * 42.0 * kHalfUlpF32 + 1e-7; }, "d_logits");
    }
  }
}

TEST(Routing, OneRenormalisedSlotHasNoGradient) {
  const auto b = cpu();
  ng::RouterSpec spec = spec_of(6, 1, true);
  spec.aux_coefficient = spec.z_coefficient = 0.0f;
  const Tensor logits = random_tensor(*b, Dtype::f32, 9, 6, 5), dw = random_tensor(*b, Dtype::f32, 9, 1, 6, 1e6);
  const Tensor d_logits = b->tensor(Dtype::f32, 9, 6);
  const ng::Routing r = b->route(spec, logits.view, whole(logits.view));
  b->route_backward(spec, r, dw.view, 1.0f, d_logits.view);
  for (const double d : values_of(*b, d_logits)) EXPECT_EQ(d, 0.0);
}

struct Moved {
  std::vector<std::byte> y, dx, d_weight;
};

/// Rows to the experts, times two, and back, with the gradients. Bytes of all that is in token order.
Moved move(Backend& b, Dtype dtype, std::int64_t alignment) {
  const std::int64_t T = 23, E = 5, K = 2, C = 37;
  const Tensor logits = random_tensor(b, Dtype::f32, T, E, 7), x = random_tensor(b, dtype, T, C, 8);
  const ng::Routing r = b.route(spec_of(E, K, true, alignment), logits.view, whole(logits.view));
  const Tensor rows = b.tensor(dtype, r.rows, C), out = b.tensor(dtype, r.rows, C), y = b.tensor(dtype, T, C);
  const Tensor dy = random_tensor(b, dtype, T, C, 9), d_out = b.tensor(dtype, r.rows, C),
               dw = b.tensor(Dtype::f32, T, K);
  const Tensor dx = random_tensor(b, dtype, T, C, 10);
  b.permute(r, x.view, rows.view);
  b.add(rows.view, rows.view, out.view);
  b.combine(r, out.view, y.view);
  b.combine_backward(r, out.view, dy.view, d_out.view, dw.view);
  b.permute_backward(r, d_out.view, dx.view, true);
  return {bytes_of(b, y.view), bytes_of(b, dx.view), bytes_of(b, dw.view)};
}

TEST(Routing, PaddingChangesNoBit) {
  const auto b = cpu();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const Moved tight = move(*b, dtype, 1), loose = move(*b, dtype, 64);
    EXPECT_EQ(tight.y, loose.y);
    EXPECT_EQ(tight.dx, loose.dx);
    EXPECT_EQ(tight.d_weight, loose.d_weight);
  }
}

TEST(Routing, RowsMoveAsWritten) {
  const auto b = cpu();
  const std::int64_t T = 11, E = 4, C = 19;
  for (const std::int64_t K : {1, 3}) {
    const Tensor logits = random_tensor(*b, Dtype::f32, T, E, 11), x = random_tensor(*b, Dtype::f32, T, C, 12);
    const ng::Routing r = b->route(spec_of(E, K, false, 8), logits.view, whole(logits.view));
    const Tensor rows = random_tensor(*b, Dtype::f32, r.rows, C, 13), y = b->tensor(Dtype::f32, T, C);
    b->permute(r, x.view, rows.view);
    const Doubles token = values_of(*b, r.token_of_row), xs = values_of(*b, x), moved = values_of(*b, rows);
    for (std::size_t row = 0; row < token.size(); ++row)
      for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c) {
        const double expected =
            token[row] < 0 ? 0.0 : xs[static_cast<std::size_t>(token[row]) * static_cast<std::size_t>(C) + c];
        EXPECT_EQ(moved[row * static_cast<std::size_t>(C) + c], expected);
      }

    const Tensor result = random_tensor(*b, Dtype::f32, r.rows, C, 14), dy = random_tensor(*b, Dtype::f32, T, C, 15);
    const Tensor d_result = random_tensor(*b, Dtype::f32, r.rows, C, 16), dw = b->tensor(Dtype::f32, T, K);
    const Tensor dx = random_tensor(*b, Dtype::f32, T, C, 17);
    const float* const weight = r.weight.view.as<float>();
    const std::int32_t* const row_of = r.row_of_slot.view.as<std::int32_t>();
    b->combine(r, result.view, y.view);
    b->combine_backward(r, result.view, dy.view, d_result.view, dw.view);
    const Doubles before = values_of(*b, dx);
    b->permute_backward(r, d_result.view, dx.view, true);
    const Tensor fresh = b->tensor(Dtype::f32, T, C);
    b->permute_backward(r, d_result.view, fresh.view, false);
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t c = 0; c < C; ++c) {
        float sum = 0.0f, back = 0.0f;
        for (std::int64_t k = 0; k < K; ++k) {
          const std::int64_t row = row_of[t * K + k];
          const float w = weight[t * K + k];
          sum = std::fma(w, result.view.as<float>()[row * C + c], sum);
          EXPECT_EQ(d_result.view.as<float>()[row * C + c], w * dy.view.as<float>()[t * C + c]);
          const float d = d_result.view.as<float>()[row * C + c];
          back = k == 0 ? d : back + d;
        }
        EXPECT_EQ(y.view.as<float>()[t * C + c], sum);
        EXPECT_EQ(fresh.view.as<float>()[t * C + c], back);
        EXPECT_EQ(dx.view.as<float>()[t * C + c],
                  static_cast<float>(before[static_cast<std::size_t>(t * C + c)]) + back);
      }
      for (std::int64_t k = 0; k < K; ++k) {
        float chain[8] = {};
        for (std::int64_t c = 0; c < C; ++c)
          chain[c % 8] = std::fma(dy.view.as<float>()[t * C + c], result.view.as<float>()[row_of[t * K + k] * C + c],
                                  chain[c % 8]);
        EXPECT_EQ(dw.view.as<float>()[t * K + k],
                  ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7])));
      }
    }
    const Doubles d = values_of(*b, d_result);
    for (std::size_t row = 0; row < token.size(); ++row) {
      if (token[row] >= 0) continue;
      for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c)
        EXPECT_EQ(d[row * static_cast<std::size_t>(C) + c], 0.0);
    }
  }
}

}  // namespace
}  // namespace layers_test
