// SPDX-License-Identifier: Apache-2.0
//
// Embedding, norm, SwiGLU: checks, scratch, and which kernels.
#include "backend/cuda_backend.hpp"
#include "backend/norm_rows.hpp"
#include "backend/view_checks.hpp"
#include "fast/columns.hpp"
#include "fast/elements.hpp"
#include "narrowgauge/base/check.hpp"
#include "plain/layers.hpp"
#include "runtime/device.hpp"

namespace ng::cuda {

namespace {

FaultWords::Message id_message(std::int64_t vocabulary) {
  return [vocabulary](const Fault& fault) {
    return detail::check_message("token ", fault.index, ": id ", fault.value, " of a vocabulary of ", vocabulary);
  };
}

/// A list of one number for each row, as a column.
TensorView as_column(const TensorView& list) {
  TensorView column = list;
  column.rows = list.count();
  column.cols = column.stride = 1;
  return column;
}

}  // namespace

void CudaBackend::embedding(const TensorView& table, const TensorView& ids, const TensorView& y) {
  NG_CHECK(table.dtype == Dtype::f32, "the embedding table is f32");
  NG_CHECK_EQ(ids.count(), y.rows);
  NG_CHECK_EQ(table.cols, y.cols);
  check_real(y);
  check_integers(ids);
  FaultWord* const fault = faults_.watch(id_message(table.rows));
  if (fast() && fast::elements_serve({&table, &y}))
    fast::embedding(table, ids, y, fault, nullptr);
  else
    plain::embedding(table, ids, y, fault, nullptr);
}

void CudaBackend::embedding_backward(const TensorView& ids, const TensorView& dy, const TensorView& d_table) {
  NG_CHECK(d_table.dtype == Dtype::f32, "the gradient of the embedding is f32");
  NG_CHECK_EQ(ids.count(), dy.rows);
  NG_CHECK_EQ(d_table.cols, dy.cols);
  check_real(dy);
  check_integers(ids);
  FaultWord* const fault = faults_.watch(id_message(d_table.rows));
  if (!fast() || !fast::embedding_backward_serves(d_table))
    return plain::embedding_backward(ids, dy, d_table, fault, nullptr);
  const Buffer list = cuda::allocate(static_cast<std::size_t>(dy.rows) * sizeof(std::int32_t));
  plain::ids_as_list(ids, d_table.rows, list.as<std::int32_t>(), fault, nullptr);
  fast::embedding_backward(list.as<std::int32_t>(), dy, d_table, nullptr);
}

void CudaBackend::rms_norm(const TensorView& x, const TensorView& gain, float epsilon, const TensorView& y,
                           const TensorView& rstd) {
  check_shape(x, y.rows, y.cols);
  check_real(x);
  check_real(y);
  (void)list_of_floats(rstd, x.rows);
  norm_rows(fast(), x, list_of_floats(gain, x.cols), epsilon, y, as_column(rstd));
}

void CudaBackend::rms_norm_backward(const TensorView& x, const TensorView& gain, const TensorView& rstd,
                                    const TensorView& dy, const TensorView& dx, bool accumulate,
                                    const TensorView& d_gain) {
  check_shape(dy, x.rows, x.cols);
  check_shape(dx, x.rows, x.cols);
  for (const TensorView* view : {&x, &dy, &dx}) check_real(*view);
  (void)list_of_floats(rstd, x.rows);
  const float* const gains = list_of_floats(gain, x.cols);
  norm_rows_backward(fast(), x, gains, as_column(rstd), dy, dx, accumulate, list_of_floats(d_gain, x.cols));
}

void CudaBackend::swiglu(const TensorView& x, const TensorView& y) {
  check_shape(x, y.rows, 2 * y.cols);
  check_real(x);
  check_real(y);
  if (fast() && fast::elements_serve({&x, &y}))
    fast::swiglu(x, y, nullptr);
  else
    plain::swiglu(x, y, nullptr);
}

void CudaBackend::swiglu_backward(const TensorView& x, const TensorView& dy, const TensorView& dx) {
  check_shape(x, dy.rows, 2 * dy.cols);
  check_shape(dx, dy.rows, 2 * dy.cols);
  for (const TensorView* view : {&x, &dy, &dx}) check_real(*view);
  if (fast() && fast::elements_serve({&x, &dy, &dx}))
    fast::swiglu_backward(x, dy, dx, nullptr);
  else
    plain::swiglu_backward(x, dy, dx, nullptr);
}

}  // namespace ng::cuda
