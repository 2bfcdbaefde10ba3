// SPDX-License-Identifier: Apache-2.0
//
// Claim: embedding, rms_norm, add, rope, swiglu, cast and their backwards compute what backend.hpp says: against plain
// double loops within derived bounds, the backwards against differences of those loops; sums that run over tokens
// continue, so two micro-batches equal one; ragged shapes work.
// Alone: bin/unit_backend_layers --gtest_filter='Rows*'
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::bf16};

Doubles rms_norm(const Doubles& x, const Doubles& gain, double epsilon) {
  const std::size_t C = gain.size();
  Doubles y(x.size());
  for (std::size_t t = 0; t < x.size() / C; ++t) {
    double square = 0.0;
    for (std::size_t c = 0; c < C; ++c) square += x[t * C + c] * x[t * C + c];
    const double rstd = 1.0 / std::sqrt(square / static_cast<double>(C) + epsilon);
    for (std::size_t c = 0; c < C; ++c) y[t * C + c] = x[t * C + c] * rstd * gain[c];
  }
  return y;
}

TEST(Rows, NormIsThatOfDoubleLoops) {
  const auto b = cpu();
  for (const Dtype dtype : kDtypes) {
    for (const std::int64_t C : {1, 7, 8, 33, 128}) {
      for (const std::int64_t T : {0, 1, 5}) {
        const Tensor x = random_tensor(*b, dtype, T, C, 1);
        const Tensor gain = random_tensor(*b, Dtype::f32, 1, C, 2);
        const Tensor y = b->tensor(dtype, T, C), rstd = b->tensor(Dtype::f32, 1, T);
        b->rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view);
        const Doubles expected = rms_norm(values_of(*b, x), values_of(*b, gain), static_cast<double>(1e-5f));
        // The sum of squares: C/8 + 4 roundings of positive terms, halved by the root; 6 more roundings; the output's.
        const double relative = (static_cast<double>(C) / 16.0 + 8.0) * kHalfUlpF32 + 1.01 * half_ulp(dtype);
        expect_near(
            values_of(*b, y), expected, [&](std::size_t i) { return relative * std::abs(expected[i]); }, "y");
      }
    }
  }
}

TEST(Rows, NormBackwardIsTheDerivative) {
  const auto b = cpu();
  const std::int64_t T = 3, C = 19;
  const Tensor x = random_tensor(*b, Dtype::f32, T, C, 3), gain = random_tensor(*b, Dtype::f32, 1, C, 4);
  const Tensor dy = random_tensor(*b, Dtype::f32, T, C, 5), y = b->tensor(Dtype::f32, T, C);
  const Tensor rstd = b->tensor(Dtype::f32, 1, T), dx = random_tensor(*b, Dtype::f32, T, C, 6);
  const Tensor d_gain = b->zeros(Dtype::f32, 1, C);
  const Doubles xs = values_of(*b, x), gains = values_of(*b, gain), weights = values_of(*b, dy),
                before = values_of(*b, dx);
  b->rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view);
  b->rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dx.view, true, d_gain.view);
  const double epsilon = static_cast<double>(1e-5f);
  Doubles expected =
      differences([&](const Doubles& v) { return weighted_sum(rms_norm(v, gains, epsilon), weights); }, xs);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
  // About a dozen roundings of terms below 40 in magnitude (rstd about 1, 19 products of four normal numbers).
  const auto bound = [](std::size_t) { return 12.0 * kHalfUlpF32 * 40.0 + 1e-7; };
  expect_near(values_of(*b, dx), expected, bound, "dx");
  const Doubles dg =
      differences([&](const Doubles& v) { return weighted_sum(rms_norm(xs, v, epsilon), weights); }, gains);
  expect_near(values_of(*b, d_gain), dg, bound, "d_gain");

  const Tensor fresh = b->tensor(Dtype::f32, T, C);
  b->rms_norm_backward(x.view, gain.view, rstd.view, dy.view, fresh.view, false, d_gain.view);
  const Doubles gradient = values_of(*b, fresh);
  Doubles sum = values_of(*b, dx);
  for (std::size_t i = 0; i < sum.size(); ++i)
    sum[i] = static_cast<double>(static_cast<float>(before[i]) + static_cast<float>(gradient[i]));
  expect_same(values_of(*b, dx), sum, "accumulated = round(dx + gradient)");
  // dx may be the memory of dy.
  b->rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dy.view, false, d_gain.view);
  expect_same(values_of(*b, dy), gradient, "in place");
}

TEST(Rows, NormFollowsTheWrittenOrder) {
  const auto b = cpu();
  const std::int64_t C = 21;
  const Tensor x = random_tensor(*b, Dtype::f32, 1, C, 7), gain = random_tensor(*b, Dtype::f32, 1, C, 8);
  const Tensor y = b->tensor(Dtype::f32, 1, C), rstd = b->tensor(Dtype::f32, 1, 1);
  b->rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view);
  float chain[8] = {};
  const float* const v = x.view.as<float>();
  for (int i = 0; i < C; ++i) chain[i % 8] = std::fma(v[i], v[i], chain[i % 8]);
  const float sum = ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7]));
  const float r = 1.0f / std::sqrt(sum / static_cast<float>(C) + 1e-5f);
  EXPECT_EQ(r, rstd.view.as<float>()[0]);
  for (int i = 0; i < C; ++i) EXPECT_EQ(y.view.as<float>()[i], (v[i] * r) * gain.view.as<float>()[i]) << i;
}

TEST(Rows, GainGradientOfTwoMicroBatchesIsThatOfOne) {
  const auto b = cpu();
  const std::int64_t T = 37, C = 70;
  for (const Dtype dtype : kDtypes) {
    const Tensor x = random_tensor(*b, dtype, T, C, 9), dy = random_tensor(*b, dtype, T, C, 10);
    const Tensor gain = random_tensor(*b, Dtype::f32, 1, C, 11), rstd = b->tensor(Dtype::f32, 1, T),
                 y = b->tensor(dtype, T, C);
    b->rms_norm(x.view, gain.view, 1e-5f, y.view, rstd.view);
    const Tensor whole = b->zeros(Dtype::f32, 1, C), parts = b->zeros(Dtype::f32, 1, C);
    const Tensor dx = b->tensor(dtype, T, C), dx_parts = b->tensor(dtype, T, C);
    b->rms_norm_backward(x.view, gain.view, rstd.view, dy.view, dx.view, false, whole.view);
    for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 16}, {16, 21}}) {
      b->rms_norm_backward(row_slice(x.view, first, count), gain.view, col_slice(rstd.view, first, count),
                           row_slice(dy.view, first, count), row_slice(dx_parts.view, first, count), false, parts.view);
    }
    EXPECT_EQ(bytes_of(*b, whole.view), bytes_of(*b, parts.view));
    EXPECT_EQ(bytes_of(*b, dx.view), bytes_of(*b, dx_parts.view));
  }
}

TEST(Rows, EmbeddingReadsRowsAndItsBackwardAddsInTokenOrder) {
  const auto b = cpu();
  const std::int64_t V = 5, C = 67;
  const std::vector<std::int32_t> ids = {4, 0, 4, 2, 4, 0};
  const std::int64_t T = 6;
  const Tensor table = random_tensor(*b, Dtype::f32, V, C, 12), id = integers(*b, ids);
  for (const Dtype dtype : kDtypes) {
    const Tensor y = b->tensor(dtype, T, C), dy = random_tensor(*b, dtype, T, C, 13);
    b->embedding(table.view, id.view, y.view);
    Doubles rows;
    for (const std::int32_t i : ids) {
      const Doubles row = values_of(*b, row_slice(table.view, i, 1));
      rows.insert(rows.end(), row.begin(), row.end());
    }
    expect_same(values_of(*b, y), values_of(*b, from_values(*b, dtype, T, C, rows)), "y");

    const Tensor d = random_tensor(*b, Dtype::f32, V, C, 14), parts = b->tensor(Dtype::f32, V, C);
    b->cast(d.view, parts.view);
    Doubles expected = values_of(*b, d);
    const Doubles gradient = values_of(*b, dy);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c) {
        double& sum = expected[static_cast<std::size_t>(ids[t]) * static_cast<std::size_t>(C) + c];
        sum = static_cast<double>(static_cast<float>(sum) +
                                  static_cast<float>(gradient[t * static_cast<std::size_t>(C) + c]));
      }
    }
    b->embedding_backward(id.view, dy.view, d.view);
    expect_same(values_of(*b, d), expected, "d_table");
    b->embedding_backward(col_slice(id.view, 0, 2), row_slice(dy.view, 0, 2), parts.view);
    b->embedding_backward(col_slice(id.view, 2, 4), row_slice(dy.view, 2, 4), parts.view);
    EXPECT_EQ(bytes_of(*b, d.view), bytes_of(*b, parts.view));
  }
  const Tensor wrong = integers(*b, {5}), y = b->tensor(Dtype::f32, 1, C);
  EXPECT_ANY_THROW(b->embedding(table.view, wrong.view, y.view));
}

TEST(Rows, AddRoundsOnce) {
  const auto b = cpu();
  for (const Dtype dtype : kDtypes) {
    const Tensor x = random_tensor(*b, dtype, 3, 11, 15), y = random_tensor(*b, dtype, 3, 11, 16),
                 out = b->tensor(dtype, 3, 11);
    b->add(x.view, y.view, out.view);
    Doubles sums = values_of(*b, x);
    const Doubles other = values_of(*b, y);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += other[i];  // exact in double but for tiny bits
    expect_near(
        values_of(*b, out), sums, [&](std::size_t i) { return 1.001 * half_ulp(dtype) * std::abs(sums[i]); }, "sum");
  }
}

TEST(Rows, CastRoundsToNearestEven) {
  const auto b = cpu();
  const Tensor x = b->tensor(Dtype::f32, 1, 6), y = b->tensor(Dtype::bf16, 1, 6), back = b->tensor(Dtype::f32, 1, 6);
  const std::vector<float> values = {1.00390625f, 1.01171875f, -0.0f, 1e-45f, INFINITY, NAN};  // two ties
  b->upload(x.view, values.data());
  b->cast(x.view, y.view);
  b->cast(y.view, back.view);
  const float* const got = back.view.as<float>();
  EXPECT_EQ(got[0], 1.0f);
  EXPECT_EQ(got[1], 1.015625f);
  EXPECT_TRUE(got[2] == 0.0f && std::signbit(got[2]));
  EXPECT_EQ(got[3], 0.0f);
  EXPECT_EQ(got[4], INFINITY);
  EXPECT_TRUE(std::isnan(got[5]));
}

TEST(Rows, RopeTurnsPairsAndBack) {
  const auto b = cpu();
  const ng::AttentionShape shape{2, 3, 2, 1, 6, 6};
  const std::int64_t cols = 4 * 6;
  Doubles angles;
  for (int t = 0; t < 3; ++t) {
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 3; ++i) {
        const double a = t * std::pow(10000.0, -2.0 * i / 6.0);
        angles.push_back(half == 0 ? std::cos(a) : std::sin(a));
      }
  }
  const Tensor table = from_values(*b, Dtype::f32, 3, 6, angles);
  for (const Dtype dtype : kDtypes) {
    const Tensor qkv = random_tensor(*b, dtype, 6, cols, 17);
    const Doubles before = values_of(*b, qkv);
    Doubles expected = before;
    for (std::size_t t = 0; t < 6; ++t)
      for (std::size_t h = 0; h < 3; ++h)
        for (std::size_t i = 0; i < 3; ++i) {
          const double cosine = angles[t % 3 * 6 + i], sine = angles[t % 3 * 6 + 3 + i];
          const std::size_t at = t * static_cast<std::size_t>(cols) + h * 6 + i;
          expected[at] = before[at] * cosine - before[at + 3] * sine;
          expected[at + 3] = before[at + 3] * cosine + before[at] * sine;
        }
    b->rope(shape, table.view, qkv.view, false);
    // Values below 4: three roundings of FP32 (the table's too), one of the output.
    const auto bound = [&](std::size_t) { return 4.0 * (4.0 * kHalfUlpF32 + half_ulp(dtype)); };
    expect_near(values_of(*b, qkv), expected, bound, "turned");
    b->rope(shape, table.view, qkv.view, true);
    expect_near(
        values_of(*b, qkv), before, [&](std::size_t i) { return 3.0 * bound(i); }, "turned back");
  }
}

Doubles swiglu(const Doubles& x, std::size_t F) {
  Doubles y;
  for (std::size_t r = 0; r < x.size() / (2 * F); ++r)
    for (std::size_t f = 0; f < F; ++f) {
      const double gate = x[r * 2 * F + f];
      y.push_back(gate / (1.0 + std::exp(-gate)) * x[r * 2 * F + F + f]);
    }
  return y;
}

TEST(Rows, SwigluIsThatOfDoubleLoops) {
  const auto b = cpu();
  for (const Dtype dtype : kDtypes) {
    for (const std::int64_t F : {1, 9, 64}) {
      const Tensor x = random_tensor(*b, dtype, 4, 2 * F, 18, 3.0), y = b->tensor(dtype, 4, F);
      b->swiglu(x.view, y.view);
      const Doubles expected = swiglu(values_of(*b, x), static_cast<std::size_t>(F));
      // exp within 2 units (4 halves), add, divide, two products; the output's rounding.
      const double relative = 8.0 * kHalfUlpF32 + 1.01 * half_ulp(dtype);
      expect_near(
          values_of(*b, y), expected, [&](std::size_t i) { return relative * std::abs(expected[i]); }, "y");
    }
  }
}

TEST(Rows, SwigluBackwardIsTheDerivative) {
  const auto b = cpu();
  const std::int64_t R = 3, F = 13;
  const Tensor x = random_tensor(*b, Dtype::f32, R, 2 * F, 19, 2.0), dy = random_tensor(*b, Dtype::f32, R, F, 20);
  const Tensor dx = b->tensor(Dtype::f32, R, 2 * F);
  b->swiglu_backward(x.view, dy.view, dx.view);
  const Doubles weights = values_of(*b, dy);
  const Doubles expected =
      differences([&](const Doubles& v) { return weighted_sum(swiglu(v, static_cast<std::size_t>(F)), weights); },
                  values_of(*b, x));
  // A dozen roundings of products below 60 (three normal numbers of deviations 1, 2, 1 and a slope below 1.1).
  expect_near(
      values_of(*b, dx), expected, [](std::size_t) { return 12.0 * kHalfUlpF32 * 60.0 + 1e-7; }, "dx");
}

TEST(Rows, StridedViewsAreLeftAloneOutside) {
  const auto b = cpu();
  const Tensor wide = random_tensor(*b, Dtype::bf16, 5, 40, 21);
  const Doubles before = values_of(*b, wide);
  const TensorView inner = col_slice(row_slice(wide.view, 1, 3), 8, 16);
  b->add(inner, inner, inner);
  const Doubles after = values_of(*b, wide);
  for (std::size_t i = 0; i < after.size(); ++i) {
    const std::size_t r = i / 40, c = i % 40;
    const bool inside = r >= 1 && r < 4 && c >= 8 && c < 24;
    EXPECT_EQ(after[i], inside ? 2.0 * before[i] : before[i]) << r << "," << c;
  }
}

}  // namespace
}  // namespace layers_test
