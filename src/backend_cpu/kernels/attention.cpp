// SPDX-License-Identifier: Apache-2.0
//
// Causal attention of one head in tiles of 48 queries by 64 keys. The key tiles belong to the order written in
// backend.hpp; the query tiles do not show in the result. Masked probabilities are zeros, which change no chain.
#include "kernels.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/row_sums.hpp"
#include "tile_product.hpp"

namespace ng::cpu::NG_ISA {

namespace {

constexpr std::int64_t kKeys = kAttentionKeys;
constexpr std::int64_t kQueries = kAttentionQueries;
constexpr float kLog2E = 1.44269504f;
constexpr float kMinusInfinity = -__builtin_inff();

NG_HD std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}

/// Keys of the tile that begins at k0, of which there are `keys`, that query q may see.
NG_HD std::int64_t visible(std::int64_t q, std::int64_t k0, std::int64_t keys) {
  return q < k0 ? 0 : smaller(q + 1 - k0, keys);
}

/// scores[queries, keys] = rows of `width` times the transposed keys (or values); rows of kKeys.
NG_HD void scores_of(const AttentionHead& head, const float* rows, std::int64_t stride, std::int64_t width,
                     const float* transposed, std::int64_t k0, std::int64_t queries, std::int64_t keys, float* scores) {
  tile_product({rows, stride, 1, transposed + k0, head.transposed_stride, scores, kKeys, width, false}, queries, keys);
}

/// One row of scores becomes probabilities exp2((s - maximum) * scale), masked ones zero. Returns the old sum carried
/// over plus theirs, and in `carry` the factor for what was summed before.
NG_HD float softmax_row(float* scores, std::int64_t seen, std::int64_t keys, const AttentionHead& head, float* maximum,
                        float sum, float* carry) {
  const float scale = head.exponent_scale;  // in a register: for all the compiler knows, scores might lie over head
  const float best = largest_of(scores, seen, *maximum);
  *carry = exp2_rn(mul_rn(sub_rn(*maximum, best), scale));
  *maximum = best;
  for (std::int64_t i = 0; i < seen; ++i) scores[i] = exp2_rn(mul_rn(sub_rn(scores[i], best), scale));
  const float total = fma_rn(sum, *carry, sum_of_chains(scores, seen));
  if (head.round_probabilities)
    for (std::int64_t i = 0; i < seen; ++i) scores[i] = round_to_bf16(scores[i]);
  for (std::int64_t i = seen; i < keys; ++i) scores[i] = 0.0f;
  return total;
}

void attention(const AttentionHead& head, float* out, float* log_sum_exp, std::int64_t lse_stride, float* scratch) {
  const std::int64_t width = head.value_stride;
  float* const p = scratch;
  for (std::int64_t q0 = 0; q0 < head.length; q0 += kQueries) {
    const std::int64_t queries = smaller(kQueries, head.length - q0);
    float* const o = out + q0 * width;
    float maximum[kQueries];
    float sum[kQueries];
    for (std::int64_t q = 0; q < queries; ++q) {
      maximum[q] = kMinusInfinity;
      sum[q] = 0.0f;
    }
    for (std::int64_t i = 0; i < queries * width; ++i) o[i] = 0.0f;
    for (std::int64_t k0 = 0; k0 < q0 + queries; k0 += kKeys) {
      const std::int64_t keys = smaller(kKeys, q0 + queries - k0);
      scores_of(head, head.q + q0 * head.stride, head.stride, head.head_dim, head.k_transposed, k0, queries, keys, p);
      for (std::int64_t q = 0; q < queries; ++q) {
        float carry = 1.0f;
        sum[q] = softmax_row(p + q * kKeys, visible(q0 + q, k0, keys), keys, head, &maximum[q], sum[q], &carry);
        if (k0 == 0) continue;  // zeros
        float* const row = o + q * width;
        for (std::int64_t c = 0; c < width; ++c) row[c] = mul_rn(row[c], carry);
      }
      tile_product({p, kKeys, 1, head.v + k0 * width, width, o, width, keys, true}, queries, width);
    }
    for (std::int64_t q = 0; q < queries; ++q) {
      float* const row = o + q * width;
      for (std::int64_t c = 0; c < width; ++c) row[c] = div_rn(row[c], sum[q]);
      log_sum_exp[(q0 + q) * lse_stride] = fma_rn(maximum[q], head.exponent_scale, mul_rn(log_rn(sum[q]), kLog2E));
    }
  }
}

/// p and ds of one row, from its scores (in p) and dp (in ds); masked ones zero.
NG_HD void gradient_row(float* p, float* ds, std::int64_t seen, std::int64_t keys, const AttentionHead& head, float lse,
                        float mean) {
  for (std::int64_t i = 0; i < seen; ++i) {
    const float probability = exp2_rn(fma_rn(p[i], head.exponent_scale, -lse));
    p[i] = probability;
    ds[i] = mul_rn(probability, sub_rn(ds[i], mean));
  }
  if (head.round_probabilities) {
    for (std::int64_t i = 0; i < seen; ++i) p[i] = round_to_bf16(p[i]);
    for (std::int64_t i = 0; i < seen; ++i) ds[i] = round_to_bf16(ds[i]);
  }
  for (std::int64_t i = seen; i < keys; ++i) p[i] = ds[i] = 0.0f;
}

void attention_backward(const AttentionHead& head, const float* out, const float* d_out, const float* log_sum_exp,
                        std::int64_t lse_stride, float* dq, float* dk, float* dv, float* scratch) {
  const std::int64_t width = head.stride;
  const std::int64_t value_width = head.value_stride;
  float* const p = scratch;
  float* const ds = p + kQueries * kKeys;
  for (std::int64_t q0 = 0; q0 < head.length; q0 += kQueries) {
    const std::int64_t queries = smaller(kQueries, head.length - q0);
    const float* const q_rows = head.q + q0 * width;
    const float* const d_rows = d_out + q0 * value_width;
    float mean[kQueries];  // sum_c d_out * out, what the softmax takes off
    for (std::int64_t q = 0; q < queries; ++q)
      mean[q] = dot_of_chains(d_rows + q * value_width, out + (q0 + q) * value_width, head.value_dim);
    for (std::int64_t k0 = 0; k0 < q0 + queries; k0 += kKeys) {
      const std::int64_t keys = smaller(kKeys, q0 + queries - k0);
      scores_of(head, q_rows, width, head.head_dim, head.k_transposed, k0, queries, keys, p);
      scores_of(head, d_rows, value_width, head.value_dim, head.v_transposed, k0, queries, keys, ds);
      for (std::int64_t q = 0; q < queries; ++q)
        gradient_row(p + q * kKeys, ds + q * kKeys, visible(q0 + q, k0, keys), keys, head,
                     log_sum_exp[(q0 + q) * lse_stride], mean[q]);
      tile_product({ds, kKeys, 1, head.k + k0 * width, width, dq + q0 * width, width, keys, k0 > 0}, queries, width);
      tile_product({ds, 1, kKeys, q_rows, width, dk + k0 * width, width, queries, true}, keys, width);
      tile_product({p, 1, kKeys, d_rows, value_width, dv + k0 * value_width, value_width, queries, true}, keys,
                   value_width);
    }
  }
}

void transpose(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, float* to,
               std::int64_t to_stride) {
  for (std::int64_t r0 = 0; r0 < rows; r0 += 8)
    for (std::int64_t c = 0; c < cols; ++c)
      for (std::int64_t r = r0; r < smaller(rows, r0 + 8); ++r) to[c * to_stride + r] = from[r * from_stride + c];
}

}  // namespace

void add_attention_kernels(CpuKernels& table) {
  table.attention = attention;
  table.attention_backward = attention_backward;
  table.transpose = transpose;
}

}  // namespace ng::cpu::NG_ISA
