// SPDX-License-Identifier: Apache-2.0
//
// The reference's answer to each operation, as parts.
#include <fmt/format.h>

#include <algorithm>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/quantize/decoded.hpp"
#include "narrowgauge/quantize/recode.hpp"
#include "narrowgauge/quantize/transpose.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/validate/conversions.hpp"
#include "narrowgauge/validate/reference_quantizer.hpp"
#include "narrowgauge/validate/specs.hpp"
#include "parts.hpp"

namespace ng::validate {
namespace {

std::vector<std::uint32_t> bits_of_all(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(bits_of(value));
  return bits;
}

FormatId format_of_scales(ScaleFormat format) {
  return format == ScaleFormat::e8m0 ? FormatId::e8m0 : format == ScaleFormat::e4m3 ? FormatId::e4m3 : FormatId::fp32;
}

QuantizerInput input_of(const Case& c) {
  return {c.x, c.rows, c.cols, c.axis, c.seed, c.tensor_id, c.step, c.draws, c.tensor_amax};
}

Answer quantized(const Case& c) {
  const QuantizerSpec spec = quantizer_of(c.spec);
  ReferenceQuantizer reference(input_of(c));
  if (!reference.possible(spec, Deviation{}))
    throw UserError(fmt::format("{}: {} cannot be applied to [{}, {}]", c.name, to_text(spec), c.rows, c.cols));
  if (spec.cast.nan == NanChoice::error && spec.element.nan == NanCodes::none &&
      std::any_of(c.x.begin(), c.x.end(), [](float v) { return is_nan_bits(bits_of(v)); }))
    throw UserError(fmt::format("{}: the input holds NaN, which {} forbids; state nan=largest, zero or negated_zero",
                                c.name, to_text(spec)));
  return parts_of_tensor(reference.quantize(spec), spec.decode);
}

Answer transformed(const Case& c) {
  QuantizerSpec spec;
  spec.hadamard = hadamard_of(c.spec);
  ReferenceQuantizer reference(input_of(c));
  if (!reference.possible(spec, Deviation{}))
    throw UserError(fmt::format("{}: a transform of {} does not divide [{}, {}] along axis {}", c.name,
                                spec.hadamard.size, c.rows, c.cols, name_of(c.axis)));
  const std::span<const float> y = reference.prepared_input(spec);
  std::vector<float> values(y.begin(), y.end());
  if (c.axis == Orientation::column) values = turned(values, c.cols, c.rows);
  return {{"result", FormatId::fp32, c.rows, c.cols, bits_of_all(values), {}}};
}

Answer product(const Case& c, const VerifyOptions& options) {
  if (!options.product) throw UserError(c.name + ": products cannot be judged here");
  const Array result = options.product(c.spec, c.operands);
  const FormatId format = result.dtype == Dtype::bf16  ? FormatId::bf16
                          : result.dtype == Dtype::f16 ? FormatId::fp16
                                                       : FormatId::fp32;
  std::vector<std::uint32_t> bits;
  if (format == FormatId::fp32) {
    bits = bits_of_all(result.as_f32());
  } else {
    for (std::size_t i = 0; i + 1 < result.data.size(); i += 2)
      bits.push_back(std::to_integer<std::uint32_t>(result.data[i]) | std::to_integer<std::uint32_t>(result.data[i + 1])
                                                                          << 8);
  }
  return {{"result", format, result.rows(), result.cols(), std::move(bits), {}}};
}

}  // namespace

Answer parts_of_tensor(const UnpackedTensor& t, DecodeOrder order) {
  Answer parts;
  Part codes{"codes", t.element, t.rows, t.cols, {t.codes.begin(), t.codes.end()}, {}};
  const std::vector<float> decoded = decoded_values(t, order);
  if (t.scale_format == ScaleFormat::e8m0 &&
      std::find(t.scale_codes.begin(), t.scale_codes.end(), 0xff) != t.scale_codes.end()) {
    const std::vector<std::int64_t> scale_col = t.scale_col_of_col();
    for (std::int64_t r = 0; r < t.rows; ++r)
      for (std::int64_t c = 0; c < t.cols; ++c)
        codes.nothing.push_back(t.scale_codes[static_cast<std::size_t>(r / t.tile_rows * t.scale_cols() +
                                                                       scale_col[static_cast<std::size_t>(c)])] ==
                                0xff);
  }
  parts.push_back(std::move(codes));
  if (t.scale_format != ScaleFormat::none) {
    Part scales{"scales", format_of_scales(t.scale_format), t.scale_rows(), t.scale_cols(), {}, {}};
    scales.bits = t.scale_format == ScaleFormat::f32
                      ? bits_of_all(t.scale_values)
                      : std::vector<std::uint32_t>(t.scale_codes.begin(), t.scale_codes.end());
    parts.push_back(std::move(scales));
  }
  if (t.tensor_scale) parts.push_back({"tensor_scale", FormatId::fp32, 1, 1, {bits_of(*t.tensor_scale)}, {}});
  parts.push_back({"dequantized", FormatId::fp32, t.rows, t.cols, bits_of_all(decoded), {}});
  return parts;
}

Answer answer(const Case& c, const VerifyOptions& options) {
  switch (c.operation) {
    case Operation::quantize:
      return quantized(c);
    case Operation::transpose:
      return parts_of_tensor(transposed_reference(*c.source, transpose_of(c.spec), c.splits));
    case Operation::recode:
      return parts_of_tensor(recoded_reference(*c.source, quantizer_of(c.spec), c.axis));
    case Operation::matmul:
      return product(c, options);
    case Operation::hadamard:
      return transformed(c);
  }
  return {};
}

}  // namespace ng::validate
