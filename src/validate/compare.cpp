// SPDX-License-Identifier: Apache-2.0
//
// Two lists of bits: how many differ, where first, by how many steps, in which direction. And the given arrays brought
// into the shape of the answer.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/quantized_group.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "parts.hpp"

namespace ng::validate {
namespace {

// Place of a code in the order of the numbers it means; -0 and +0 share one.
std::int64_t rank(const ElementFormat& f, std::uint32_t code) {
  if (f.sign == SignLayout::unsigned_) return code;
  if (f.sign == SignLayout::twos_complement)
    return static_cast<std::int64_t>(code) - ((code & sign_mask(f)) != 0 ? std::int64_t{sign_mask(f)} * 2 : 0);
  const std::int64_t magnitude = code & magnitude_mask(f);
  return (code & sign_mask(f)) != 0 ? -magnitude : magnitude;
}

// Bits of an array's elements: codes, or numbers in the part's format.
std::vector<std::uint32_t> raw_bits(const Array& array, const Part& part) {
  std::vector<std::uint32_t> bits;
  bits.reserve(static_cast<std::size_t>(array.count()));
  const auto copy = [&](const auto& values) { bits.assign(values.begin(), values.end()); };
  const bool f32 = part.format == FormatId::fp32;
  if (f32) {
    if (array.dtype == Dtype::u32) {  // raw bits
      copy(array.as<std::uint32_t>());
    } else {
      for (const float value : array.as_f32()) bits.push_back(bits_of(value));
    }
    return bits;
  }
  if (array.dtype == Dtype::u8) {
    copy(array.as<std::uint8_t>());
  } else if (array.dtype == Dtype::u16) {
    copy(array.as<std::uint16_t>());
  } else if ((array.dtype == Dtype::bf16 && part.format == FormatId::bf16) ||
             (array.dtype == Dtype::f16 && part.format == FormatId::fp16)) {
    const auto* values = reinterpret_cast<const std::uint16_t*>(array.data.data());
    bits.assign(values, values + array.count());
  } else if (part.format == FormatId::bf16 && array.dtype == Dtype::f32) {  // BF16 results widened
    for (const float value : array.as<float>()) {
      if ((bits_of(value) & 0xffffu) != 0)
        throw UserError(fmt::format("{}: {} is no BF16 number, which the spec says it is", array.origin, value));
      bits.push_back(bits_of(value) >> 16);
    }
  } else {
    throw UserError(fmt::format("{}: {} values; {} of {} are needed", array.origin, name_of(array.dtype), part.name,
                                name_of(part.format)));
  }
  if (!array.format.empty() && array.format != name_of(part.format))
    throw UserError(
        fmt::format("{}: holds codes of {}; the spec says {}", array.origin, array.format, name_of(part.format)));
  return bits;
}

Part matrix(const Array& given, const Part& expected, const OutputLayout& layout, std::vector<std::string>& notes) {
  Array array = given;
  const std::int64_t rows = expected.rows + layout.skip_rows, cols = expected.cols;
  const bool nibbles = bit_count(format_of(expected.format)) <= 4;
  const bool column_major = layout.order == MatrixOrder::column_major;
  if (nibbles && array.dtype == Dtype::u8 && array.count() != rows * cols) {
    // Two codes a byte, along whatever runs fastest.
    const std::int64_t lines = column_major ? cols : rows, line = column_major ? rows : cols;
    if (array.count() == lines * ((line + 1) / 2)) {
      Array bytes = array;
      bytes.shape = {lines, (line + 1) / 2};
      array = unpacked_nibbles(bytes, line, layout.nibbles == NibbleSide::low_first);
    }
  }
  if (array.count() != rows * cols)
    throw UserError(fmt::format("{}: {} has {} elements; {} of this case {} [{}, {}]{}", given.origin,
                                shape_text(given.shape), given.count(), expected.name,
                                expected.name.ends_with('s') ? "are" : "is", expected.rows, expected.cols,
                                layout.skip_rows != 0 ? fmt::format(" and {} rows of padding", layout.skip_rows) : ""));
  bool turn = column_major;
  if (!column_major && rows != cols && array.shape.size() >= 2 && array.rows() == cols && array.cols() == rows) {
    notes.push_back(fmt::format("{} come as {}, the transpose of [{}, {}]; compared after turning them back",
                                expected.name, shape_text(array.shape), expected.rows, expected.cols));
    turn = true;
  }
  Part part{expected.name, expected.format, expected.rows, expected.cols, raw_bits(array, expected), expected.nothing};
  if (turn) part.bits = turned(part.bits, cols, rows);
  part.bits.resize(static_cast<std::size_t>(expected.rows * cols));  // without padding
  const int width = bit_count(format_of(part.format));
  for (std::size_t i = 0; width < 16 && i < part.bits.size(); ++i)
    if (part.bits[i] >> width != 0)
      throw UserError(fmt::format("{}: element {} is {}, no code of {}, which has {} bits", given.origin, i,
                                  part.bits[i], name_of(part.format), width));
  return part;
}

Part scales_part(const Array& given, const Part& expected, const OutputLayout& layout) {
  const bool f32 = expected.format == FormatId::fp32;
  if (f32 ? given.dtype != Dtype::f32 : given.dtype != Dtype::u8)
    throw UserError(fmt::format("{}: {} scales are {}; this holds {}", given.origin, name_of(expected.format),
                                f32 ? "f32" : "codes, u8", name_of(given.dtype)));
  std::int64_t rows = expected.rows;
  if (layout.skip_rows != 0 && layout.scales != ScaleLayout::swizzled_128x4 && expected.cols > 0)
    rows = std::max(rows, given.count() / expected.cols);
  if (layout.scales == ScaleLayout::linear && given.shape.size() == 2 && given.shape[0] == expected.cols &&
      given.shape[1] == rows && rows != expected.cols)
    throw UserError(
        fmt::format("{}: scales lie {}, tiles are [{}, {}]; if columns come first, say scale layout k_major",
                    given.origin, shape_text(given.shape), rows, expected.cols));
  const Array linear = linear_scales(given, layout.scales, rows, expected.cols);
  Part part{expected.name, expected.format, expected.rows, expected.cols, raw_bits(linear, expected), {}};
  part.bits.resize(static_cast<std::size_t>(expected.rows * expected.cols));
  return part;
}

}  // namespace

float value_of(FormatId format, std::uint32_t bits) {
  return format == FormatId::fp32 ? float_of(bits) : decode(format_of(format), bits);
}

std::int64_t distance(FormatId format, std::uint32_t from, std::uint32_t to) {
  return rank(format_of(format), to) - rank(format_of(format), from);
}

Answer given_parts(const Case& c, const Answer& expected, std::vector<std::string>& notes) {
  Answer given;
  for (const Part& part : expected) {
    if (part.name == "scales") {
      if (c.scales) given.push_back(scales_part(*c.scales, part, c.layout));
      continue;
    }
    const std::optional<Array>& array = part.name == "codes"          ? c.codes
                                        : part.name == "tensor_scale" ? c.tensor_scale
                                        : part.name == "dequantized"  ? c.dequantized
                                                                      : c.result;
    if (!array) continue;
    const OutputLayout plain;
    given.push_back(matrix(*array, part, part.name == "tensor_scale" ? plain : c.layout, notes));
  }
  if (given.empty()) {
    std::string names;
    for (const Part& part : expected) names += (names.empty() ? "" : ", ") + part.name;
    throw UserError(
        fmt::format("{}: the output holds nothing that {} writes: {}", c.name, name_of(c.operation), names));
  }
  return given;
}

PartVerdict compare(const Part& expected, const Part& got, std::span<const float> input, std::size_t first) {
  PartVerdict v;
  v.name = expected.name;
  v.bits = bit_count(format_of(expected.format));
  v.unit = v.bits == 32 || expected.format == FormatId::bf16 ? "units in the last place" : "codes";
  v.rows = expected.rows;
  v.cols = expected.cols;
  double moved = 0, whole = 0;
  for (std::size_t i = 0; i < expected.bits.size(); ++i) {
    if (!expected.nothing.empty() && expected.nothing[i] != 0) {
      ++v.ignored;
      continue;
    }
    ++v.compared;
    const float want = value_of(expected.format, expected.bits[i]), is = value_of(expected.format, got.bits[i]);
    if (std::isfinite(want) && std::isfinite(is)) {
      whole += std::fabs(static_cast<double>(want));
      moved += std::fabs(static_cast<double>(is)) - std::fabs(static_cast<double>(want));
    }
    if (expected.bits[i] == got.bits[i]) continue;
    ++v.differing;
    ++v.distances[std::isnan(want) && std::isnan(is) ? 0 : distance(expected.format, expected.bits[i], got.bits[i])];
    v.larger += std::fabs(is) > std::fabs(want) ? 1 : 0;
    v.smaller += std::fabs(is) < std::fabs(want) ? 1 : 0;
    if (v.first.size() >= first) continue;
    const std::int64_t row = static_cast<std::int64_t>(i) / expected.cols,
                       col = static_cast<std::int64_t>(i) % expected.cols;
    v.first.push_back({row, col, input.size() == expected.bits.size() ? std::optional(input[i]) : std::nullopt,
                       expected.bits[i], got.bits[i], want, is});
  }
  v.bias = whole > 0 ? moved / whole : 0.0;
  return v;
}

}  // namespace ng::validate
