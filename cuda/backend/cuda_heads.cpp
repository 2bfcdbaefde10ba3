// SPDX-License-Identifier: Apache-2.0
//
// Rotation, norms of queries and keys, the heads of latent attention: checks, scratch, and which kernels.
#include <array>

#include "backend/cuda_backend.hpp"
#include "backend/norm_rows.hpp"
#include "backend/view_checks.hpp"
#include "fast/elements.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/heads.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

void check_table(const AttentionShape& shape, const TensorView& table) {
  NG_CHECK_EQ(table.cols % 2, 0, "RoPE turns pairs");
  NG_CHECK(table.dtype == Dtype::f32, "the table of angles is f32");
  NG_CHECK_EQ(table.rows, shape.sequence_length);
}

/// Columns of qkv that are normalised with one gain: `parts` of `width` each, and their columns of rstd.
struct NormedCols {
  std::int64_t first;
  std::int64_t parts;
  std::int64_t width;
  std::int64_t rstd_col;

  [[nodiscard]] TensorView of(const TensorView& qkv) const { return col_slice(qkv, first, parts * width); }
  [[nodiscard]] TensorView rstd_of(const TensorView& rstd) const { return col_slice(rstd, rstd_col, parts); }
};

std::array<NormedCols, 2> normed_cols(const AttentionShape& shape, QkNorm kind) {
  NG_CHECK(kind != QkNorm::none);
  const std::int64_t D = shape.head_dim, H = shape.heads, G = shape.kv_heads;
  if (kind == QkNorm::head) return {{{0, H, D, 0}, {H * D, G, D, H}}};
  return {{{0, 1, H * D, 0}, {H * D, 1, G * D, 1}}};
}

void check_normed(const AttentionShape& shape, const std::array<NormedCols, 2>& parts, const TensorView& qkv,
                  const TensorView& other, const TensorView& rstd) {
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(other, qkv.rows, qkv.cols);
  check_real(qkv);
  check_real(other);
  check_shape(rstd, qkv.rows, parts[0].parts + parts[1].parts);
  NG_CHECK(rstd.dtype == Dtype::f32, "saved norms are f32");
}

/// The number of columns of kv, after the checks of both directions.
std::int64_t checked_latent_cols(const AttentionShape& shape, const TensorView& table) {
  NG_CHECK_EQ(shape.kv_heads, shape.heads, "latent attention has a key for each query head");
  NG_CHECK(shape.head_dim >= table.cols, table.cols, " rotated columns of ", shape.head_dim);
  check_table(shape, table);
  return shape.heads * (shape.head_dim - table.cols + shape.value_dim);
}

}  // namespace

void CudaBackend::rope(const AttentionShape& shape, const TensorView& table, const TensorView& qkv, bool inverse) {
  check_table(shape, table);
  NG_CHECK_EQ(table.cols, shape.head_dim);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_real(qkv);
  if (fast() && fast::rope_serves(table, qkv))
    fast::rope(shape, table, qkv, inverse, nullptr);
  else
    plain::rope(shape, table, qkv, inverse, nullptr);
}

void CudaBackend::qk_norm(const AttentionShape& shape, QkNorm kind, const TensorView& qkv, const TensorView& q_gain,
                          const TensorView& k_gain, float epsilon, const TensorView& out, const TensorView& rstd) {
  const auto parts = normed_cols(shape, kind);
  check_normed(shape, parts, qkv, out, rstd);
  const float* const gains[] = {list_of_floats(q_gain, parts[0].width), list_of_floats(k_gain, parts[1].width)};
  for (std::size_t i = 0; i < parts.size(); ++i)
    norm_rows(fast(), parts[i].of(qkv), gains[i], epsilon, parts[i].of(out), parts[i].rstd_of(rstd));
  const std::int64_t normed = shape.query_cols() + shape.key_cols();
  cast(col_slice(qkv, normed, shape.value_cols()), col_slice(out, normed, shape.value_cols()));
}

void CudaBackend::qk_norm_backward(const AttentionShape& shape, QkNorm kind, const TensorView& qkv,
                                   const TensorView& q_gain, const TensorView& k_gain, const TensorView& rstd,
                                   const TensorView& d_qkv, const TensorView& d_q_gain, const TensorView& d_k_gain) {
  const auto parts = normed_cols(shape, kind);
  check_normed(shape, parts, qkv, d_qkv, rstd);
  const float* const gains[] = {list_of_floats(q_gain, parts[0].width), list_of_floats(k_gain, parts[1].width)};
  float* const d_gains[] = {list_of_floats(d_q_gain, parts[0].width), list_of_floats(d_k_gain, parts[1].width)};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const TensorView d = parts[i].of(d_qkv);
    norm_rows_backward(fast(), parts[i].of(qkv), gains[i], parts[i].rstd_of(rstd), d, d, false, d_gains[i]);
  }
}

void CudaBackend::latent_heads(const AttentionShape& shape, const TensorView& table, const TensorView& q,
                               const TensorView& kv, const TensorView& shared_key, const TensorView& qkv) {
  const std::int64_t kv_cols = checked_latent_cols(shape, table);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(q, qkv.rows, shape.query_cols());
  check_shape(kv, qkv.rows, kv_cols);
  check_shape(shared_key, qkv.rows, table.cols);
  for (const TensorView* view : {&q, &kv, &shared_key, &qkv}) check_real(*view);
  plain::latent_heads(shape, table, q, kv, shared_key, qkv, nullptr);
}

void CudaBackend::latent_heads_backward(const AttentionShape& shape, const TensorView& table, const TensorView& d_qkv,
                                        const TensorView& d_q, const TensorView& d_kv, const TensorView& d_shared_key) {
  const std::int64_t kv_cols = checked_latent_cols(shape, table);
  check_shape(d_qkv, shape.tokens(), shape.qkv_cols());
  check_shape(d_q, d_qkv.rows, shape.query_cols());
  check_shape(d_kv, d_qkv.rows, kv_cols);
  check_shape(d_shared_key, d_qkv.rows, table.cols);
  for (const TensorView* view : {&d_qkv, &d_q, &d_kv, &d_shared_key}) check_real(*view);
  plain::latent_heads_backward(shape, table, d_qkv, d_q, d_kv, d_shared_key, nullptr);
}

}  // namespace ng::cuda
