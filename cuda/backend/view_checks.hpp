// SPDX-License-Identifier: Apache-2.0
//
// Promises about views that the operations of the CUDA backend check.
#pragma once

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng::cuda {

inline void check_real(const TensorView& view) {
  NG_CHECK(view.dtype == Dtype::f32 || view.dtype == Dtype::bf16, "dtype ", name_of(view.dtype));
}

inline void check_integers(const TensorView& view) {
  const Dtype d = view.dtype;
  NG_CHECK(d == Dtype::u8 || d == Dtype::u16 || d == Dtype::u32 || d == Dtype::i32 || d == Dtype::i64,
           "not integers: ", name_of(d));
}

inline void check_shape(const TensorView& view, std::int64_t rows, std::int64_t cols) {
  NG_CHECK_EQ(view.rows, rows);
  NG_CHECK_EQ(view.cols, cols);
}

inline bool is_contiguous(const TensorView& view) {
  return view.rows <= 1 || view.stride == view.cols;
}

/// A contiguous list of `count` elements of the given type, whatever its shape; device memory.
template <class T>
T* list_of(const TensorView& view, Dtype dtype, std::int64_t count) {
  NG_CHECK(view.dtype == dtype, "dtype ", name_of(view.dtype), ", not ", name_of(dtype));
  NG_CHECK_EQ(view.count(), count);
  NG_CHECK(is_contiguous(view), "a list must be contiguous");
  return view.as<T>();
}

inline float* list_of_floats(const TensorView& view, std::int64_t count) {
  return list_of<float>(view, Dtype::f32, count);
}

}  // namespace ng::cuda
