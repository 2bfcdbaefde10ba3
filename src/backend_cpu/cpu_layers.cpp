// SPDX-License-Identifier: Apache-2.0
//
// Embedding, norm, SwiGLU. Rows in pieces; sums that run down the rows in pieces of columns.
#include <cstring>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "row_access.hpp"

namespace ng::cpu {

void CpuBackend::embedding(const TensorView& table, const TensorView& ids, const TensorView& y) {
  NG_CHECK(table.dtype == Dtype::f32, "the embedding table is f32");
  NG_CHECK_EQ(ids.count(), y.rows);
  NG_CHECK_EQ(table.cols, y.cols);
  pool_.parallel_ranges(y.rows, piece_rows(y.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess rows(kernels_, y);
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t id = integer_at(ids, t);
      NG_CHECK(id >= 0 && id < table.rows, "token ", t, ": id ", id, " of a vocabulary of ", table.rows);
      if (y.cols > 0) std::memcpy(rows.target(t), table.row(id), static_cast<std::size_t>(y.cols) * sizeof(float));
      rows.store(t);
    }
  });
}

void CpuBackend::embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) {
  NG_CHECK(d_table.dtype == Dtype::f32, "the gradient of the embedding is f32");
  NG_CHECK_EQ(ids.count(), dy.rows);
  NG_CHECK_EQ(d_table.cols, dy.cols);
  pool_.parallel_ranges(dy.cols, kPieceCols, [&](std::int64_t begin, std::int64_t end) {
    const TensorView from = col_slice(dy, begin, end - begin);
    const TensorView to = col_slice(d_table, begin, end - begin);
    const RowAccess rows(kernels_, from);
    for (std::int64_t t = 0; t < dy.rows; ++t) {
      const std::int64_t id = integer_at(ids, t);
      NG_CHECK(id >= 0 && id < to.rows, "token ", t, ": id ", id, " of a vocabulary of ", to.rows);
      float* const sum = reinterpret_cast<float*>(to.row(id));
      kernels_.add(sum, rows.load(t), sum, to.cols);
    }
  });
}

void CpuBackend::rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                          const TensorView& rstd) {
  check_shape(x, y.rows, y.cols);
  const float* const g = list_of_floats(gain, x.cols);
  float* const saved = list_of_floats(rstd, x.rows);
  pool_.parallel_ranges(x.rows, piece_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, x), y_rows(kernels_, y);
    for (std::int64_t t = begin; t < end; ++t) {
      saved[t] = kernels_.rms_norm(x_rows.load(t), g, epsilon, y_rows.target(t), x.cols);
      y_rows.store(t);
    }
  });
}

void CpuBackend::rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd,
                                   const TensorView& dy, const TensorView& dx, bool accumulate,
                                   const TensorView& d_gain) {
  check_shape(dy, x.rows, x.cols);
  check_shape(dx, x.rows, x.cols);
  const float* const g = list_of_floats(gain, x.cols);
  const float* const saved = list_of_floats(rstd, x.rows);
  float* const dg = list_of_floats(d_gain, x.cols);
  // First, since dx may be the memory of dy.
  pool_.parallel_ranges(x.cols, kPieceCols, [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, col_slice(x, begin, end - begin)),
        dy_rows(kernels_, col_slice(dy, begin, end - begin));
    for (std::int64_t t = 0; t < x.rows; ++t)
      kernels_.gain_gradient(x_rows.load(t), saved[t], dy_rows.load(t), dg + begin, end - begin);
  });
  pool_.parallel_ranges(x.rows, piece_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, x), dy_rows(kernels_, dy), dx_rows(kernels_, dx);
    for (std::int64_t t = begin; t < end; ++t) {
      float* const out = accumulate ? dx_rows.load(t) : dx_rows.target(t);
      kernels_.rms_norm_backward(x_rows.load(t), g, saved[t], dy_rows.load(t), out, accumulate, x.cols);
      dx_rows.store(t);
    }
  });
}

void CpuBackend::swiglu(const TensorView& x, const TensorView& y) {
  const std::int64_t F = y.cols;
  check_shape(x, y.rows, 2 * F);
  pool_.parallel_ranges(y.rows, piece_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, x), y_rows(kernels_, y);
    for (std::int64_t r = begin; r < end; ++r) {
      const float* const row = x_rows.load(r);
      kernels_.swiglu(row, row + F, y_rows.target(r), F);
      y_rows.store(r);
    }
  });
}

void CpuBackend::swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) {
  const std::int64_t F = dy.cols;
  check_shape(x, dy.rows, 2 * F);
  check_shape(dx, dy.rows, 2 * F);
  pool_.parallel_ranges(dy.rows, piece_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    const RowAccess x_rows(kernels_, x), dy_rows(kernels_, dy), dx_rows(kernels_, dx);
    for (std::int64_t r = begin; r < end; ++r) {
      const float* const row = x_rows.load(r);
      float* const d_row = dx_rows.target(r);
      kernels_.swiglu_backward(row, row + F, dy_rows.load(r), d_row, d_row + F, F);
      dx_rows.store(r);
    }
  });
}

}  // namespace ng::cpu
