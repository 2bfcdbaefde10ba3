// SPDX-License-Identifier: Apache-2.0
//
// reference_product.hpp: shapes and types are checked here, before any arithmetic.
#include <fmt/format.h>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/validate/reference_product.hpp"

namespace ng::validate {
namespace {

FormatId format_for(const Array& array, const std::string& name, const std::string& key) {
  std::string wanted = name;
  if (wanted.empty()) {
    if (!array.format.empty())
      wanted = array.format;
    else if (array.dtype == Dtype::bf16)
      wanted = "bf16";
    else if (array.dtype == Dtype::f16)
      wanted = "fp16";
    else if (array.dtype == Dtype::f32)
      wanted = "fp32";
    else
      throw UserError(
          fmt::format("{}: {} values without a named format; give {}", array.origin, name_of(array.dtype), key));
  }
  const std::optional<FormatId> id = find_format(wanted);
  if (!id) {
    std::vector<std::string> names;
    for (const NamedFormat& f : format_catalog()) names.emplace_back(f.name);
    throw UserError(fmt::format("format '{}' is unknown; {}", wanted, suggestion(wanted, names)));
  }
  if (!array.format.empty() && array.format != wanted)
    throw UserError(fmt::format("{}: holds codes of {}, not of {}", array.origin, array.format, wanted));
  return *id;
}

template <class Code>
std::vector<float> decoded(const Array& array, FormatId id) {
  const ElementFormat format = format_of(id);
  // TF32 and FP32 travel as FP32 bits.
  const bool whole = id == FormatId::tf32 || id == FormatId::fp32;
  const int bits = whole ? 32 : bit_count(format);
  if (bits > static_cast<int>(8 * sizeof(Code)) || (sizeof(Code) == 4 && !whole))
    throw UserError(fmt::format("{}: codes of {} have {} bits; {} does not fit", array.origin, name_of(id), bits,
                                name_of(array.dtype)));
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(array.count()));
  for (const Code code : array.as<Code>()) {
    if (whole) {
      values.push_back(float_of(code));
    } else {
      if (static_cast<std::uint32_t>(code) >> bits != 0)
        throw UserError(
            fmt::format("{}: {} is no code of {}, which has {} bits", array.origin, code, name_of(id), bits));
      values.push_back(decode(format, code));
    }
  }
  return values;
}

}  // namespace

OperandNumbers operand_numbers(const Array& array, const std::string& format_name, const std::string& key) {
  OperandNumbers operand;
  operand.format = format_for(array, format_name, key);
  operand.rows = array.rows();
  operand.cols = array.cols();
  bool codes = true;
  if (array.dtype == Dtype::u8) {
    operand.values = decoded<std::uint8_t>(array, operand.format);
  } else if (array.dtype == Dtype::u16) {
    operand.values = decoded<std::uint16_t>(array, operand.format);
  } else if (array.dtype == Dtype::u32) {
    operand.values = decoded<std::uint32_t>(array, operand.format);
  } else {
    operand.values = array.as_f32();
    codes = false;
  }
  const ElementFormat format = format_of(operand.format);
  if (operand.format == FormatId::fp32 || (codes && operand.format != FormatId::tf32)) return operand;
  CastChoices choices;
  if (operand.format == FormatId::tf32) choices.overflow = Overflow::nonfinite;
  for (std::size_t i = 0; i < operand.values.size(); ++i) {
    float& value = operand.values[i];
    if (is_nan_bits(bits_of(value)) && format.nan != NanCodes::none) continue;
    const float held = decode(format, encode(format, choices, value));
    if (operand.format != FormatId::tf32 && bits_of(held) != bits_of(value))
      throw UserError(fmt::format("{}: element {} is {}, which {} cannot hold; quantize it first", array.origin, i,
                                  value, name_of(operand.format)));
    value = held;
  }
  return operand;
}

BlockScales block_scales(const Array& array, std::int64_t rows, std::int64_t k) {
  if (array.dtype != Dtype::u8)
    throw UserError(fmt::format("{}: block scales are codes of one byte, not {}", array.origin, name_of(array.dtype)));
  BlockScales scales;
  for (const OperandScales kind : {OperandScales::e8m0_per_32, OperandScales::e4m3_per_16}) {
    const std::int64_t per = block_scale_k(kind);
    const bool fits = array.rows() == rows && array.cols() == (k + per - 1) / per;
    if (!fits || (!array.format.empty() && array.format != name_of(block_scale_format(kind)))) continue;
    scales.kind = kind;
    scales.blocks = array.cols();
    for (const std::uint8_t code : array.as<std::uint8_t>())
      scales.values.push_back(decode(format_of(block_scale_format(kind)), code));
    return scales;
  }
  throw UserError(fmt::format("{}: block scales {}of shape {} do not fit; needed: e8m0 [{}, {}] or e4m3 [{}, {}]",
                              array.origin, array.format.empty() ? "" : array.format + " ", shape_text(array.shape),
                              rows, (k + 31) / 32, rows, (k + 15) / 16));
}

std::vector<float> product_scales(const Array& array, ScaleMode mode, std::int64_t rows, std::int64_t k) {
  const std::int64_t blocks = is_blockwise(mode) ? (k + kScaleBlock - 1) / kScaleBlock : 1;
  if (mode == ScaleMode::tensor) rows = 1;
  const bool matrix = is_blockwise(mode) && (array.rows() != rows || array.cols() != blocks);
  if (matrix || array.count() != rows * blocks)
    throw UserError(fmt::format("{}: scales of shape {} do not fit; needed: [{}, {}]", array.origin,
                                shape_text(array.shape), rows, blocks));
  return array.as_f32();
}

ProductOperands ProductOperands::from(const std::map<std::string, Array>& arrays, const ProductSpec& spec) {
  const auto find = [&](const char* key) -> const Array* {
    const auto at = arrays.find(key);
    return at == arrays.end() ? nullptr : &at->second;
  };
  const auto needed = [&](const char* key) -> const Array& {
    if (const Array* array = find(key)) return *array;
    throw UserError(
        fmt::format("a product needs operand '{}'; a case has a, b, and where the spec says so scale_a, "
                    "scale_b, block_scales_a, block_scales_b",
                    key));
  };
  ProductOperands in;
  in.a = operand_numbers(needed("a"), spec.a_format, "a_format");
  in.b = operand_numbers(needed("b"), spec.b_format, "b_format");
  if (in.a.cols != in.b.cols)
    throw UserError(fmt::format("D = A B^T: {} is [{}, {}] and {} is [{}, {}]; the last extents differ",
                                needed("a").origin, in.a.rows, in.a.cols, needed("b").origin, in.b.rows, in.b.cols));
  for (const char* key : {"scale_a", "scale_b"})
    if ((find(key) != nullptr) != (spec.scale_mode != ScaleMode::none))
      throw UserError(fmt::format("operand '{}' and scale_mode={} do not go together", key, name_of(spec.scale_mode)));
  if (spec.scale_mode != ScaleMode::none) {
    const bool square = spec.scale_mode == ScaleMode::block_128x128;
    in.scale_a = product_scales(needed("scale_a"), spec.scale_mode, in.a.rows, in.a.cols);
    in.scale_b =
        product_scales(needed("scale_b"), spec.scale_mode, square ? (in.b.rows + 127) / 128 : in.b.rows, in.b.cols);
  }
  if ((find("block_scales_a") != nullptr) != (find("block_scales_b") != nullptr))
    throw UserError("operands 'block_scales_a' and 'block_scales_b' come together");
  if (find("block_scales_a") != nullptr) {
    in.block_a = block_scales(needed("block_scales_a"), in.a.rows, in.a.cols);
    in.block_b = block_scales(needed("block_scales_b"), in.b.rows, in.b.cols);
    if (in.block_a.kind != in.block_b.kind)
      throw UserError("block scales of A and B are of different kinds: e8m0 per 32, or e4m3 per 16");
  }
  return in;
}

}  // namespace ng::validate
