// SPDX-License-Identifier: Apache-2.0
//
// Attention as independent heads: forward one (sequence, query head) a piece, backward one (sequence, key/value head)
// with the query heads of its group in ascending order.
#include <algorithm>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

/// FP32 matrix whose rows have zeros behind them.
class PaddedRows {
 public:
  PaddedRows(std::int64_t rows, std::int64_t cols, std::int64_t stride)
      : rows_(rows), cols_(cols), stride_(stride), data_(rows * stride) {
    std::fill_n(data_.get(), rows * stride, 0.0f);
  }
  float* data() const { return data_.get(); }
  float* row(std::int64_t r) const { return data_.get() + r * stride_; }

  /// Reads rows [first, ...) of the columns from `col` on.
  void load(const CpuKernels& kernels, const TensorView& view, std::int64_t first, std::int64_t col) const {
    const TensorView source = col_slice(row_slice(view, first, rows_), col, cols_);
    for (std::int64_t r = 0; r < rows_; ++r) {
      if (view.dtype == Dtype::bf16)
        kernels.widen_bf16(reinterpret_cast<const std::uint16_t*>(source.row(r)), row(r), cols_);
      else
        std::copy_n(reinterpret_cast<const float*>(source.row(r)), cols_, row(r));
    }
  }
  /// Writes them, each times `factor` (1: as they are), rounded once more to the view's dtype. The rows are spent.
  void store(const CpuKernels& kernels, float factor, const TensorView& view, std::int64_t first,
             std::int64_t col) const {
    const TensorView target = col_slice(row_slice(view, first, rows_), col, cols_);
    for (std::int64_t r = 0; r < rows_; ++r) {
      kernels.scale(factor, row(r), row(r), cols_);
      if (view.dtype == Dtype::bf16)
        kernels.round_bf16(row(r), reinterpret_cast<std::uint16_t*>(target.row(r)), cols_);
      else
        std::copy_n(row(r), cols_, reinterpret_cast<float*>(target.row(r)));
    }
  }
  /// [cols, rows] with the given stride.
  PaddedRows transposed(const CpuKernels& kernels, std::int64_t stride) const {
    PaddedRows result(cols_, rows_, stride);
    kernels.transpose(data(), stride_, rows_, cols_, result.data(), stride);
    return result;
  }

 private:
  std::int64_t rows_, cols_, stride_;
  FloatScratch data_;
};

struct Geometry {
  std::int64_t length, H, G, D, V, group, stride, value_stride, transposed_stride;

  explicit Geometry(const AttentionShape& shape)
      : length(shape.sequence_length), H(shape.heads), G(shape.kv_heads), D(shape.head_dim), V(shape.value_dim) {
    NG_CHECK(D > 0 && V > 0 && G > 0 && H % G == 0, H, " query heads over ", G, " key heads");
    group = H / G;
    stride = (D + 15) / 16 * 16;
    value_stride = (V + 15) / 16 * 16;
    transposed_stride = (length + kAttentionKeys - 1) / kAttentionKeys * kAttentionKeys;
  }

  PaddedRows rows() const { return PaddedRows(length, D, stride); }
  PaddedRows value_rows() const { return PaddedRows(length, V, value_stride); }
  std::int64_t query_col(std::int64_t h) const { return h * D; }
  std::int64_t key_col(std::int64_t kv) const { return (H + kv) * D; }
  std::int64_t value_col(std::int64_t kv) const { return (H + G) * D + kv * V; }
  AttentionHead head(const PaddedRows& q, const PaddedRows& k, const PaddedRows& v, const float* k_transposed,
                     const float* v_transposed, Dtype dtype) const {
    return {q.data(), k.data(), v.data(), k_transposed, v_transposed, stride, value_stride, transposed_stride,
            length,   D,        V,        scales(dtype)};
  }
  AttentionScales scales(Dtype dtype) const { return attention_scales(D, dtype == Dtype::bf16); }
};

}  // namespace

void CpuBackend::attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                           const TensorView& log_sum_exp) {
  const Geometry g(shape);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(out, qkv.rows, shape.out_cols());
  check_shape(log_sum_exp, qkv.rows, g.H);
  NG_CHECK(log_sum_exp.dtype == Dtype::f32);
  check_real(qkv);
  check_real(out);
  pool_.parallel_for(shape.sequences * g.H, [&](std::int64_t piece) {
    const std::int64_t first = piece / g.H * g.length;
    const std::int64_t h = piece % g.H;
    const std::int64_t kv = h / g.group;
    const PaddedRows q = g.rows(), k = g.rows(), v = g.value_rows(), result = g.value_rows();
    q.load(kernels_, qkv, first, g.query_col(h));
    k.load(kernels_, qkv, first, g.key_col(kv));
    v.load(kernels_, qkv, first, g.value_col(kv));
    const PaddedRows k_transposed = k.transposed(kernels_, g.transposed_stride);
    const AttentionHead head = g.head(q, k, v, k_transposed.data(), nullptr, qkv.dtype);
    const FloatScratch scratch(kAttentionScratchFloats);
    float* const lse = reinterpret_cast<float*>(log_sum_exp.row(first)) + h;
    kernels_.attention(head, result.data(), lse, log_sum_exp.stride, scratch.get());
    result.store(kernels_, 1.0f, out, first, h * g.V);
  });
}

void CpuBackend::attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                                    const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) {
  const Geometry g(shape);
  check_shape(qkv, shape.tokens(), shape.qkv_cols());
  check_shape(out, qkv.rows, shape.out_cols());
  check_shape(d_out, qkv.rows, shape.out_cols());
  check_shape(log_sum_exp, qkv.rows, g.H);
  check_shape(d_qkv, qkv.rows, qkv.cols);
  NG_CHECK(log_sum_exp.dtype == Dtype::f32);
  for (const TensorView* view : {&qkv, &out, &d_out, &d_qkv}) check_real(*view);
  pool_.parallel_for(shape.sequences * g.G, [&](std::int64_t piece) {
    const std::int64_t first = piece / g.G * g.length;
    const std::int64_t kv = piece % g.G;
    const PaddedRows q = g.rows(), k = g.rows(), dq = g.rows(), dk = g.rows();
    const PaddedRows v = g.value_rows(), dv = g.value_rows(), o = g.value_rows(), d_o = g.value_rows();
    k.load(kernels_, qkv, first, g.key_col(kv));
    v.load(kernels_, qkv, first, g.value_col(kv));
    const PaddedRows k_transposed = k.transposed(kernels_, g.transposed_stride);
    const PaddedRows v_transposed = v.transposed(kernels_, g.transposed_stride);
    const FloatScratch scratch(kAttentionScratchFloats);
    for (std::int64_t h = kv * g.group; h < (kv + 1) * g.group; ++h) {
      q.load(kernels_, qkv, first, g.query_col(h));
      o.load(kernels_, out, first, h * g.V);
      d_o.load(kernels_, d_out, first, h * g.V);
      const AttentionHead head = g.head(q, k, v, k_transposed.data(), v_transposed.data(), qkv.dtype);
      const float* const lse = reinterpret_cast<const float*>(log_sum_exp.row(first)) + h;
      kernels_.attention_backward(head, o.data(), d_o.data(), lse, log_sum_exp.stride, dq.data(), dk.data(), dv.data(),
                                  scratch.get());
      dq.store(kernels_, g.scales(qkv.dtype).score, d_qkv, first, g.query_col(h));
    }
    dk.store(kernels_, g.scales(qkv.dtype).score, d_qkv, first, g.key_col(kv));
    dv.store(kernels_, 1.0f, d_qkv, first, g.value_col(kv));
  });
}

}  // namespace ng::cpu
