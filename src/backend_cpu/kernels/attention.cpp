// SPDX-License-Identifier: Apache-2.0
//
// Causal attention of one head in tiles of 64 queries by 64 keys; the written order is in backend.hpp. Scores, values
// and gradients run through the fma chains of gemm.cpp; masked probabilities are zeros, which change no chain.
#include "kernels.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "row_sums.hpp"

namespace ng::cpu::NG_ISA {

namespace {

constexpr std::int64_t kTile = kAttentionTile;
constexpr float kLog2E = 1.44269504f;
constexpr float kMinusInfinity = -__builtin_inff();

NG_HD std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

NG_HD StridedMatrix rows_of(const float* data, std::int64_t stride) { return {data, stride, 1}; }
NG_HD StridedMatrix transposed(const float* data, std::int64_t stride) { return {data, 1, stride}; }

/// Number of keys of a tile that query `q` of a tile may see; `diagonal` when both tiles start at the same token.
NG_HD std::int64_t visible(bool diagonal, std::int64_t q, std::int64_t keys) { return diagonal ? smaller(q + 1, keys) : keys; }

/// One row of scores becomes probabilities exp2((s - maximum) * scale), masked ones zero; returns the old sum carried
/// over plus theirs, and in `carry` the factor for what was summed before.
NG_HD float softmax_row(float* scores, std::int64_t seen, std::int64_t keys, float scale, bool round, float* maximum,
                        float sum, float* carry) {
  const float best = largest_of(scores, seen, *maximum);
  *carry = exp2_rn(mul_rn(sub_rn(*maximum, best), scale));
  *maximum = best;
  for (std::int64_t i = 0; i < seen; ++i) scores[i] = exp2_rn(mul_rn(sub_rn(scores[i], best), scale));
  for (std::int64_t i = seen; i < keys; ++i) scores[i] = 0.0f;
  const float total = fma_rn(sum, *carry, sum_of_chains(scores, keys));
  if (round)
    for (std::int64_t i = 0; i < seen; ++i) scores[i] = round_to_bf16(scores[i]);
  return total;
}

void attention(const AttentionHead& head, float* out, std::int64_t out_stride, float* log_sum_exp,
               std::int64_t lse_stride, float* scratch) {
  const std::int64_t D = head.head_dim;
  float* const p = scratch + kGemmScratchFloats;
  for (std::int64_t q0 = 0; q0 < head.length; q0 += kTile) {
    const std::int64_t queries = smaller(kTile, head.length - q0);
    float* const o = out + q0 * out_stride;
    float maximum[kTile];
    float sum[kTile];
    for (std::int64_t q = 0; q < queries; ++q) {
      maximum[q] = kMinusInfinity;
      sum[q] = 0.0f;
      for (std::int64_t c = 0; c < D; ++c) o[q * out_stride + c] = 0.0f;
    }
    for (std::int64_t k0 = 0; k0 <= q0; k0 += kTile) {
      const std::int64_t keys = smaller(kTile, head.length - k0);
      gemm_chain(rows_of(head.q + q0 * head.stride, head.stride), rows_of(head.k + k0 * head.stride, head.stride), p,
                 kTile, queries, keys, D, false, scratch);
      for (std::int64_t q = 0; q < queries; ++q) {
        float carry;
        sum[q] = softmax_row(p + q * kTile, visible(k0 == q0, q, keys), keys, head.exponent_scale,
                             head.round_probabilities, &maximum[q], sum[q], &carry);
        for (std::int64_t c = 0; c < D; ++c) o[q * out_stride + c] = mul_rn(o[q * out_stride + c], carry);
      }
      gemm_chain(rows_of(p, kTile), transposed(head.v + k0 * head.stride, head.stride), o, out_stride, queries, D, keys,
                 true, scratch);
    }
    for (std::int64_t q = 0; q < queries; ++q) {
      for (std::int64_t c = 0; c < D; ++c) o[q * out_stride + c] = div_rn(o[q * out_stride + c], sum[q]);
      log_sum_exp[(q0 + q) * lse_stride] =
          fma_rn(maximum[q], head.exponent_scale, mul_rn(log_rn(sum[q]), kLog2E));
    }
  }
}

void attention_backward(const AttentionHead& head, const float* out, std::int64_t out_stride,
                        const float* d_out, std::int64_t d_out_stride, const float* log_sum_exp,
                        std::int64_t lse_stride, float* dq, float* dk, float* dv, std::int64_t d_stride,
                        float* scratch) {
  const std::int64_t D = head.head_dim;
  float* const p = scratch + kGemmScratchFloats;
  float* const ds = p + kTile * kTile;
  for (std::int64_t q0 = 0; q0 < head.length; q0 += kTile) {
    const std::int64_t queries = smaller(kTile, head.length - q0);
    const StridedMatrix q_rows = rows_of(head.q + q0 * head.stride, head.stride);
    const StridedMatrix d_out_rows = rows_of(d_out + q0 * d_out_stride, d_out_stride);
    float* const dq_tile = dq + q0 * d_stride;
    float mean[kTile];  // sum_c d_out * out, what the softmax takes off
    for (std::int64_t q = 0; q < queries; ++q)
      mean[q] = dot_of_chains(d_out + (q0 + q) * d_out_stride, out + (q0 + q) * out_stride, D);
    for (std::int64_t k0 = 0; k0 <= q0; k0 += kTile) {
      const std::int64_t keys = smaller(kTile, head.length - k0);
      const float* const k_tile = head.k + k0 * head.stride;
      gemm_chain(q_rows, rows_of(k_tile, head.stride), p, kTile, queries, keys, D, false, scratch);
      gemm_chain(d_out_rows, rows_of(head.v + k0 * head.stride, head.stride), ds, kTile, queries, keys, D, false,
                 scratch);
      for (std::int64_t q = 0; q < queries; ++q) {
        float* const p_row = p + q * kTile;
        float* const ds_row = ds + q * kTile;
        const float lse = log_sum_exp[(q0 + q) * lse_stride];
        const std::int64_t seen = visible(k0 == q0, q, keys);
        for (std::int64_t i = 0; i < seen; ++i) {
          const float probability = exp2_rn(fma_rn(p_row[i], head.exponent_scale, -lse));
          p_row[i] = probability;
          ds_row[i] = mul_rn(probability, sub_rn(ds_row[i], mean[q]));
        }
        if (head.round_probabilities) {
          for (std::int64_t i = 0; i < seen; ++i) {
            p_row[i] = round_to_bf16(p_row[i]);
            ds_row[i] = round_to_bf16(ds_row[i]);
          }
        }
        for (std::int64_t i = seen; i < keys; ++i) p_row[i] = ds_row[i] = 0.0f;
      }
      gemm_chain(rows_of(ds, kTile), transposed(k_tile, head.stride), dq_tile, d_stride, queries, D, keys, k0 > 0,
                 scratch);
      gemm_chain(transposed(ds, kTile), transposed(q_rows.data, head.stride), dk + k0 * d_stride, d_stride, keys, D,
                 queries, true, scratch);
      gemm_chain(transposed(p, kTile), transposed(d_out_rows.data, d_out_stride), dv + k0 * d_stride, d_stride, keys, D,
                 queries, true, scratch);
    }
  }
}

}  // namespace

void add_attention_kernels(CpuKernels& table) {
  table.attention = attention;
  table.attention_backward = attention_backward;
}

}  // namespace ng::cpu::NG_ISA
