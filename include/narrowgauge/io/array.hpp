// SPDX-License-Identifier: Apache-2.0
//
// Array: what every reader of this layer returns and every writer takes. A dtype, a shape and row-major
// bytes of its own; no arithmetic. Narrow codes are integers whose `format` names what they mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "narrowgauge/tensor/dtype.hpp"

namespace ng {

// The Dtype of a C++ arithmetic type. f16 and bf16 have none: they travel as bytes with their Dtype.
template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return Dtype::f32;
  else if constexpr (std::is_same_v<T, double>)
    return Dtype::f64;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return Dtype::u8;
  else if constexpr (std::is_same_v<T, std::int8_t>)
    return Dtype::i8;
  else if constexpr (std::is_same_v<T, std::uint16_t>)
    return Dtype::u16;
  else if constexpr (std::is_same_v<T, std::int16_t>)
    return Dtype::i16;
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return Dtype::u32;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return Dtype::i32;
  else if constexpr (std::is_same_v<T, std::uint64_t>)
    return Dtype::u64;
  else {
    static_assert(std::is_same_v<T, std::int64_t>, "no Dtype for this type");
    return Dtype::i64;
  }
}

struct Array {
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;  // empty: a scalar
  std::vector<std::byte> data;      // row-major, little endian
  std::string format;               // name of a narrow code format ("e4m3"), or empty
  std::string origin;               // "FILE:object", for messages

  // Number of elements: the product of the shape, 1 for a scalar.
  std::int64_t count() const;

  // The 2-D view: leading dimensions folded into rows, the last one is cols; 1-D is one row, a scalar 1 x 1.
  std::int64_t rows() const;
  std::int64_t cols() const;

  // Elements as T. Throws UserError when T is not the array's dtype.
  template <class T>
  std::span<const T> as() const {
    require(dtype_of<T>());
    return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
  }

  // Exact widening of f32, f16 and bf16; NaN payloads are kept. UserError for anything else, f64 included
  // (FP64 -> FP32 rounds: the user converts, so that the rounding is the user's choice), and for codes.
  std::vector<float> as_f32() const;

  template <class T>
  static Array from(std::vector<std::int64_t> shape, std::span<const T> values) {
    return from_bytes(dtype_of<T>(), std::move(shape), std::as_bytes(values));
  }
  // Throws std::logic_error when the byte count is not shape x size_of(dtype).
  static Array from_bytes(Dtype dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes);

 private:
  void require(Dtype wanted) const;
};

// Product of a shape, or nullopt-like -1 when a dimension is negative or the product x element_size does not
// fit in 2^62: a header is never believed before this and a comparison with the file's size.
std::int64_t checked_bytes(std::span<const std::int64_t> shape, std::size_t element_size);

// "[2, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace ng
