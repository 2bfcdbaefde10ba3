// SPDX-License-Identifier: Apache-2.0
//
// Array: sizes, views and the exact widening to FP32. No rounding happens in this file.
#include "narrowgauge/io/array.hpp"

#include <bit>
#include <cstring>

#include "io_common.hpp"
#include "narrowgauge/base/error.hpp"

namespace ng {

namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 62;

// FP16 -> FP32: every FP16 value is an FP32 value.
std::uint32_t widen_f16(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu;
  std::uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0x1Fu) return sign | 0x7F800000u | mantissa << 13;
  if (exponent != 0) return sign | (exponent + 112) << 23 | mantissa << 13;
  if (mantissa == 0) return sign;
  // Subnormal: shift the leading one to the hidden place; each shift halves the scale once more.
  const int shift = std::countl_zero(mantissa) - 21;
  mantissa = (mantissa << shift) & 0x3FFu;
  return sign | static_cast<std::uint32_t>(113 - shift) << 23 | mantissa << 13;
}

}  // namespace

std::int64_t checked_bytes(std::span<const std::int64_t> shape, std::size_t element_size) {
  std::int64_t bytes = static_cast<std::int64_t>(element_size);
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return -1;
    if (extent == 0) {
      empty = true;
      continue;
    }
    if (bytes > kMaxBytes / extent) return -1;
    bytes *= extent;
  }
  return empty ? 0 : bytes;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::int64_t Array::count() const {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

std::int64_t Array::rows() const {
  std::int64_t n = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

std::int64_t Array::cols() const {
  return shape.empty() ? 1 : shape.back();
}

void Array::require(Dtype wanted) const {
  if (dtype != wanted) {
    throw UserError(origin + " holds " + std::string(name_of(dtype)) + ", needed is " + std::string(name_of(wanted)));
  }
}

Array Array::from_bytes(Dtype dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes) {
  const std::int64_t expected = checked_bytes(shape, size_of(dtype));
  if (expected < 0 || static_cast<std::uint64_t>(expected) != bytes.size()) {
    throw LogicError("an array of " + std::string(name_of(dtype)) + " " + shape_text(shape) + " from " +
                     std::to_string(bytes.size()) + " bytes");
  }
  Array array;
  array.dtype = dtype;
  array.shape = std::move(shape);
  array.data.assign(bytes.begin(), bytes.end());
  return array;
}

std::vector<float> Array::as_f32() const {
  if (!format.empty()) {
    throw UserError(origin + " holds codes of " + format + ", not values; valid are f32, f16 and bf16");
  }
  const std::size_t n = data.size() / size_of(dtype);
  std::vector<float> values(n);
  switch (dtype) {
    case Dtype::f32:
      if (n != 0) std::memcpy(values.data(), data.data(), data.size());
      return values;
    case Dtype::bf16:
    case Dtype::f16:
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t half = io::load<std::uint16_t>(data.data() + 2 * i);
        // memcpy, not a float assignment: a signaling NaN must keep its bits.
        const std::uint32_t wide = dtype == Dtype::bf16 ? half << 16 : widen_f16(half);
        std::memcpy(&values[i], &wide, 4);
      }
      return values;
    default:
      break;
  }
  throw UserError(origin + " holds " + std::string(name_of(dtype)) +
                  ", which is not a tensor of FP32 values; valid are f32, f16 and bf16" +
                  (dtype == Dtype::f64 ? " (convert to f32 first: that rounds)" : ""));
}

}  // namespace ng
