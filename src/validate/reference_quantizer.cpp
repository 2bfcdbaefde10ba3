// SPDX-License-Identifier: Apache-2.0
//
// reference_quantizer.hpp. The arithmetic is numerics/ and quantize/; here are loops, caches and the known defects.
#include "narrowgauge/validate/reference_quantizer.hpp"

#include <algorithm>
#include <numeric>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/quantize/four_over_six.hpp"
#include "narrowgauge/quantize/outlier_split.hpp"

namespace ng::validate {
namespace {

constexpr std::size_t kKeptInputs = 3;

bool is_subnormal(float value) {
  const std::uint32_t magnitude = magnitude_bits(value);
  return magnitude != 0 && magnitude < 0x00800000u;
}
float flushed(float value) {
  return is_subnormal(value) ? float_of(bits_of(value) & kSignBit) : value;
}

float through(FormatId id, float value) {
  CastChoices choices;
  choices.overflow = Overflow::nonfinite;
  return decode(format_of(id), encode(format_of(id), choices, value));
}

void transform(const HadamardSpec& spec, std::uint32_t seed, std::vector<float>& x) {
  const HadamardSignMask mask = hadamard_sign_mask(spec, seed);
  const std::size_t n = static_cast<std::size_t>(spec.size);
  for (std::size_t i = 0; i + n <= x.size(); i += n) hadamard_transform(spec, mask, x.data() + i);
}

void clamp_rows(double quantile, float* x, std::size_t count) {
  if (count == 0 || std::any_of(x, x + count, [](float v) { return is_nan_bits(bits_of(v)); })) return;
  std::vector<std::uint32_t> keys;
  keys.reserve(count);
  for (std::size_t i = 0; i < count; ++i) keys.push_back(sort_key(x[i]));
  const OutlierRanks ranks = outlier_ranks(quantile, static_cast<std::int64_t>(count));
  const auto at = [&](std::int64_t rank) {
    std::nth_element(keys.begin(), keys.begin() + rank, keys.end());
    return value_of_sort_key(keys[static_cast<std::size_t>(rank)]);
  };
  const OutlierBounds bounds{at(ranks.low), at(ranks.high)};
  for (std::size_t i = 0; i < count; ++i) x[i] = clamp_outlier(bounds, x[i]);
}

/// The factor of elements, made with other roundings.
void apply_factor(const QuantizerSpec& spec, Factor factor, std::uint32_t amax_bits, const TensorScale& tensor,
                  TileScale& scale, bool& divides) {
  if (factor == Factor::none || scale.poisoned || amax_bits == 0) return;
  const float amax = float_of(amax_bits), largest = scale_detail::largest_value(spec.element);
  const bool f32 = spec.scale_format == ScaleFormat::f32;
  switch (factor) {
    case Factor::none:
      break;
    case Factor::reciprocal_of_scale:
      if (f32) {
        scale.decode = div_rn(amax, largest);
        scale.code = bits_of(scale.decode);
      }
      scale.encode = f32 ? div_rn(1.0f, scale.decode) : mul_rn(tensor.encode, div_rn(1.0f, scale.decode));
      break;
    case Factor::reciprocal_of_amax:
      scale.encode = mul_rn(largest, div_rn(1.0f, amax));
      scale.decode = div_rn(1.0f, scale.encode);
      scale.code = bits_of(scale.decode);
      break;
    case Factor::divide_by_scale:
      scale.divisor = f32 ? scale.decode : mul_rn(scale.decode, tensor.decode);
      divides = true;
      break;
  }
}

float with_top_binade(const ElementFormat& f, TopBinade defect, float value) {
  if (defect == TopBinade::none || is_nan_bits(bits_of(value))) return value;
  const float power = power_of_two(largest_exponent(f));
  if (float_of(magnitude_bits(value)) < power) return value;
  return with_sign_of(defect == TopBinade::clamped ? power : scale_detail::largest_value(f), value);
}

bool is_subnormal_code(const ElementFormat& f, std::uint32_t code) {
  if (f.sign != SignLayout::sign_magnitude || !f.subnormals) return false;
  return (code & magnitude_mask(f)) >> f.mantissa_bits == 0;
}

}  // namespace

struct ReferenceQuantizer::Prepared {
  HadamardSpec hadamard;
  OutlierSpec outlier;
  bool flush = false;
  std::vector<float> copy;  ///< empty: the input as it is
  std::map<std::tuple<std::int64_t, std::int64_t, AmaxDefect>, std::vector<std::uint32_t>> amax;
};

/// Tiles on the matrix as quantized.
struct ReferenceQuantizer::Tiles {
  Tiles(const QuantizerSpec& spec, std::int64_t rows, std::int64_t cols)
      : height(spec.tile_rows == 0 ? std::max<std::int64_t>(rows, 1) : spec.tile_rows),
        width(spec.tile_cols == 0 ? std::max<std::int64_t>(cols, 1) : spec.tile_cols),
        down(tile_count(rows, height)),
        across(tile_count(cols, width)) {}
  std::int64_t height, width, down, across;
};

ReferenceQuantizer::ReferenceQuantizer(QuantizerInput input) : input_(std::move(input)) {
  NG_CHECK_EQ(static_cast<std::int64_t>(input_.x.size()), input_.rows * input_.cols);
  NG_CHECK(input_.draws.empty() || input_.draws.size() == input_.x.size());
  const bool turned = input_.axis == Orientation::column;
  rows_ = turned ? input_.cols : input_.rows;
  cols_ = turned ? input_.rows : input_.cols;
  if (turned) turned_ = copied_matrix<float>(input_.x.data(), input_.rows, input_.cols, true);
}

ReferenceQuantizer::~ReferenceQuantizer() = default;

bool ReferenceQuantizer::possible(const QuantizerSpec& spec, const Deviation& d) const {
  if (spec.hadamard.size != 0 && cols_ % spec.hadamard.size != 0) return false;
  if (spec.rule == ScaleRule::four_over_six && spec.tile_rows > kFourOverSixLines) return false;
  const bool pow2 = spec.scale_format == ScaleFormat::e8m0 || spec.scale_format == ScaleFormat::none ||
                    spec.rule == ScaleRule::absmax_pow2 || spec.rule == ScaleRule::msamp_pow2;
  if (d.factor != Factor::none && pow2) return false;
  if (d.factor == Factor::reciprocal_of_amax && spec.scale_format != ScaleFormat::f32) return false;
  if (d.draw_order != DrawOrder::none && spec.cast.rounding != Rounding::stochastic) return false;
  if (d.nibble_order != NibbleOrder::none && (bit_count(spec.element) > 4 || cols_ < 2)) return false;
  if (d.amax != AmaxDefect::none && spec.scale_format == ScaleFormat::none) return false;
  return d.intermediate == Intermediate::none || bit_count(spec.element) < 16;
}

ReferenceQuantizer::Prepared& ReferenceQuantizer::prepare(const QuantizerSpec& spec, const Deviation& deviation) {
  const bool flush = deviation.flush == Flush::input;
  for (auto it = prepared_.begin(); it != prepared_.end(); ++it) {
    if (it->hadamard != spec.hadamard || it->outlier != spec.outlier || it->flush != flush) continue;
    prepared_.splice(prepared_.begin(), prepared_, it);
    return prepared_.front();
  }
  prepared_.push_front(Prepared{spec.hadamard, spec.outlier, flush, {}, {}});
  if (prepared_.size() > kKeptInputs) prepared_.pop_back();
  Prepared& p = prepared_.front();
  const bool splits = spec.outlier.quantile != 0.0;
  if (!flush && !splits && spec.hadamard.size == 0) return p;
  const std::span<const float> x = turned_input();
  p.copy.assign(x.begin(), x.end());
  if (flush)
    for (float& value : p.copy) value = flushed(value);
  if (spec.hadamard.size != 0) transform(spec.hadamard, input_.seed, p.copy);
  if (splits && spec.outlier.scope == OutlierScope::tensor)
    clamp_rows(spec.outlier.quantile, p.copy.data(), p.copy.size());
  for (std::int64_t r = 0; splits && spec.outlier.scope == OutlierScope::row && r < rows_; ++r)
    clamp_rows(spec.outlier.quantile, p.copy.data() + r * cols_, static_cast<std::size_t>(cols_));
  return p;
}

std::span<const float> ReferenceQuantizer::prepared_input(const QuantizerSpec& spec) {
  const Prepared& p = prepare(spec, Deviation{});
  return p.copy.empty() ? turned_input() : std::span<const float>(p.copy);
}

const std::vector<std::uint32_t>& ReferenceQuantizer::tile_amax(Prepared& p, const QuantizerSpec& spec,
                                                                AmaxDefect defect) {
  const Tiles tiles(spec, rows_, cols_);
  const auto [found, fresh] = p.amax.try_emplace({tiles.height, tiles.width, defect});
  std::vector<std::uint32_t>& amax = found->second;
  if (!fresh) return amax;
  amax.assign(static_cast<std::size_t>(tiles.down * tiles.across), 0);
  const std::span<const float> x = p.copy.empty() ? turned_input() : std::span<const float>(p.copy);
  for (std::int64_t r = 0; r < rows_; ++r)
    for (std::int64_t c = 0; c < cols_; ++c) {
      const std::uint32_t bits = bits_of(x[static_cast<std::size_t>(r * cols_ + c)]);
      if (defect == AmaxDefect::without_magnitude && (bits & kSignBit) != 0) continue;
      if (defect == AmaxDefect::ignores_last_column && tiles.width > 1 && (c + 1) % tiles.width == 0) continue;
      std::uint32_t& to = amax[static_cast<std::size_t>(r / tiles.height * tiles.across + c / tiles.width)];
      to = std::max(to, bits & kMagnitudeMask);
    }
  return amax;
}

float ReferenceQuantizer::tensor_amax(const QuantizerSpec& spec, const Deviation& deviation) {
  if (input_.tensor_amax) return float_of(magnitude_bits(*input_.tensor_amax));
  const bool flush = deviation.flush == Flush::input;
  for (const KnownAmax& known : known_amaxes_)
    if (known.hadamard == spec.hadamard && known.outlier == spec.outlier && known.flush == flush &&
        known.defect == deviation.amax)
      return float_of(known.amax);
  const std::vector<std::uint32_t>& amax = tile_amax(prepare(spec, deviation), spec, deviation.amax);
  const std::uint32_t whole = amax.empty() ? 0 : *std::max_element(amax.begin(), amax.end());
  known_amaxes_.push_back({spec.hadamard, spec.outlier, flush, deviation.amax, whole});
  return float_of(whole);
}

std::uint32_t ReferenceQuantizer::draw_of(const QuantizerSpec& spec, DrawOrder order, std::int64_t row,
                                          std::int64_t col) const {
  const bool turned = input_.axis == Orientation::column;
  const std::int64_t index = turned ? col * input_.cols + row : row * input_.cols + col;
  const std::int64_t taken = index ^ static_cast<std::int64_t>(order);
  const std::uint32_t mask = spec.cast.random_bits == 32 ? 0xffffffffu : (1u << spec.cast.random_bits) - 1u;
  if (!input_.draws.empty())
    return input_.draws[static_cast<std::size_t>(std::min(taken, input_.rows * input_.cols - 1))] & mask;
  const RandomStream stream{input_.seed, RandomPurpose::stochastic_rounding, input_.tensor_id, input_.step};
  return random_draw(stream, static_cast<std::uint64_t>(taken), spec.cast.random_bits);
}

QuantizedRows ReferenceQuantizer::quantize(const QuantizerSpec& spec, const Deviation& deviation,
                                           std::span<const std::int64_t> rows, bool decoded) {
  NG_CHECK(possible(spec, deviation));
  Prepared& p = prepare(spec, deviation);
  const std::span<const float> x = p.copy.empty() ? turned_input() : std::span<const float>(p.copy);
  const Tiles tiles(spec, rows_, cols_);
  const bool scaled = spec.scale_format != ScaleFormat::none;
  const std::vector<std::uint32_t>& amax = tile_amax(p, spec, deviation.amax);
  const bool wants_whole = needs_tensor_amax(spec.rule) || input_.tensor_amax.has_value();
  const std::uint32_t whole = wants_whole ? bits_of(tensor_amax(spec, deviation)) : 0u;
  const TensorScale tensor = tensor_scale(spec, whole);

  QuantizedRows result;
  result.scale_cols = scaled ? tiles.across : 0;
  result.tensor_scale = tensor.decode;
  result.tensor_amax = tensor.amax;
  result.codes.reserve(rows.size() * static_cast<std::size_t>(cols_));
  result.nothing.reserve(result.codes.capacity());
  std::vector<TileScale> scales(static_cast<std::size_t>(tiles.across));
  std::vector<std::uint8_t> divides(scales.size(), spec.application == ScaleApplication::divide ? 1 : 0);
  std::int64_t made = -1;
  for (const std::int64_t r : rows) {
    const std::int64_t tile_row = r / tiles.height;
    for (std::int64_t t = 0; scaled && made != tile_row && t < tiles.across; ++t) {
      std::uint32_t bits = amax[static_cast<std::size_t>(tile_row * tiles.across + t)];
      const bool one_tile = tiles.down * tiles.across == 1;
      if (one_tile && input_.tensor_amax && !needs_tensor_amax(spec.rule)) bits = whole;
      if (deviation.flush == Flush::scale && bits < 0x00800000u) bits = 0;
      const std::size_t at = static_cast<std::size_t>(t);
      if (spec.rule == ScaleRule::four_over_six) {
        const std::int64_t row0 = tile_row * tiles.height, col0 = t * tiles.width;
        const float* corner = x.data() + row0 * cols_ + col0;
        scales[at] = four_over_six_scale(spec, bits, tensor, std::min(tiles.height, rows_ - row0),
                                         std::min(tiles.width, cols_ - col0),
                                         [&](std::int64_t l, std::int64_t i) { return corner[l * cols_ + i]; });
      } else {
        scales[at] = tile_scale(spec, bits, tensor);
      }
      bool by_division = spec.application == ScaleApplication::divide;
      apply_factor(spec, deviation.factor, bits, tensor, scales[at], by_division);
      divides[at] = by_division ? 1 : 0;
      if (deviation.flush == Flush::scale) {
        scales[at].encode = flushed(scales[at].encode);
        if (spec.scale_format == ScaleFormat::f32) {
          scales[at].decode = flushed(scales[at].decode);
          scales[at].code = bits_of(scales[at].decode);
        }
      }
      result.scales.push_back(scales[at].code);
    }
    made = tile_row;
    for (std::int64_t c = 0; c < cols_; ++c) {
      const std::size_t at = static_cast<std::size_t>(scaled ? c / tiles.width : 0);
      const TileScale& scale = scales[at];
      const float value = x[static_cast<std::size_t>(r * cols_ + c)];
      result.nan_inputs += is_nan_bits(bits_of(value)) ? 1 : 0;
      std::uint32_t code = 0;
      if (!scale.poisoned) {
        float v = !scaled            ? value
                  : divides[at] != 0 ? scaled_by_division(value, scale.divisor)
                                     : scaled_by_factor(value, scale.encode);
        if (deviation.flush == Flush::scaled) v = flushed(v);
        if (deviation.intermediate != Intermediate::none)
          v = through(deviation.intermediate == Intermediate::fp16 ? FormatId::fp16 : FormatId::bf16, v);
        v = with_top_binade(spec.element, deviation.top_binade, v);
        const bool random = spec.cast.rounding == Rounding::stochastic;
        code = encode(spec.element, spec.cast, v, random ? draw_of(spec, deviation.draw_order, r, c) : 0u);
        if (deviation.flush == Flush::element && is_subnormal_code(spec.element, code))
          code &= spec.element.negative_zero ? sign_mask(spec.element) : 0u;
      }
      result.codes.push_back(static_cast<std::uint16_t>(code));
      result.nothing.push_back(scale.poisoned ? 1 : 0);
      if (!decoded) continue;
      const float s = scaled ? scale.decode : 1.0f;
      result.decoded.push_back(spec.decode == DecodeOrder::te
                                   ? decoded_product(decode(spec.element, code), te_decode_factor(s, tensor.amax))
                                   : decode_scaled(spec, s, tensor.decode, code));
    }
    if (deviation.nibble_order == NibbleOrder::swapped) {
      const auto row = result.codes.end() - cols_;
      for (std::int64_t c = 0; c + 1 < cols_; c += 2) std::iter_swap(row + c, row + c + 1);
    }
  }
  return result;
}

UnpackedTensor ReferenceQuantizer::quantize(const QuantizerSpec& spec) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(rows_));
  std::iota(all.begin(), all.end(), 0);
  const QuantizedRows q = quantize(spec, Deviation{}, all);
  const Tiles tiles(spec, rows_, cols_);
  const bool turned = input_.axis == Orientation::column;
  UnpackedTensor t;
  t.element = spec.element_id;
  t.scale_format = spec.scale_format;
  t.axis = input_.axis;
  t.rows = input_.rows;
  t.cols = input_.cols;
  const bool scaled = spec.scale_format != ScaleFormat::none;
  t.tile_rows = turned ? tiles.width : tiles.height;
  t.tile_cols = turned ? tiles.height : tiles.width;
  t.codes = copied_matrix<std::uint16_t>(q.codes.data(), rows_, cols_, turned);
  if (!scaled) return t;
  if (spec.scale_format == ScaleFormat::f32) {
    std::vector<float> values;
    for (const std::uint32_t bits : q.scales) values.push_back(float_of(bits));
    t.scale_values = copied_matrix<float>(values.data(), tiles.down, tiles.across, turned);
  } else {
    t.scale_codes = copied_matrix<std::uint8_t>(q.scales.data(), tiles.down, tiles.across, turned);
  }
  if (needs_tensor_amax(spec.rule)) t.tensor_scale = q.tensor_scale;
  if (spec.decode == DecodeOrder::te) t.tensor_amax = q.tensor_amax;
  return t;
}

}  // namespace ng::validate
