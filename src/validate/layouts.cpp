// SPDX-License-Identifier: Apache-2.0
//
// Scale layouts of kernels, both ways, and arrays as numbers.
#include <fmt/format.h>

#include <cstring>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/validate/case.hpp"

namespace ng::validate {
namespace {

constexpr std::int64_t kSwizzleRows = 128, kSwizzleCols = 4;

std::int64_t up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Where scale (r, c) of [rows, cols] lies in a buffer of the layout.
std::size_t place(ScaleLayout layout, std::int64_t rows, std::int64_t cols, std::int64_t r, std::int64_t c) {
  if (layout == ScaleLayout::k_major) return static_cast<std::size_t>(c * rows + r);
  if (layout == ScaleLayout::linear) return static_cast<std::size_t>(r * cols + c);
  // Blocks of 128 x 4 row after row; inside one, 32 lines of 16: four rows 32 apart, four scales each.
  const std::int64_t block = r / kSwizzleRows * (up(cols, kSwizzleCols) / kSwizzleCols) + c / kSwizzleCols;
  const std::int64_t row = r % kSwizzleRows;
  return static_cast<std::size_t>(block * kSwizzleRows * kSwizzleCols + row % 32 * 16 + row / 32 * 4 +
                                  c % kSwizzleCols);
}

std::int64_t held(ScaleLayout layout, std::int64_t rows, std::int64_t cols) {
  return layout == ScaleLayout::swizzled_128x4 ? up(rows, kSwizzleRows) * up(cols, kSwizzleCols) : rows * cols;
}

Array moved(const Array& from, std::vector<std::int64_t> shape, std::int64_t count, ScaleLayout layout,
            std::int64_t rows, std::int64_t cols, bool undo) {
  const std::size_t size = size_of(from.dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * size);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::size_t linear = static_cast<std::size_t>(r * cols + c), laid = place(layout, rows, cols, r, c);
      std::memcpy(bytes.data() + (undo ? linear : laid) * size, from.data.data() + (undo ? laid : linear) * size, size);
    }
  Array to = Array::from_bytes(from.dtype, std::move(shape), bytes);
  to.format = from.format;
  to.origin = from.origin;
  return to;
}

}  // namespace

Array linear_scales(const Array& scales, ScaleLayout layout, std::int64_t rows, std::int64_t cols) {
  if (scales.count() != held(layout, rows, cols))
    throw UserError(fmt::format("{}: {} scales; [{}, {}] laid {} are {}", scales.origin, scales.count(), rows, cols,
                                name_of(layout), held(layout, rows, cols)));
  return moved(scales, {rows, cols}, rows * cols, layout, rows, cols, true);
}

Array laid_scales(const Array& scales, ScaleLayout layout) {
  const std::int64_t count = held(layout, scales.rows(), scales.cols());
  return moved(scales, {count}, count, layout, scales.rows(), scales.cols(), false);
}

std::vector<float> numbers_of(const Array& array) {
  if (array.format.empty()) return array.as_f32();
  const std::optional<FormatId> id = find_format(array.format);
  if (!id || bit_count(format_of(*id)) > 16 || (array.dtype != Dtype::u8 && array.dtype != Dtype::u16))
    throw UserError(fmt::format("{}: attribute dtype = '{}' does not name a code format that fits {} values",
                                array.origin, array.format, name_of(array.dtype)));
  const ElementFormat format = format_of(*id);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(array.count()));
  const auto add = [&](std::uint32_t code) {
    if (code >> bit_count(format) != 0)
      throw UserError(fmt::format("{}: {} is no code of {}, which has {} bits", array.origin, code, array.format,
                                  bit_count(format)));
    values.push_back(decode(format, code));
  };
  if (array.dtype == Dtype::u8)
    for (const std::uint8_t code : array.as<std::uint8_t>()) add(code);
  else
    for (const std::uint16_t code : array.as<std::uint16_t>()) add(code);
  return values;
}

}  // namespace ng::validate
