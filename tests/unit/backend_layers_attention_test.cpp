// SPDX-License-Identifier: Apache-2.0
//
// Claim: attention and its backward follow the order that backend.hpp writes down to the bit (plain scalar loops, FP32
// and BF16), and in FP32 are within derived bounds of causal attention in double; the backward is its derivative; what
// comes later in a sequence, or in another sequence, changes no bit.
// Alone: bin/unit_backend_layers --gtest_filter='Attention*'
#include "narrowgauge/numerics/elementary.hpp"
#include "unit/backend_layers_support.hpp"

namespace layers_test {
namespace {

using Floats = std::vector<float>;

constexpr ng::AttentionShape kShapes[] = {
    {2, 16, 2, 2, 8, 8},    {1, 1, 1, 1, 2, 2},    {1, 65, 4, 2, 6, 6},  {3, 70, 2, 1, 32, 32},
    {1, 200, 3, 3, 10, 10}, {2, 67, 2, 2, 12, 20}, {1, 70, 4, 2, 18, 6},
};

/// Causal attention in double; out [T, H*V].
Doubles plain_attention(const ng::AttentionShape& s, const Doubles& qkv) {
  const auto L = static_cast<std::size_t>(s.sequence_length), H = static_cast<std::size_t>(s.heads);
  const auto G = static_cast<std::size_t>(s.kv_heads), D = static_cast<std::size_t>(s.head_dim);
  const auto V = static_cast<std::size_t>(s.value_dim);
  const std::size_t cols = (H + G) * D + G * V;
  Doubles out(static_cast<std::size_t>(s.sequences) * L * H * V);
  for (std::size_t n = 0; n < static_cast<std::size_t>(s.sequences); ++n)
    for (std::size_t h = 0; h < H; ++h)
      for (std::size_t i = 0; i < L; ++i) {
        const double* const q = &qkv[(n * L + i) * cols + h * D];
        const std::size_t kv = h / (H / G);
        Doubles p(i + 1);
        double sum = 0.0;
        for (std::size_t j = 0; j <= i; ++j) {
          double score = 0.0;
          for (std::size_t c = 0; c < D; ++c) score += q[c] * qkv[(n * L + j) * cols + (H + kv) * D + c];
          p[j] = std::exp(score / std::sqrt(static_cast<double>(D)));
          sum += p[j];
        }
        for (std::size_t c = 0; c < V; ++c) {
          double value = 0.0;
          for (std::size_t j = 0; j <= i; ++j) value += p[j] / sum * qkv[(n * L + j) * cols + (H + G) * D + kv * V + c];
          out[(n * L + i) * H * V + h * V + c] = value;
        }
      }
  return out;
}

float chain_dot(const float* a, const float* b, std::size_t n) {
  float sum = 0.0f;
  for (std::size_t i = 0; i < n; ++i) sum = std::fma(a[i], b[i], sum);
  return sum;
}

float constant(double value) {
  return static_cast<float>(value);
}

/// The written order, one query after the other. Outputs in FP32 before the rounding to out's dtype.
struct Written {
  ng::AttentionShape s;
  bool round;
  Floats qkv;
  std::size_t L = static_cast<std::size_t>(s.sequence_length), H = static_cast<std::size_t>(s.heads);
  std::size_t G = static_cast<std::size_t>(s.kv_heads), D = static_cast<std::size_t>(s.head_dim);
  std::size_t V = static_cast<std::size_t>(s.value_dim);
  std::size_t T = static_cast<std::size_t>(s.sequences) * L, cols = (H + G) * D + G * V, group = H / G;
  float c = constant(1.4426950408889634 / std::sqrt(static_cast<double>(s.head_dim)));
  float scale = constant(1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  Floats out = Floats(T * H * V), lse = Floats(T * H), d_qkv = Floats(T * cols);

  const float* q(std::size_t t, std::size_t h) const { return &qkv[t * cols + h * D]; }
  const float* k(std::size_t t, std::size_t h) const { return q(t, H + h / group); }
  const float* v(std::size_t t, std::size_t h) const { return &qkv[t * cols + (H + G) * D + h / group * V]; }
  float rounded(float p) const { return round ? ng::round_to_bf16(p) : p; }

  void forward() {
    for (std::size_t t = 0; t < T; ++t)
      for (std::size_t h = 0; h < H; ++h) {
        const std::size_t start = t / L * L;
        float m = -INFINITY, l = 0.0f;
        float* const o = &out[(t * H + h) * V];
        for (std::size_t tile = start; tile <= t; tile += 64) {
          Floats p;
          for (std::size_t j = tile; j <= t && j < tile + 64; ++j) p.push_back(chain_dot(q(t, h), k(j, h), D));
          float next = m;
          for (const float score : p) next = std::max(next, score);
          const float carry = ng::exp2_rn((m - next) * c);
          for (float& score : p) score = ng::exp2_rn((score - next) * c);
          m = next;
          l = std::fma(l, carry, row_sum(p));
          for (std::size_t d = 0; d < V; ++d) {
            o[d] *= carry;
            for (std::size_t j = 0; j < p.size(); ++j) o[d] = std::fma(rounded(p[j]), v(tile + j, h)[d], o[d]);
          }
        }
        for (std::size_t d = 0; d < V; ++d) o[d] /= l;
        lse[t * H + h] = std::fma(m, c, ng::log_rn(l) * 1.44269504f);
      }
  }

  /// `given` is out as stored.
  void backward(const Floats& given, const Floats& d_out) {
    for (std::size_t h = 0; h < H; ++h)
      for (std::size_t t = 0; t < T; ++t) {
        const float* const d = &d_out[(t * H + h) * V];
        const float mean = row_dot(d, &given[(t * H + h) * V], V);
        Floats dq(D);
        for (std::size_t j = t / L * L; j <= t; ++j) {
          const float p = ng::exp2_rn(std::fma(chain_dot(q(t, h), k(j, h), D), c, -lse[t * H + h]));
          const float ds = rounded(p * (chain_dot(d, v(j, h), V) - mean));
          float* const dk = &d_qkv[j * cols + (H + h / group) * D];
          float* const dv = &d_qkv[j * cols + (H + G) * D + h / group * V];
          for (std::size_t e = 0; e < D; ++e) {
            dq[e] = std::fma(ds, k(j, h)[e], dq[e]);
            dk[e] = std::fma(ds, q(t, h)[e], dk[e]);
          }
          for (std::size_t e = 0; e < V; ++e) dv[e] = std::fma(rounded(p), d[e], dv[e]);
        }
        for (std::size_t e = 0; e < D; ++e) d_qkv[t * cols + h * D + e] = dq[e] * scale;
      }
    for (std::size_t t = 0; t < T; ++t)
      for (std::size_t e = H * D; e < (H + G) * D; ++e) d_qkv[t * cols + e] *= scale;
  }
};

/// What both directions left.
struct Outcome {
  Doubles out, d_qkv;
};

TEST(Attention, FollowsTheWrittenOrder) {
  const auto b = cpu();
  for (const ng::AttentionShape& s : kShapes) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      const std::int64_t T = s.tokens();
      const Tensor qkv = random_tensor(*b, dtype, T, s.qkv_cols(), 1, 2.0), out = b->tensor(dtype, T, s.out_cols());
      const Tensor lse = b->tensor(Dtype::f32, T, s.heads), d_out = random_tensor(*b, dtype, T, s.out_cols(), 2);
      const Tensor d_qkv = b->tensor(dtype, T, s.qkv_cols());
      b->attention(s, qkv.view, out.view, lse.view);
      b->attention_backward(s, qkv.view, out.view, lse.view, d_out.view, d_qkv.view);
      Written written{s, dtype == Dtype::bf16, floats_of(*b, qkv)};
      written.forward();
      expect_same(values_of(*b, out), rounded_to(*b, dtype, written.out), "out");
      expect_same(values_of(*b, lse), rounded_to(*b, Dtype::f32, written.lse), "log_sum_exp");
      written.backward(floats_of(*b, out), floats_of(*b, d_out));
      expect_same(values_of(*b, d_qkv), rounded_to(*b, dtype, written.d_qkv), "d_qkv");
    }
  }
}

TEST(Attention, IsCausalAttention) {
  const auto b = cpu();
  for (const ng::AttentionShape& s : kShapes) {
    const std::int64_t T = s.tokens();
    const Tensor qkv = random_tensor(*b, Dtype::f32, T, s.qkv_cols(), 3), out = b->tensor(Dtype::f32, T, s.out_cols());
    const Tensor lse = b->tensor(Dtype::f32, T, s.heads);
    b->attention(s, qkv.view, out.view, lse.view);
    // Scores are below 3*D in magnitude sum and carry D roundings, so exponents are off by about D * 3 sqrt(D) half
    // units; sums of up to 200 positive terms add 200/8 roundings, the chain over keys 200 of values below 5.
    const double D = static_cast<double>(s.head_dim);
    const double bound = 5.0 * kHalfUlpF32 * (3.0 * D * std::sqrt(D) + static_cast<double>(s.sequence_length) + 20.0);
    expect_near(
        values_of(*b, out), plain_attention(s, values_of(*b, qkv)), [&](std::size_t) { return bound; }, "out");
  }
}

TEST(Attention, BackwardIsTheDerivative) {
  const auto b = cpu();
  for (const ng::AttentionShape s : {ng::AttentionShape{2, 5, 4, 2, 4, 4}, ng::AttentionShape{1, 67, 2, 1, 2, 3}}) {
    const std::int64_t T = s.tokens();
    const Tensor qkv = random_tensor(*b, Dtype::f32, T, s.qkv_cols(), 4), out = b->tensor(Dtype::f32, T, s.out_cols());
    const Tensor lse = b->tensor(Dtype::f32, T, s.heads), d_out = random_tensor(*b, Dtype::f32, T, s.out_cols(), 5);
    const Tensor d_qkv = b->tensor(Dtype::f32, T, s.qkv_cols());
    b->attention(s, qkv.view, out.view, lse.view);
    b->attention_backward(s, qkv.view, out.view, lse.view, d_out.view, d_qkv.view);
    const Doubles weights = values_of(*b, d_out);
    const Doubles expected =
        differences([&](const Doubles& v) { return weighted_sum(plain_attention(s, v), weights); }, values_of(*b, qkv));
    // Chains of up to 2*67 terms whose magnitudes sum to below 100; p and ds carry about 30 half units each.
    const double bound = 100.0 * 64.0 * kHalfUlpF32 + 1e-6;
    EXPECT_GT(largest_magnitude(expected), 100.0 * bound);  // zeros would not pass
    expect_near(
        values_of(*b, d_qkv), expected, [&](std::size_t) { return bound; }, "d_qkv");
  }
}

TEST(Attention, LaterTokensAndOtherSequencesChangeNoBit) {
  const auto b = cpu();
  const ng::AttentionShape pair{2, 130, 2, 1, 8, 8}, single{1, 130, 2, 1, 8, 8}, shorter{1, 77, 2, 1, 8, 8};
  const Tensor qkv = random_tensor(*b, Dtype::bf16, 260, 32, 6);
  const Tensor out = b->tensor(Dtype::bf16, 260, 16), lse = b->tensor(Dtype::f32, 260, 2);
  b->attention(pair, qkv.view, out.view, lse.view);
  for (const ng::AttentionShape& s : {single, shorter}) {
    const std::int64_t n = s.sequence_length;
    const Tensor alone = b->tensor(Dtype::bf16, n, 16), alone_lse = b->tensor(Dtype::f32, n, 2);
    b->attention(s, row_slice(qkv.view, 130, n), alone.view, alone_lse.view);
    EXPECT_EQ(bytes_of(*b, alone.view), bytes_of(*b, row_slice(out.view, 130, n)));
    EXPECT_EQ(bytes_of(*b, alone_lse.view), bytes_of(*b, row_slice(lse.view, 130, n)));
  }
}

// An infinite query makes its own row NaN; no chain of another query, or of a key that the query does not see, holds a
// term of it, not even one with a probability of zero.
TEST(Attention, MaskedKeysAndQueriesEnterNoChain) {
  const auto b = cpu();
  const ng::AttentionShape s{1, 70, 2, 1, 4, 4};
  for (const std::int64_t token : {0, 20, 50, 66}) {
    Outcome plain, infinite;
    for (const bool is_infinite : {false, true}) {
      const Tensor qkv = random_tensor(*b, Dtype::f32, 70, s.qkv_cols(), 6);
      if (is_infinite)
        for (int head = 0; head < 2; ++head) qkv.view.as<float>()[token * s.qkv_cols() + 4 * head] = INFINITY;
      const Tensor out = b->tensor(Dtype::f32, 70, 8), lse = b->tensor(Dtype::f32, 70, 2);
      const Tensor d_out = random_tensor(*b, Dtype::f32, 70, 8, 7), d_qkv = b->tensor(Dtype::f32, 70, s.qkv_cols());
      b->attention(s, qkv.view, out.view, lse.view);
      b->attention_backward(s, qkv.view, out.view, lse.view, d_out.view, d_qkv.view);
      (is_infinite ? infinite : plain) = {values_of(*b, out), values_of(*b, d_qkv)};
    }
    for (std::int64_t t = 0; t < 70; ++t) {
      if (t == token) {
        EXPECT_TRUE(std::isnan(infinite.out[static_cast<std::size_t>(8 * t)]));
        continue;
      }
      for (std::int64_t c = 0; c < 8; ++c) {
        const auto at = static_cast<std::size_t>(8 * t + c);
        EXPECT_EQ(plain.out[at], infinite.out[at]) << t << ", " << c;
      }
      const std::int64_t last = t < token ? 8 : 16;  // of keys up to the infinite query only dq is spared
      for (std::int64_t c = 0; c < last; ++c) {
        const auto at = static_cast<std::size_t>(16 * t + c);
        EXPECT_EQ(plain.d_qkv[at], infinite.d_qkv[at]) << t << ", " << c;
      }
    }
  }
}

TEST(Attention, LargeScoresStayFinite) {
  const auto b = cpu();
  const ng::AttentionShape s{1, 128, 1, 1, 4, 4};
  const Tensor qkv = random_tensor(*b, Dtype::f32, 128, 12, 7, 100.0);
  const Tensor out = b->tensor(Dtype::f32, 128, 4), lse = b->tensor(Dtype::f32, 128, 1),
               d = b->tensor(Dtype::f32, 128, 12);
  b->attention(s, qkv.view, out.view, lse.view);
  b->attention_backward(s, qkv.view, out.view, lse.view, out.view, d.view);
  for (const double v : values_of(*b, out)) EXPECT_TRUE(std::isfinite(v));
  for (const double v : values_of(*b, d)) EXPECT_TRUE(std::isfinite(v));
}

}  // namespace
}  // namespace layers_test
