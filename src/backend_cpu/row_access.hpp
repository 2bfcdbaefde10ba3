// SPDX-License-Identifier: Apache-2.0
//
// How the walks over rows see memory: rows of f32 or bf16 as FP32, small integer lists, pieces of work whose size
// depends on the shape only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "kernels/kernels.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/tensor/tensor_view.hpp"

namespace ng::cpu {

inline void check_real(const TensorView& view) {
  NG_CHECK(view.dtype == Dtype::f32 || view.dtype == Dtype::bf16, "dtype ", name_of(view.dtype));
}

inline void check_shape(const TensorView& view, std::int64_t rows, std::int64_t cols) {
  NG_CHECK_EQ(view.rows, rows);
  NG_CHECK_EQ(view.cols, cols);
}

inline bool is_contiguous(const TensorView& view) {
  return view.rows <= 1 || view.stride == view.cols;
}

/// A contiguous list of `count` elements of the given type, whatever its shape.
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

/// Element `index`, in row-major order, of a view of integers.
inline std::int64_t integer_at(const TensorView& view, std::int64_t index) {
  const std::byte* at = view.row(index / view.cols) + static_cast<std::size_t>(index % view.cols) * size_of(view.dtype);
  switch (view.dtype) {
    case Dtype::u8:
      return *reinterpret_cast<const std::uint8_t*>(at);
    case Dtype::u16:
      return *reinterpret_cast<const std::uint16_t*>(at);
    case Dtype::u32:
      return *reinterpret_cast<const std::uint32_t*>(at);
    case Dtype::i32:
      return *reinterpret_cast<const std::int32_t*>(at);
    case Dtype::i64:
      return *reinterpret_cast<const std::int64_t*>(at);
    default:
      break;
  }
  NG_CHECK(false, "not integers: ", name_of(view.dtype));
  return 0;
}

/// Scratch for `count` floats, not initialised.
class FloatScratch {
 public:
  explicit FloatScratch(std::int64_t count)
      : data_(new float[static_cast<std::size_t>(std::max<std::int64_t>(count, 1))]) {}
  float* get() const { return data_.get(); }

 private:
  std::unique_ptr<float[]> data_;
};

/// Rows of a view in FP32. Rows of f32 are used where they lie; rows of bf16 go through a scratch row of its own, so a
/// RowAccess belongs to one thread and shows one row at a time.
class RowAccess {
 public:
  RowAccess(const CpuKernels& kernels, const TensorView& view) : kernels_(kernels), view_(view) {
    check_real(view);
    if (view.dtype == Dtype::bf16)
      scratch_.reset(new float[static_cast<std::size_t>(std::max<std::int64_t>(view.cols, 1))]);
  }

  /// The values of row r.
  float* load(std::int64_t r) const {
    if (!scratch_) return reinterpret_cast<float*>(view_.row(r));
    kernels_.widen_bf16(reinterpret_cast<const std::uint16_t*>(view_.row(r)), scratch_.get(), view_.cols);
    return scratch_.get();
  }
  /// Where the new values of row r are to be written; `store` then rounds them into the view.
  float* target(std::int64_t r) const { return scratch_ ? scratch_.get() : reinterpret_cast<float*>(view_.row(r)); }
  void store(std::int64_t r) const {
    if (scratch_) kernels_.round_bf16(scratch_.get(), reinterpret_cast<std::uint16_t*>(view_.row(r)), view_.cols);
  }

 private:
  const CpuKernels& kernels_;
  TensorView view_;
  std::unique_ptr<float[]> scratch_;
};

/// Rows of one piece of work: about 32 Ki elements.
inline std::int64_t piece_rows(std::int64_t cols) {
  return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(cols, 1));
}

/// Columns of one piece of work where sums run down the rows.
constexpr std::int64_t kPieceCols = 64;

}  // namespace ng::cpu
