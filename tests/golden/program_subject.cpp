// SPDX-License-Identifier: Apache-2.0
//
// Translation between the oracle's plain structs and the program's specs and tensors.
#include "program_subject.hpp"

#include <stdexcept>
#include <utility>

#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/packing.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "unit/numerics_vs_oracle/choices.hpp"

namespace ng_golden {
namespace {

using ng_oracle::bits_of;
using ng_oracle::BlockSpec;
using ng_oracle::Quantized;

ng::FormatId format_id(const std::string& name) {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (name == f.name) return f.id;
  }
  throw std::invalid_argument("the program has no format " + name);
}

ng::ScaleRule program_rule(ng_oracle::ScaleRule rule) {
  using O = ng_oracle::ScaleRule;
  using P = ng::ScaleRule;
  switch (rule) {
    case O::floor:
      return P::floor;
    case O::ceil:
      return P::ceil;
    case O::even:
      return P::even;
    case O::rceil:
      return P::rceil;
    case O::absmax:
      return P::absmax;
    case O::absmax_pow2:
      return P::absmax_pow2;
    case O::msamp_pow2:
      return P::msamp_pow2;
    case O::te_v2_14:
      return P::te_v2_14;
    case O::te_v2_13:
      return P::te_v2_13;
    case O::nvfp4_paper:
      return P::nvfp4_paper;
    case O::four_over_six_mae:
    case O::four_over_six_mse:
      return P::four_over_six;
    case O::ao_one_level:
      return P::ao_one_level;
    case O::ao_two_level:
      return P::ao_two_level;
  }
  throw std::invalid_argument("unknown scale rule");
}

/// Downloads a buffer of `count` values of T.
template <class T>
std::vector<T> downloaded(const ng::Backend& backend, const ng::Buffer& buffer, ng::Dtype dtype, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count > 0) {
    const ng::Tensor tensor = ng::make_tensor(buffer, dtype, 1, count);
    backend.download(values.data(), tensor.view);
  }
  return values;
}

}  // namespace

ng::QuantizerSpec program_spec(const BlockSpec& spec) {
  ng::QuantizerSpec q = ng::bare_cast(format_id(spec.element));
  q.scale_format = spec.scale_format == ng_oracle::ScaleFormat::e8m0   ? ng::ScaleFormat::e8m0
                   : spec.scale_format == ng_oracle::ScaleFormat::e4m3 ? ng::ScaleFormat::e4m3
                                                                       : ng::ScaleFormat::f32;
  q.rule = program_rule(spec.rule);
  q.tile_rows = static_cast<std::int32_t>(spec.tile_rows);
  q.tile_cols = static_cast<std::int32_t>(spec.tile_cols);
  q.cast = ng_test::program(spec.encode);
  q.application = spec.divide ? ng::ScaleApplication::divide : ng::ScaleApplication::multiply;
  q.four_over_six_error =
      spec.rule == ng_oracle::ScaleRule::four_over_six_mse ? ng::FourOverSixError::mse : ng::FourOverSixError::mae;
  q.four_over_six_e4m3_max = static_cast<float>(spec.e4m3_max);
  q.amax_floor = spec.amax_floor;
  q.infinite_scale_code = static_cast<std::uint8_t>(spec.infinite_code);
  q.hadamard.size = static_cast<std::int16_t>(spec.hadamard);
  q.hadamard.signs = spec.hadamard_signs == ng_oracle::HadamardSigns::te_fixed ? ng::HadamardSigns::te_fixed
                     : spec.hadamard_signs == ng_oracle::HadamardSigns::seeded ? ng::HadamardSigns::seeded
                                                                               : ng::HadamardSigns::none;
  q.hadamard.order = spec.hadamard_order == ng_oracle::HadamardOrder::serial ? ng::HadamardOrder::serial
                                                                             : ng::HadamardOrder::butterfly;
  q.hadamard.result =
      spec.hadamard_result == ng_oracle::HadamardResult::f32 ? ng::HadamardResult::f32 : ng::HadamardResult::bf16;
  if (spec.hadamard == 0) q.hadamard = {};
  return q;
}

ng::Tensor uploaded(ng::Backend& backend, const std::vector<float>& x, std::size_t rows, std::size_t cols) {
  ng::Tensor tensor = backend.tensor(ng::Dtype::f32, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols));
  if (!x.empty()) backend.upload(tensor.view, x.data());
  return tensor;
}

Quantized read_back(ng::Backend& backend, const ng::QuantizedTensor& q) {
  const ng::QuantizerSpec& spec = q.spec;
  Quantized result;
  result.rows = static_cast<std::size_t>(q.rows);
  result.cols = static_cast<std::size_t>(q.cols);
  result.scale_rows = static_cast<std::size_t>(q.scale_rows);
  result.scale_cols = static_cast<std::size_t>(q.scale_cols);
  const auto bytes = downloaded<std::uint8_t>(backend, q.codes, ng::Dtype::u8, q.rows * q.row_bytes);
  for (std::int64_t r = 0; r < q.rows; ++r) {
    for (std::int64_t c = 0; c < q.cols; ++c) {
      result.codes.push_back(ng::load_code(bytes.data() + r * q.row_bytes, q.storage, static_cast<std::size_t>(c)));
    }
  }
  const std::int64_t scales = q.scale_rows * q.scale_cols;
  if (spec.scale_format == ng::ScaleFormat::f32) {
    for (const float s : downloaded<float>(backend, q.scales, ng::Dtype::f32, scales)) {
      result.scale_codes.push_back(bits_of(s));
    }
  } else if (spec.scale_format != ng::ScaleFormat::none) {
    for (const std::uint8_t s : downloaded<std::uint8_t>(backend, q.scales, ng::Dtype::u8, scales)) {
      result.scale_codes.push_back(s);
    }
  }
  for (const std::uint32_t code : result.scale_codes) {
    result.scales.push_back(ng::stored_scale_value(spec.scale_format, code));
  }
  result.two_level = q.has_tensor_scale();
  if (result.two_level) {
    result.tensor_scale = downloaded<float>(backend, q.tensor_scales, ng::Dtype::f32, 1).at(0);
  }
  const ng::Tensor decoded = backend.tensor(ng::Dtype::f32, q.rows, q.cols);
  backend.dequantize(q, decoded.view);
  result.decoded.resize(result.rows * result.cols);
  backend.download(result.decoded.data(), decoded.view);
  return result;
}

Subject program_subject(std::shared_ptr<ng::Backend> backend) {
  Subject s;
  s.name = "narrowgauge (" + backend->name() + ")";
  s.encode = [](const std::string& format, float x,
                const ng_oracle::EncodeChoices& choices) -> std::optional<std::uint32_t> {
    const ng::FormatId id = format_id(format);
    if (id == ng::FormatId::e8m0) return ng::cast_to_e8m0(x);
    return ng::encode(ng::format_of(id), ng_test::program(choices), x, choices.random);
  };
  s.decode_bits = [](const std::string& format, std::uint32_t code) {
    return bits_of(ng::decode(ng::format_of(format_id(format)), code));
  };
  s.quantize = [backend](const std::vector<float>& x, std::size_t rows, std::size_t cols, const BlockSpec& spec,
                         bool column) {
    const ng::Tensor input = uploaded(*backend, x, rows, cols);
    return read_back(*backend, backend->quantize({}, input.view, {}, program_spec(spec),
                                                 column ? ng::Orientation::column : ng::Orientation::row, {}));
  };
  return s;
}

}  // namespace ng_golden
