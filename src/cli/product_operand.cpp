// SPDX-License-Identifier: Apache-2.0
//
// product_operand.hpp: shapes and types are checked here, before any arithmetic.
#include "product_operand.hpp"

#include <fmt/format.h>

#include <optional>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/io/read_tensor.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/recipe/enum_names.hpp"

namespace ng::cli {
namespace {

FormatId format_for(const Array& array, const std::string& name) {
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
      throw UserError(fmt::format("{}: {} values without a named format; give --a-format or --b-format", array.origin,
                                  name_of(array.dtype)));
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

ProductOperand read_operand(const std::string& in, const std::string& format_name) {
  const Array array = read_tensor(in);
  ProductOperand operand;
  operand.format = format_for(array, format_name);
  operand.rows = array.rows();
  operand.cols = array.cols();
  operand.origin = array.origin;
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
  for (std::size_t i = 0; i < operand.values.size(); ++i) {
    float& value = operand.values[i];
    if (is_nan_bits(bits_of(value)) && format.nan != NanCodes::none) continue;
    const float held = decode(format, encode(format, CastChoices{}, value));
    if (operand.format != FormatId::tf32 && bits_of(held) != bits_of(value))
      throw UserError(fmt::format("{}: element {} is {}, which {} cannot hold; quantize it first", array.origin, i,
                                  value, name_of(operand.format)));
    value = held;
  }
  return operand;
}

OperandScaleValues read_scales(const std::string& in, ScaleMode mode, std::int64_t rows, std::int64_t k) {
  const Array array = read_tensor(in);
  OperandScaleValues scales;
  scales.values = array.as_f32();
  const std::int64_t blocks = is_blockwise(mode) ? (k + kScaleBlock - 1) / kScaleBlock : 1;
  if (mode == ScaleMode::tensor) rows = 1;
  const bool matrix = is_blockwise(mode) && (array.rows() != rows || array.cols() != blocks);
  if (matrix || array.count() != rows * blocks)
    throw UserError(fmt::format("{}: scales of shape {} do not fit; needed: [{}, {}]", array.origin,
                                shape_text(array.shape), rows, blocks));
  scales.stride = mode == ScaleMode::tensor ? 0 : blocks;
  return scales;
}

BlockScaleValues read_block_scales(const std::string& in, std::int64_t rows, std::int64_t k) {
  const Array array = read_tensor(in);
  if (array.dtype != Dtype::u8)
    throw UserError(fmt::format("{}: block scales are codes of one byte, not {}", array.origin, name_of(array.dtype)));
  const bool named_wrongly = !array.format.empty() && array.format != "e8m0" && array.format != "e4m3";
  BlockScaleValues scales;
  for (const OperandScales kind : {OperandScales::e8m0_per_32, OperandScales::e4m3_per_16}) {
    const std::int64_t per = block_scale_k(kind);
    const bool fits = array.rows() == rows && array.cols() == (k + per - 1) / per;
    if (!fits || named_wrongly || (!array.format.empty() && array.format != name_of(block_scale_format(kind))))
      continue;
    scales.scales = kind;
    scales.blocks = array.cols();
    for (const std::uint8_t code : array.as<std::uint8_t>())
      scales.values.push_back(decode(format_of(block_scale_format(kind)), code));
    return scales;
  }
  throw UserError(fmt::format("{}: block scales {}of shape {} do not fit; needed: e8m0 [{}, {}] or e4m3 [{}, {}]",
                              array.origin, array.format.empty() ? "" : array.format + " ", shape_text(array.shape),
                              rows, (k + 31) / 32, rows, (k + 15) / 16));
}

}  // namespace ng::cli
