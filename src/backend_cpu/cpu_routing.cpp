// SPDX-License-Identifier: Apache-2.0
//
// The movement of rows between token order and expert order, where the router (cpu_router.cpp) sent them.
#include <cstring>

#include "cpu_backend.hpp"
#include "narrowgauge/base/check.hpp"
#include "row_access.hpp"

namespace ng::cpu {

namespace {

std::int64_t tokens_of(const Routing& routing) {
  return routing.probabilities.view.rows;
}

}  // namespace

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
      bool first = true;
      for (std::int64_t k = 0; k < K; ++k) {
        const std::int64_t row = row_of_slot[t * K + k];
        if (row < 0) continue;
        if (first)
          std::copy_n(dy_rows.load(row), dx.cols, sum.get());
        else
          kernels_.add(sum.get(), dy_rows.load(row), sum.get(), dx.cols);
        first = false;
      }
      if (first) std::fill_n(sum.get(), dx.cols, 0.0f);
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
        if (row_of_slot[t * K + k] >= 0)
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
        dw[t * K + k] = 0.0f;
        if (row < 0) continue;
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
