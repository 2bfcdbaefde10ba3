// SPDX-License-Identifier: Apache-2.0
//
// Attention as independent heads: forward one (sequence, query head) a piece, backward one (sequence, key/value head)
// with the query heads of its group in ascending order.
#include <algorithm>
#include <cmath>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

/// Rows [first, first + length) of some columns in FP32: where they lie, or a widened copy.
class HeadRows {
 public:
  HeadRows(const CpuKernels& kernels, const TensorView& view, std::int64_t first, std::int64_t length, std::int64_t col,
           std::int64_t cols)
      : view_(col_slice(row_slice(view, first, length), col, cols)) {
    check_real(view);
    if (view_.dtype == Dtype::f32) return;
    copy_.reset(new float[static_cast<std::size_t>(std::max<std::int64_t>(view_.count(), 1))]);
    for (std::int64_t r = 0; r < length; ++r)
      kernels.widen_bf16(reinterpret_cast<const std::uint16_t*>(view_.row(r)), copy_.get() + r * cols, cols);
  }
  const float* data() const { return copy_ ? copy_.get() : view_.as<float>(); }
  std::int64_t stride() const { return copy_ ? view_.cols : view_.stride; }

 private:
  TensorView view_;
  std::unique_ptr<float[]> copy_;
};

/// Writes [length, cols] floats, each times `factor` (1: as they are), rounded once more to the view's dtype.
void store(const CpuKernels& kernels, float* values, float factor, const TensorView& view, std::int64_t first,
           std::int64_t length, std::int64_t col, std::int64_t cols) {
  const TensorView target = col_slice(row_slice(view, first, length), col, cols);
  const RowAccess rows(kernels, target);
  for (std::int64_t r = 0; r < length; ++r) {
    kernels.scale(factor, values + r * cols, rows.target(r), cols);
    rows.store(r);
  }
}

struct Geometry {
  std::int64_t length, H, G, D, group;
  float exponent_scale, score_scale;

  explicit Geometry(const AttentionShape& shape)
      : length(shape.sequence_length), H(shape.heads), G(shape.kv_heads), D(shape.head_dim) {
    NG_CHECK(D > 0 && G > 0 && H % G == 0, H, " query heads over ", G, " key heads");
    group = H / G;
    score_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(D)));
    exponent_scale = static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(D)));
  }
};

}  // namespace

void CpuBackend::attention(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                           const TensorView& log_sum_exp) {
  const Geometry g(shape);
  check_shape(qkv, shape.sequences * g.length, (g.H + 2 * g.G) * g.D);
  check_shape(out, qkv.rows, g.H * g.D);
  check_shape(log_sum_exp, qkv.rows, g.H);
  NG_CHECK(log_sum_exp.dtype == Dtype::f32);
  check_real(qkv);
  check_real(out);
  pool_.parallel_for(shape.sequences * g.H, [&](std::int64_t piece) {
    const std::int64_t first = piece / g.H * g.length;
    const std::int64_t h = piece % g.H;
    const std::int64_t kv = h / g.group;
    const HeadRows q(kernels_, qkv, first, g.length, h * g.D, g.D);
    const HeadRows k(kernels_, qkv, first, g.length, (g.H + kv) * g.D, g.D);
    const HeadRows v(kernels_, qkv, first, g.length, (g.H + g.G + kv) * g.D, g.D);
    const FloatScratch result(g.length * g.D);
    const FloatScratch scratch(kAttentionScratchFloats);
    const AttentionHead head{q.data(), k.data(), v.data(), q.stride(), g.length, g.D, g.exponent_scale,
                             qkv.dtype == Dtype::bf16};
    float* const lse = reinterpret_cast<float*>(log_sum_exp.row(first)) + h;
    kernels_.attention(head, result.get(), g.D, lse, log_sum_exp.stride, scratch.get());
    store(kernels_, result.get(), 1.0f, out, first, g.length, h * g.D, g.D);
  });
}

void CpuBackend::attention_backward(const AttentionShape& shape, const TensorView& qkv, const TensorView& out,
                                    const TensorView& log_sum_exp, const TensorView& d_out, const TensorView& d_qkv) {
  const Geometry g(shape);
  check_shape(qkv, shape.sequences * g.length, (g.H + 2 * g.G) * g.D);
  check_shape(out, qkv.rows, g.H * g.D);
  check_shape(d_out, qkv.rows, g.H * g.D);
  check_shape(log_sum_exp, qkv.rows, g.H);
  check_shape(d_qkv, qkv.rows, qkv.cols);
  NG_CHECK(log_sum_exp.dtype == Dtype::f32);
  check_real(qkv);
  check_real(d_qkv);
  pool_.parallel_for(shape.sequences * g.G, [&](std::int64_t piece) {
    const std::int64_t first = piece / g.G * g.length;
    const std::int64_t kv = piece % g.G;
    const HeadRows k(kernels_, qkv, first, g.length, (g.H + kv) * g.D, g.D);
    const HeadRows v(kernels_, qkv, first, g.length, (g.H + g.G + kv) * g.D, g.D);
    const std::int64_t elements = g.length * g.D;
    const FloatScratch dq(elements), dk(elements), dv(elements);
    const FloatScratch scratch(kAttentionScratchFloats);
    std::fill_n(dk.get(), elements, 0.0f);
    std::fill_n(dv.get(), elements, 0.0f);
    for (std::int64_t h = kv * g.group; h < (kv + 1) * g.group; ++h) {
      const HeadRows q(kernels_, qkv, first, g.length, h * g.D, g.D);
      const HeadRows o(kernels_, out, first, g.length, h * g.D, g.D);
      const HeadRows d_o(kernels_, d_out, first, g.length, h * g.D, g.D);
      const AttentionHead head{q.data(), k.data(), v.data(), q.stride(), g.length, g.D, g.exponent_scale,
                               qkv.dtype == Dtype::bf16};
      const float* const lse = reinterpret_cast<const float*>(log_sum_exp.row(first)) + h;
      kernels_.attention_backward(head, o.data(), o.stride(), d_o.data(), d_o.stride(), lse, log_sum_exp.stride,
                                  dq.get(), dk.get(), dv.get(), g.D, scratch.get());
      store(kernels_, dq.get(), g.score_scale, d_qkv, first, g.length, h * g.D, g.D);
    }
    store(kernels_, dk.get(), g.score_scale, d_qkv, first, g.length, (g.H + kv) * g.D, g.D);
    store(kernels_, dv.get(), 1.0f, d_qkv, first, g.length, (g.H + g.G + kv) * g.D, g.D);
  });
}

}  // namespace ng::cpu
