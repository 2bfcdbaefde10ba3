// SPDX-License-Identifier: Apache-2.0
//
// The router and the movement of rows between token order and expert order.
#include <cstring>
#include <vector>

#include "cpu_backend.hpp"
#include "long_sum.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

/// The K largest of E values, falling, ties to the lower index; NaN is never preferred.
void choose_top_k(const float* p, std::int64_t E, std::int64_t K, std::int32_t* chosen) {
  for (std::int64_t k = 0; k < K; ++k) {
    std::int64_t best = -1;
    for (std::int64_t e = 0; e < E; ++e) {
      if (std::find(chosen, chosen + k, static_cast<std::int32_t>(e)) != chosen + k) continue;
      if (best < 0 || p[e] > p[best]) best = e;
    }
    chosen[k] = static_cast<std::int32_t>(best);
  }
}

/// Numbers the rows by (expert, token, slot), each expert's padded to `alignment`.
void number_rows(const RouterSpec& spec, const Placement& tokens, std::int64_t T, Routing& routing,
                 CpuBackend& backend) {
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  const std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  routing.counts.assign(static_cast<std::size_t>(E), 0);
  for (std::int64_t i = 0; i < T * K; ++i) ++routing.counts[static_cast<std::size_t>(expert[i])];
  routing.groups.offsets.assign(1, 0);
  for (const std::int64_t count : routing.counts) {
    const std::int64_t padded = (count + spec.row_alignment - 1) / spec.row_alignment * spec.row_alignment;
    routing.groups.offsets.push_back(routing.groups.offsets.back() + padded);
  }
  routing.rows = routing.groups.offsets.back();
  NG_CHECK_LE(routing.rows, INT32_MAX, "rows of one permuted tensor");
  routing.token_of_row = backend.tensor(Dtype::i32, 1, routing.rows);
  routing.slot_of_row = backend.tensor(Dtype::i64, 1, routing.rows);
  std::int32_t* const token_of_row = routing.token_of_row.view.as<std::int32_t>();
  std::int64_t* const slot_of_row = routing.slot_of_row.view.as<std::int64_t>();
  std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  std::fill_n(token_of_row, routing.rows, -1);
  // Padding rows: ids behind all slots of the step that depend on neither the alignment nor other micro-batches, since
  // a transform along the rows may put values there, which draw random bits of their own.
  for (std::int64_t e = 0; e < E; ++e) {
    const std::int64_t first =
        routing.groups.offsets[static_cast<std::size_t>(e)] + routing.counts[static_cast<std::size_t>(e)];
    for (std::int64_t row = first; row < routing.groups.offsets[static_cast<std::size_t>(e) + 1]; ++row)
      slot_of_row[row] = tokens.rows * K + ((row - first) * E + e) * tokens.rows + logical_row(tokens, 0);
  }
  std::vector<std::int64_t> next(routing.groups.offsets.begin(), routing.groups.offsets.end() - 1);
  for (std::int64_t t = 0; t < T; ++t) {
    for (std::int64_t k = 0; k < K; ++k) {
      const std::int64_t row = next[static_cast<std::size_t>(expert[t * K + k])]++;
      row_of_slot[t * K + k] = static_cast<std::int32_t>(row);
      token_of_row[row] = static_cast<std::int32_t>(t);
      slot_of_row[row] = logical_row(tokens, t) * K + k;
    }
  }
}

/// Mean probability of each expert: double, over the tree of the tokens.
std::vector<double> mean_probabilities(const float* p, std::int64_t T, std::int64_t E) {
  std::vector<double> means(static_cast<std::size_t>(E));
  for (std::int64_t e = 0; e < E; ++e) {
    const double sum = tree_sum(T, [&](std::int64_t t) { return static_cast<double>(p[t * E + e]); });
    means[static_cast<std::size_t>(e)] = div_rn(sum, static_cast<double>(T));
  }
  return means;
}

std::int64_t tokens_of(const Routing& routing) {
  return routing.probabilities.view.rows;
}

}  // namespace

Routing CpuBackend::route(const RouterSpec& spec, const TensorView& logits, const Placement& tokens) {
  const std::int64_t T = logits.rows;
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  NG_CHECK(logits.dtype == Dtype::f32, "router logits are f32");
  NG_CHECK_EQ(logits.cols, E);
  NG_CHECK(K >= 1 && K <= E, "top ", K, " of ", E);
  NG_CHECK_GE(spec.row_alignment, 1);
  Routing routing;
  routing.probabilities = tensor(Dtype::f32, T, E);
  routing.expert = tensor(Dtype::i32, T, K);
  routing.weight = tensor(Dtype::f32, T, K);
  routing.row_of_slot = tensor(Dtype::i32, T, K);
  routing.log_sum_exp = tensor(Dtype::f32, 1, T);
  float* const probabilities = routing.probabilities.view.as<float>();
  std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  float* const weight = routing.weight.view.as<float>();
  float* const log_sum_exp = routing.log_sum_exp.view.as<float>();
  std::vector<float> entropy(static_cast<std::size_t>(T));
  pool_.parallel_ranges(T, piece_rows(E * K), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const x = reinterpret_cast<const float*>(logits.row(t));
      float* const p = probabilities + t * E;
      const SoftmaxSums sums = kernels_.softmax(x, p, E);
      log_sum_exp[t] = add_rn(sums.maximum, sums.log_sum);
      entropy[static_cast<std::size_t>(t)] = kernels_.entropy(x, p, sums, E);
      choose_top_k(p, E, K, expert + t * K);
      float total = 0.0f;
      for (std::int64_t k = 0; k < K; ++k) {
        weight[t * K + k] = p[expert[t * K + k]];
        total = add_rn(total, weight[t * K + k]);
      }
      if (!spec.renormalize) continue;
      for (std::int64_t k = 0; k < K; ++k) weight[t * K + k] = div_rn(weight[t * K + k], total);
    }
  });
  number_rows(spec, tokens, T, routing, *this);
  if (T == 0) return routing;
  const double count = static_cast<double>(T);
  if (spec.aux_coefficient != 0.0f) {
    const std::vector<double> means = mean_probabilities(probabilities, T, E);
    double balance = 0.0;
    for (std::size_t e = 0; e < means.size(); ++e) {
      const double share = div_rn(static_cast<double>(routing.counts[e]), static_cast<double>(T * K));
      balance = add_rn(balance, mul_rn(share, means[e]));
    }
    routing.aux_loss = mul_rn(mul_rn(static_cast<double>(spec.aux_coefficient), static_cast<double>(E)), balance);
  }
  const double z = tree_sum(T, [&](std::int64_t t) {
    const double lse = static_cast<double>(log_sum_exp[t]);
    return mul_rn(lse, lse);
  });
  routing.z_loss = mul_rn(static_cast<double>(spec.z_coefficient), div_rn(z, count));
  routing.entropy = div_rn(
      tree_sum(T, [&](std::int64_t t) { return static_cast<double>(entropy[static_cast<std::size_t>(t)]); }), count);
  return routing;
}

void CpuBackend::route_backward(const RouterSpec& spec, const Routing& routing, const TensorView& d_weight,
                                float loss_scale, const TensorView& d_logits) {
  const std::int64_t T = tokens_of(routing);
  const std::int64_t E = spec.experts;
  const std::int64_t K = spec.top_k;
  check_shape(routing.weight.view, T, K);
  check_shape(d_logits, T, E);
  NG_CHECK(d_logits.dtype == Dtype::f32, "gradients of router logits are f32");
  const float* const dw = list_of_floats(d_weight, T * K);
  const float* const probabilities = routing.probabilities.view.as<float>();
  const float* const weight = routing.weight.view.as<float>();
  const std::int32_t* const expert = routing.expert.view.as<std::int32_t>();
  const float* const log_sum_exp = routing.log_sum_exp.view.as<float>();
  // d aux / d p_te is the same for all tokens: coefficient * E * f_e / T.
  std::vector<float> d_aux(static_cast<std::size_t>(E));
  const double per_token = T == 0 ? 0.0 : div_rn(static_cast<double>(loss_scale), static_cast<double>(T));
  for (std::size_t e = 0; e < d_aux.size(); ++e) {
    const double share = T == 0 ? 0.0 : div_rn(static_cast<double>(routing.counts[e]), static_cast<double>(T * K));
    const double slope = mul_rn(mul_rn(static_cast<double>(spec.aux_coefficient), static_cast<double>(E)), share);
    d_aux[e] = static_cast<float>(mul_rn(slope, per_token));
  }
  const float d_z = static_cast<float>(mul_rn(2.0 * static_cast<double>(spec.z_coefficient), per_token));
  pool_.parallel_ranges(T, piece_rows(E), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const p = probabilities + t * E;
      const float* const w = weight + t * K;
      const float* const d = dw + t * K;
      const std::int32_t* const chosen = expert + t * K;
      float* const out = reinterpret_cast<float*>(d_logits.row(t));
      const float mean_aux = kernels_.dot(p, d_aux.data(), E);
      const float z = mul_rn(d_z, log_sum_exp[t]);
      float mean = 0.0f;  // sum_k w_k dw_k
      for (std::int64_t k = 0; k < K; ++k) mean = fma_rn(w[k], d[k], mean);
      const float shared = spec.renormalize ? z : sub_rn(z, mean);
      for (std::int64_t e = 0; e < E; ++e)
        out[e] = mul_rn(p[e], add_rn(sub_rn(d_aux[static_cast<std::size_t>(e)], mean_aux), shared));
      if (spec.renormalize && K == 1) continue;  // the weight is 1
      for (std::int64_t k = 0; k < K; ++k) {
        float& at = out[chosen[k]];
        at = fma_rn(w[k], spec.renormalize ? sub_rn(d[k], mean) : d[k], at);
      }
    }
  });
}

void CpuBackend::permute(const Routing& routing, const TensorView& x, const TensorView& y) {
  check_shape(x, tokens_of(routing), y.cols);
  NG_CHECK_EQ(y.rows, routing.rows);
  NG_CHECK_EQ(x.dtype, y.dtype);
  const std::int32_t* const token_of_row = routing.token_of_row.view.as<std::int32_t>();
  const std::size_t row_bytes = static_cast<std::size_t>(y.cols) * size_of(y.dtype);
  if (row_bytes == 0) return;
  pool_.parallel_ranges(routing.rows, piece_rows(y.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      if (token_of_row[r] < 0)
        std::memset(y.row(r), 0, row_bytes);
      else
        std::memcpy(y.row(r), x.row(token_of_row[r]), row_bytes);
    }
  });
}

void CpuBackend::permute_backward(const Routing& routing, const TensorView& dy, const TensorView& dx, bool accumulate) {
  const std::int64_t T = tokens_of(routing);
  const std::int64_t K = routing.expert.view.cols;
  check_shape(dx, T, dy.cols);
  NG_CHECK_EQ(dy.rows, routing.rows);
  const std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  pool_.parallel_ranges(T, piece_rows(dx.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess dy_rows(kernels_, dy), dx_rows(kernels_, dx);
    const FloatScratch sum(dx.cols);
    for (std::int64_t t = begin; t < end; ++t) {
      std::copy_n(dy_rows.load(row_of_slot[t * K]), dx.cols, sum.get());
      for (std::int64_t k = 1; k < K; ++k)
        kernels_.add(sum.get(), dy_rows.load(row_of_slot[t * K + k]), sum.get(), dx.cols);
      if (accumulate)
        kernels_.add(dx_rows.load(t), sum.get(), dx_rows.target(t), dx.cols);
      else
        std::copy_n(sum.get(), dx.cols, dx_rows.target(t));
      dx_rows.store(t);
    }
  });
}

void CpuBackend::combine(const Routing& routing, const TensorView& x, const TensorView& y) {
  const std::int64_t T = tokens_of(routing);
  const std::int64_t K = routing.expert.view.cols;
  check_shape(y, T, x.cols);
  NG_CHECK_EQ(x.rows, routing.rows);
  const std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  const float* const weight = routing.weight.view.as<float>();
  pool_.parallel_ranges(T, piece_rows(y.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, x), y_rows(kernels_, y);
    for (std::int64_t t = begin; t < end; ++t) {
      float* const sum = y_rows.target(t);
      std::fill_n(sum, y.cols, 0.0f);
      for (std::int64_t k = 0; k < K; ++k)
        kernels_.multiply_add(weight[t * K + k], x_rows.load(row_of_slot[t * K + k]), sum, y.cols);
      y_rows.store(t);
    }
  });
}

void CpuBackend::combine_backward(const Routing& routing, const TensorView& x, const TensorView& dy,
                                  const TensorView& dx, const TensorView& d_weight) {
  const std::int64_t T = tokens_of(routing);
  const std::int64_t K = routing.expert.view.cols;
  const std::int64_t C = x.cols;
  check_shape(x, routing.rows, C);
  check_shape(dx, routing.rows, C);
  check_shape(dy, T, C);
  check_real(dx);
  float* const dw = list_of_floats(d_weight, T * K);
  const std::int32_t* const row_of_slot = routing.row_of_slot.view.as<std::int32_t>();
  const std::int32_t* const token_of_row = routing.token_of_row.view.as<std::int32_t>();
  const float* const weight = routing.weight.view.as<float>();
  pool_.parallel_ranges(T, piece_rows(C), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, x), dy_rows(kernels_, dy), dx_rows(kernels_, dx);
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const d = dy_rows.load(t);
      for (std::int64_t k = 0; k < K; ++k) {
        const std::int64_t row = row_of_slot[t * K + k];
        dw[t * K + k] = kernels_.dot(d, x_rows.load(row), C);
        kernels_.scale(weight[t * K + k], d, dx_rows.target(row), C);
        dx_rows.store(row);
      }
    }
  });
  const std::size_t row_bytes = static_cast<std::size_t>(C) * size_of(dx.dtype);
  for (std::int64_t r = 0; r < routing.rows; ++r)
    if (token_of_row[r] < 0 && row_bytes > 0) std::memset(dx.row(r), 0, row_bytes);
}

}  // namespace ng::cpu
