// SPDX-License-Identifier: Apache-2.0
//
// Causal attention of one head in tiles of 48 queries by 64 keys. The key tiles belong to the order written in
// backend.hpp; the query tiles do not show in the result: keys that a query does not see are in none of its chains.
#include "narrowgauge/numerics/attention.hpp"
#include "kernels.hpp"
#include "tile_product.hpp"

namespace ng::cpu::NG_ISA {

namespace {

constexpr std::int64_t kKeys = kAttentionKeys;
constexpr std::int64_t kQueries = kAttentionQueries;

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

/// Rows that share one call of a product.
constexpr std::int64_t kRowsTogether = 6;

/// The part of a product that begins `row` rows and `k` terms later.
NG_HD TileProduct part_of(const TileProduct& p, std::int64_t row, std::int64_t k, std::int64_t terms, bool from_c) {
  return {p.a + row * p.a_row + k * p.a_col,
          p.a_row,
          p.a_col,
          p.b + k * p.ldb,
          p.ldb,
          p.c + row * p.ldc,
          p.ldc,
          terms,
          from_c};
}

/// Rows are queries, terms the keys of the tile at k0, each row over those it sees: one more than the row before.
void product_of_queries(const TileProduct& p, std::int64_t q0, std::int64_t queries, std::int64_t k0,
                        std::int64_t cols) {
  if (visible(q0, k0, p.k) == p.k) return tile_product(p, queries, cols);
  for (std::int64_t q = 0; q < queries; q += kRowsTogether) {
    const std::int64_t rows = smaller(kRowsTogether, queries - q);
    const std::int64_t common = visible(q0 + q, k0, p.k);
    tile_product(part_of(p, q, 0, common, p.from_c), rows, cols);
    for (std::int64_t i = 1; i < rows; ++i) {
      const std::int64_t seen = visible(q0 + q + i, k0, p.k);
      if (seen > common) tile_product(part_of(p, q + i, common, seen - common, true), 1, cols);
    }
  }
}

/// Rows are keys, terms the queries of the tile at q0, each row over those that see it. Chains continue.
void product_of_keys(const TileProduct& p, std::int64_t q0, std::int64_t k0, std::int64_t keys, std::int64_t cols) {
  const auto first = [&](std::int64_t key) { return k0 + key < q0 ? 0 : smaller(k0 + key - q0, p.k); };
  if (first(keys - 1) == 0) return tile_product(p, keys, cols);
  for (std::int64_t key = 0; key < keys; key += kRowsTogether) {
    const std::int64_t rows = smaller(kRowsTogether, keys - key);
    const std::int64_t common = first(key + rows - 1);
    for (std::int64_t i = 0; i + 1 < rows; ++i) {
      const std::int64_t begin = first(key + i);
      if (begin < common) tile_product(part_of(p, key + i, begin, common - begin, true), 1, cols);
    }
    tile_product(part_of(p, key, common, p.k - common, true), rows, cols);
  }
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
      maximum[q] = kAttentionStart;
      sum[q] = 0.0f;
    }
    for (std::int64_t i = 0; i < queries * width; ++i) o[i] = 0.0f;
    for (std::int64_t k0 = 0; k0 < q0 + queries; k0 += kKeys) {
      const std::int64_t keys = smaller(kKeys, q0 + queries - k0);
      scores_of(head, head.q + q0 * head.stride, head.stride, head.head_dim, head.k_transposed, k0, queries, keys, p);
      for (std::int64_t q = 0; q < queries; ++q) {
        float carry = 1.0f;
        sum[q] = softmax_row(p + q * kKeys, visible(q0 + q, k0, keys), head.scales, &maximum[q], sum[q], &carry);
        if (k0 == 0) continue;  // zeros
        float* const row = o + q * width;
        for (std::int64_t c = 0; c < width; ++c) row[c] = mul_rn(row[c], carry);
      }
      product_of_queries({p, kKeys, 1, head.v + k0 * width, width, o, width, keys, true}, q0, queries, k0, width);
    }
    for (std::int64_t q = 0; q < queries; ++q) {
      float* const row = o + q * width;
      for (std::int64_t c = 0; c < width; ++c) row[c] = div_rn(row[c], sum[q]);
      log_sum_exp[(q0 + q) * lse_stride] = attention_log_sum_exp(maximum[q], sum[q], head.scales.exponent);
    }
  }
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
        gradient_row(p + q * kKeys, ds + q * kKeys, visible(q0 + q, k0, keys), head.scales,
                     log_sum_exp[(q0 + q) * lse_stride], mean[q]);
      product_of_queries({ds, kKeys, 1, head.k + k0 * width, width, dq + q0 * width, width, keys, k0 > 0}, q0, queries,
                         k0, width);
      product_of_keys({ds, 1, kKeys, q_rows, width, dk + k0 * width, width, queries, true}, q0, k0, keys, width);
      product_of_keys({p, 1, kKeys, d_rows, value_width, dv + k0 * value_width, value_width, queries, true}, q0, k0,
                      keys, value_width);
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
