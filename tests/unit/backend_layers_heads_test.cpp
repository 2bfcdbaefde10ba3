// SPDX-License-Identifier: Apache-2.0
//
// Claim: norms of queries and keys, and the heads of latent attention, are those of the operations they are written
// with in backend.hpp (rms_norm, rope) to the bit, forward and backward, in FP32 and BF16; their backwards are
// derivatives. Alone: bin/unit_backend_layers --gtest_filter='Heads*'
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

using Floats = std::vector<float>;
using Index = std::size_t;
using ng::QkNorm;

constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::bf16};
constexpr float kEpsilon = 1e-3f;

Doubles doubles_of(const Floats& values) {
  return Doubles(values.begin(), values.end());
}
/// Columns of a view as a tensor of their own.
Tensor cols_of(Backend& b, const TensorView& view, std::int64_t first, std::int64_t count) {
  return from_values(b, view.dtype, view.rows, count, values_of(b, col_slice(view, first, count)));
}

// rms_norm and its backward are judged in backend_layers_rows_test.cpp; here each span of columns goes through them.
TEST(Heads, QkNormIsRmsNormOfEverySpan) {
  const auto b = cpu(2);
  const ng::AttentionShape s{2, 7, 4, 2, 6, 10};
  for (const QkNorm kind : {QkNorm::head, QkNorm::full})
    for (const Dtype dtype : kDtypes) {
      const std::int64_t q_width = kind == QkNorm::head ? 6 : 24, k_width = kind == QkNorm::head ? 6 : 12;
      const std::int64_t spans = kind == QkNorm::head ? 6 : 2;
      const Tensor qkv = random_tensor(*b, dtype, 14, s.qkv_cols(), 31), out = b->tensor(dtype, 14, s.qkv_cols());
      const Tensor q_gain = random_tensor(*b, Dtype::f32, 1, q_width, 32),
                   k_gain = random_tensor(*b, Dtype::f32, 1, k_width, 33);
      const Tensor rstd = b->tensor(Dtype::f32, 14, spans), d = random_tensor(*b, dtype, 14, s.qkv_cols(), 34);
      const Tensor d_before = from_values(*b, dtype, 14, s.qkv_cols(), values_of(*b, d));
      const Tensor dq = random_tensor(*b, Dtype::f32, 1, q_width, 35),
                   dk = random_tensor(*b, Dtype::f32, 1, k_width, 36);
      const Floats dq_start = floats_of(*b, dq.view), dk_start = floats_of(*b, dk.view);
      b->qk_norm(s, kind, qkv.view, q_gain.view, k_gain.view, kEpsilon, out.view, rstd.view);
      b->qk_norm_backward(s, kind, qkv.view, q_gain.view, k_gain.view, rstd.view, d.view, dq.view, dk.view);

      std::int64_t col = 0;
      for (std::int64_t span = 0; span < spans; ++span) {
        const bool query = col < 24;
        const std::int64_t width = query ? q_width : k_width;
        const Tensor& gain = query ? q_gain : k_gain;
        const Tensor x = cols_of(*b, qkv.view, col, width), y = b->tensor(dtype, 14, width),
                     r = b->tensor(Dtype::f32, 1, 14);
        b->rms_norm(x.view, gain.view, kEpsilon, y.view, r.view);
        expect_same(values_of(*b, col_slice(out.view, col, width)), values_of(*b, y), "out");
        expect_same(values_of(*b, col_slice(rstd.view, span, 1)), values_of(*b, r), "rstd");
        const Tensor dy = cols_of(*b, d_before.view, col, width), dx = b->tensor(dtype, 14, width);
        const Tensor unused = b->zeros(Dtype::f32, 1, width);
        b->rms_norm_backward(x.view, gain.view, r.view, dy.view, dx.view, false, unused.view);
        expect_same(values_of(*b, col_slice(d.view, col, width)), values_of(*b, dx), "dx");
        col += width;
      }
      ASSERT_EQ(col, 36);
      expect_same(values_of(*b, col_slice(out.view, 36, 20)), values_of(*b, col_slice(qkv.view, 36, 20)), "values");
      expect_same(values_of(*b, col_slice(d.view, 36, 20)), values_of(*b, col_slice(d_before.view, 36, 20)),
                  "d values");

      // Gains: tokens, then heads, in one chain that continues from what is there.
      const Floats x = floats_of(*b, qkv.view), dy = floats_of(*b, d_before.view), r = floats_of(*b, rstd.view);
      for (const bool query : {true, false}) {
        const Index width = static_cast<Index>(query ? q_width : k_width), first = query ? 0 : 24;
        const Index heads = kind == QkNorm::full ? 1 : query ? 4 : 2, r0 = query ? 0 : (kind == QkNorm::full ? 1 : 4);
        Floats expected = query ? dq_start : dk_start;
        for (Index t = 0; t < 14; ++t)
          for (Index h = 0; h < heads; ++h)
            for (Index c = 0; c < width; ++c) {
              const Index i = t * 56 + first + h * width + c;
              expected[c] = std::fma(dy[i], x[i] * r[t * static_cast<Index>(spans) + r0 + h], expected[c]);
            }
        expect_same(values_of(*b, query ? dq : dk), doubles_of(expected), query ? "d q_gain" : "d k_gain");
      }
    }
}

struct Latent {
  ng::AttentionShape s{2, 5, 3, 3, 10, 7};
  std::int64_t R = 4, N = 6, T = 10;
  Doubles angles{};

  Latent() {
    for (int t = 0; t < 5; ++t)
      for (int half = 0; half < 2; ++half)
        for (int i = 0; i < 2; ++i) angles.push_back(half == 0 ? std::cos(t * (1.0 + i)) : std::sin(t * (1.0 + i)));
  }
  /// One part of R columns, turned by the rotation of `rope` or back.
  void turn(const Floats& table, Index t, float* x, bool inverse) const {
    for (Index i = 0; i < 2; ++i) {
      const float cosine = table[t % 5 * 4 + i], sine = inverse ? -table[t % 5 * 4 + 2 + i] : table[t % 5 * 4 + 2 + i];
      const float a = x[i], b = x[2 + i];
      x[i] = std::fma(a, cosine, -(b * sine));
      x[2 + i] = std::fma(b, cosine, a * sine);
    }
  }
};

TEST(Heads, LatentHeadsFollowTheWrittenOrder) {
  const auto b = cpu(2);
  const Latent l;
  const Tensor table = from_values(*b, Dtype::f32, 5, l.R, l.angles);
  const Floats turns = floats_of(*b, table.view);
  for (const Dtype dtype : kDtypes) {
    const Tensor q = random_tensor(*b, dtype, l.T, 30, 41), kv = random_tensor(*b, dtype, l.T, 39, 42);
    const Tensor wide = random_tensor(*b, dtype, l.T, 9, 43);  // the shared key stands behind a latent of 5
    const TensorView key = col_slice(wide.view, 5, l.R);
    const Tensor qkv = b->tensor(dtype, l.T, l.s.qkv_cols());
    b->latent_heads(l.s, table.view, q.view, kv.view, key, qkv.view);
    const Floats qs = floats_of(*b, q.view), kvs = floats_of(*b, kv.view), keys = floats_of(*b, key);
    Floats expected;
    for (Index t = 0; t < 10; ++t) {
      Floats row(qs.begin() + static_cast<std::ptrdiff_t>(t * 30),
                 qs.begin() + static_cast<std::ptrdiff_t>((t + 1) * 30));
      for (Index h = 0; h < 3; ++h) l.turn(turns, t, &row[h * 10 + 6], false);
      Floats shared(keys.begin() + static_cast<std::ptrdiff_t>(t * 4),
                    keys.begin() + static_cast<std::ptrdiff_t>((t + 1) * 4));
      l.turn(turns, t, shared.data(), false);
      for (Index h = 0; h < 3; ++h) {
        for (Index c = 0; c < 6; ++c) row.push_back(kvs[t * 39 + h * 13 + c]);
        row.insert(row.end(), shared.begin(), shared.end());
      }
      for (Index h = 0; h < 3; ++h)
        for (Index c = 0; c < 7; ++c) row.push_back(kvs[t * 39 + h * 13 + 6 + c]);
      expected.insert(expected.end(), row.begin(), row.end());
    }
    expect_same(values_of(*b, qkv), rounded_to(*b, dtype, expected), "qkv");

    const Tensor d = random_tensor(*b, dtype, l.T, l.s.qkv_cols(), 44), dq = b->tensor(dtype, l.T, 30);
    const Tensor d_kv = b->tensor(dtype, l.T, 39), d_wide = random_tensor(*b, dtype, l.T, 9, 45);
    const Doubles left_alone = values_of(*b, col_slice(d_wide.view, 0, 5));
    b->latent_heads_backward(l.s, table.view, d.view, dq.view, d_kv.view, col_slice(d_wide.view, 5, l.R));
    const Floats ds = floats_of(*b, d.view);
    Floats expected_q, expected_kv, expected_key;
    for (Index t = 0; t < 10; ++t) {
      const float* const row = &ds[t * 81];
      Floats queries(row, row + 30), shared(row + 36, row + 40);
      for (Index h = 0; h < 3; ++h) {
        l.turn(turns, t, &queries[h * 10 + 6], true);
        expected_kv.insert(expected_kv.end(), row + 30 + h * 10, row + 30 + h * 10 + 6);
        expected_kv.insert(expected_kv.end(), row + 60 + h * 7, row + 60 + (h + 1) * 7);
        for (Index c = 0; c < 4 && h > 0; ++c) shared[c] += row[30 + h * 10 + 6 + c];
      }
      l.turn(turns, t, shared.data(), true);
      expected_q.insert(expected_q.end(), queries.begin(), queries.end());
      expected_key.insert(expected_key.end(), shared.begin(), shared.end());
    }
    expect_same(values_of(*b, dq), rounded_to(*b, dtype, expected_q), "dq");
    expect_same(values_of(*b, d_kv), rounded_to(*b, dtype, expected_kv), "d_kv");
    expect_same(values_of(*b, col_slice(d_wide.view, 5, l.R)), rounded_to(*b, dtype, expected_key), "d_shared_key");
    expect_same(values_of(*b, col_slice(d_wide.view, 0, 5)), left_alone, "beside d_shared_key");
  }
}

// A linear map: its backward is its transpose, <d, f(x)> = <f'(d), x>.
TEST(Heads, LatentHeadsBackwardIsTheTranspose) {
  const auto b = cpu();
  const Latent l;
  const Tensor table = from_values(*b, Dtype::f32, 5, l.R, l.angles);
  const Tensor q = random_tensor(*b, Dtype::f32, l.T, 30, 51), kv = random_tensor(*b, Dtype::f32, l.T, 39, 52);
  const Tensor key = random_tensor(*b, Dtype::f32, l.T, 4, 53), qkv = b->tensor(Dtype::f32, l.T, 81);
  const Tensor d = random_tensor(*b, Dtype::f32, l.T, 81, 54), dq = b->tensor(Dtype::f32, l.T, 30);
  const Tensor d_kv = b->tensor(Dtype::f32, l.T, 39), d_key = b->tensor(Dtype::f32, l.T, 4);
  b->latent_heads(l.s, table.view, q.view, kv.view, key.view, qkv.view);
  b->latent_heads_backward(l.s, table.view, d.view, dq.view, d_kv.view, d_key.view);
  const double forward = weighted_sum(values_of(*b, d), values_of(*b, qkv));
  const double backward = weighted_sum(values_of(*b, dq), values_of(*b, q)) +
                          weighted_sum(values_of(*b, d_kv), values_of(*b, kv)) +
                          weighted_sum(values_of(*b, d_key), values_of(*b, key));
  // 810 products of normal numbers below 4, five roundings each.
  EXPECT_NEAR(forward, backward, 810.0 * 16.0 * 5.0 * kHalfUlpF32);
  EXPECT_GT(std::abs(forward), 1.0);
}

}  // namespace
}  // namespace layers_test
