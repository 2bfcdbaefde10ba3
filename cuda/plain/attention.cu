// SPDX-License-Identifier: Apache-2.0
//
// Attention as it is written down: every chain is a loop. Rows of outputs are summed in FP32 scratch memory.
#include "plain/attention.hpp"

#include "plain/elements.hpp"
#include "runtime/for_each.hpp"

namespace ng::cuda::plain {

namespace {

/// A head's columns of one row of a view.
struct HeadRow {
  const TensorView& view;
  std::int64_t row, col;
  NG_HD float operator[](std::int64_t c) const { return load_real(view, row, col + c); }
};

/// fma chain from +0 in ascending column.
NG_HD float chain(const HeadRow& a, const HeadRow& b, std::int64_t n) {
  float sum = 0.0f;
  for (std::int64_t c = 0; c < n; ++c) sum = fma_rn(a[c], b[c], sum);
  return sum;
}

/// sum += factor * row, column by column.
NG_HD void add_row(float* sum, float factor, const HeadRow& row, std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) sum[c] = fma_rn(factor, row[c], sum[c]);
}

NG_HD void store_row(const TensorView& to, std::int64_t row, std::int64_t col, const float* sum, float factor,
                     std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) store_real(to, row, col + c, mul_rn(sum[c], factor));
}

/// One (token, query head).
struct Attention {
  AttentionJob job;
  float* scratch;

  NG_HD void operator()(std::int64_t i) const {
    const std::int64_t token = i / job.heads;
    const std::int64_t head = i % job.heads;
    const std::int64_t kv = head / job.group();
    const std::int64_t first = token / job.length * job.length;
    const HeadRow q{job.qkv, token, job.query_col(head)};
    float* const o = scratch + i * job.value_dim;
    for (std::int64_t c = 0; c < job.value_dim; ++c) o[c] = 0.0f;
    float maximum = kAttentionStart;
    float sum = 0.0f;
    for (std::int64_t tile = first; tile <= token; tile += kAttentionKeys) {
      const std::int64_t seen = tile + kAttentionKeys <= token ? kAttentionKeys : token + 1 - tile;
      float p[kAttentionKeys];
      for (std::int64_t k = 0; k < seen; ++k) p[k] = chain(q, {job.qkv, tile + k, job.key_col(kv)}, job.head_dim);
      float carry = 1.0f;
      sum = softmax_row(p, seen, job.scales, &maximum, sum, &carry);
      for (std::int64_t c = 0; c < job.value_dim; ++c) o[c] = mul_rn(o[c], carry);
      for (std::int64_t k = 0; k < seen; ++k) add_row(o, p[k], {job.qkv, tile + k, job.value_col(kv)}, job.value_dim);
    }
    for (std::int64_t c = 0; c < job.value_dim; ++c)
      store_real(job.out, token, head * job.value_dim + c, div_rn(o[c], sum));
    store_real(job.log_sum_exp, token, head, attention_log_sum_exp(maximum, sum, job.scales.exponent));
  }
};

/// One (token, query head).
struct Mean {
  AttentionGradientJob job;

  NG_HD void operator()(std::int64_t i) const {
    const AttentionJob& f = job.forward;
    const std::int64_t token = i / f.heads;
    const std::int64_t col = i % f.heads * f.value_dim;
    job.mean[i] = dot_of_chains(HeadRow{job.d_out, token, col}, HeadRow{f.out, token, col}, f.value_dim);
  }
};

/// The operands p and ds of one query of a head and one key that it sees.
struct Gradient {
  float p, ds;

  NG_HD Gradient(const AttentionGradientJob& job, std::int64_t query, std::int64_t head, std::int64_t key) {
    const AttentionJob& f = job.forward;
    const std::int64_t kv = head / f.group();
    p = chain({f.qkv, query, f.query_col(head)}, {f.qkv, key, f.key_col(kv)}, f.head_dim);
    ds = chain({job.d_out, query, head * f.value_dim}, {f.qkv, key, f.value_col(kv)}, f.value_dim);
    gradient_row(&p, &ds, 1, f.scales, load_real(f.log_sum_exp, query, head), job.mean[query * f.heads + head]);
  }
};

/// dq of one (token, query head).
struct QueryGradient {
  AttentionGradientJob job;
  float* scratch;

  NG_HD void operator()(std::int64_t i) const {
    const AttentionJob& f = job.forward;
    const std::int64_t token = i / f.heads;
    const std::int64_t head = i % f.heads;
    const std::int64_t kv = head / f.group();
    float* const dq = scratch + token * f.qkv.cols + f.query_col(head);
    for (std::int64_t c = 0; c < f.head_dim; ++c) dq[c] = 0.0f;
    for (std::int64_t key = token / f.length * f.length; key <= token; ++key)
      add_row(dq, Gradient(job, token, head, key).ds, {f.qkv, key, f.key_col(kv)}, f.head_dim);
    store_row(job.d_qkv, token, f.query_col(head), dq, f.scales.score, f.head_dim);
  }
};

/// dk and dv of one (token, key head).
struct KeyGradient {
  AttentionGradientJob job;
  float* scratch;

  NG_HD void operator()(std::int64_t i) const {
    const AttentionJob& f = job.forward;
    const std::int64_t token = i / f.kv_heads;
    const std::int64_t kv = i % f.kv_heads;
    const std::int64_t end = (token / f.length + 1) * f.length;
    float* const dk = scratch + token * f.qkv.cols + f.key_col(kv);
    float* const dv = scratch + token * f.qkv.cols + f.value_col(kv);
    for (std::int64_t c = 0; c < f.head_dim; ++c) dk[c] = 0.0f;
    for (std::int64_t c = 0; c < f.value_dim; ++c) dv[c] = 0.0f;
    for (std::int64_t head = kv * f.group(); head < (kv + 1) * f.group(); ++head)
      for (std::int64_t query = token; query < end; ++query) {
        const Gradient g(job, query, head, token);
        add_row(dk, g.ds, {f.qkv, query, f.query_col(head)}, f.head_dim);
        add_row(dv, g.p, {job.d_out, query, head * f.value_dim}, f.value_dim);
      }
    store_row(job.d_qkv, token, f.key_col(kv), dk, f.scales.score, f.head_dim);
    store_row(job.d_qkv, token, f.value_col(kv), dv, 1.0f, f.value_dim);
  }
};

}  // namespace

void attention(const AttentionJob& job, float* scratch, Stream stream) {
  for_each("attention", job.tokens() * job.heads, stream, Attention{job, scratch});
}

void attention_backward(const AttentionGradientJob& job, float* scratch, Stream stream) {
  const AttentionJob& f = job.forward;
  for_each("attention mean", f.tokens() * f.heads, stream, Mean{job});
  for_each("attention dq", f.tokens() * f.heads, stream, QueryGradient{job, scratch});
  for_each("attention dk dv", f.tokens() * f.kv_heads, stream, KeyGradient{job, scratch});
}

}  // namespace ng::cuda::plain
