// SPDX-License-Identifier: Apache-2.0
//
// The scale rules of blocks.hpp, each as a formula in exact FP32 operations.
#include "blocks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace ng_oracle {
namespace {

constexpr float kFloatMax = std::numeric_limits<float>::max();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// floor(log2 a) of a positive finite number, subnormals included.
int floor_log2(double a) {
  int exponent = 0;
  (void)std::frexp(a, &exponent);
  return exponent - 1;
}

bool is_power_of_two(double a) {
  int exponent = 0;
  return std::frexp(a, &exponent) == 0.5;
}

int ceil_log2(double a) {
  return floor_log2(a) + (is_power_of_two(a) ? 0 : 1);
}

std::uint32_t biased_byte(int exponent) {
  return static_cast<std::uint32_t>(std::clamp(exponent, -127, 127) + 127);
}

/// amax after "add half of the element's last mantissa bit, cut the rest", in the FP32 binade of amax.
double rounded_to_element_mantissa(const Format& element, float amax) {
  const double a = static_cast<double>(amax);
  const int exponent = std::max(floor_log2(a), -126);
  const double step = std::ldexp(1.0, exponent - element.mantissa_bits);
  return std::floor(a / step + 0.5) * step;
}

std::uint32_t e4m3_code(float x) {
  return encode(format("e4m3"), x).value();
}
float e4m3_value(std::uint32_t code) {
  return static_cast<float>(decode(format("e4m3"), code));
}

/// Everything needed to quantize one tile.
struct TileScale {
  std::uint32_t code = 0;
  float value = 0;      ///< decode scale of the block, without the tensor scale
  float factor = 0;     ///< multiplies x
  bool exact = false;   ///< factor is a power of two, applied without rounding
  int shift = 0;        ///< then: x * 2^-shift
  bool divide = false;  ///< x / factor
  bool clamp_to_six = false;
  bool nan_block = false;  ///< E8M0 0xFF
};

/// Tensor-wide numbers of the two-level rules.
struct TensorScale {
  float encode = 1;  ///< S
  float decode = 1;  ///< D
  float amax = 0;
};

TensorScale te_tensor_scale(float amax, double block_max) {
  const float numerator = static_cast<float>(6.0 * block_max);
  TensorScale t;
  t.amax = amax;
  if (amax == 0) {
    t.encode = 1;
  } else {
    t.encode = f32_min(f32_div(numerator, amax), kFloatMax);
    if (t.encode == 0) t.encode = 1;
  }
  t.decode = f32_div(1.0F, t.encode);
  return t;
}

TileScale te_tile(float raw_scale, const TensorScale& t) {
  TileScale s;
  s.code = e4m3_code(f32_min(raw_scale, 448.0F));
  s.value = e4m3_value(s.code);
  s.factor = f32_min(f32_div(1.0F, f32_mul(s.value, t.decode)), kFloatMax);
  s.clamp_to_six = true;
  return s;
}

float clamp_to(float x, float limit) {
  if (std::isnan(x)) return x;
  return x > limit ? limit : (x < -limit ? -limit : x);
}

/// The scaled value that is encoded.
float scaled_value(float x, const TileScale& s) {
  float y = 0;
  if (s.exact) {
    y = x;
    if (std::isfinite(x)) {  // out of FP32's range the value rounds like any FP32 product would
      Exact e = exact_of(static_cast<double>(x));
      e.exponent -= s.shift;
      y = round_to_f32(e);
    }
  } else {
    y = s.divide ? f32_div(x, s.factor) : f32_mul(x, s.factor);
    if (std::isnan(y)) y = std::copysign(kNan, x);  // a NaN has the sign of the element, made here or brought along
  }
  return s.clamp_to_six ? clamp_to(y, 6.0F) : y;
}

struct Tile {
  std::size_t row0 = 0, row1 = 0, col0 = 0, col1 = 0;
};

std::vector<std::uint32_t> encode_tile(const std::vector<float>& x, std::size_t cols, const Tile& tile,
                                       const TileScale& s, const Format& element, const BlockSpec& spec) {
  std::vector<std::uint32_t> codes;
  for (std::size_t r = tile.row0; r < tile.row1; ++r) {
    for (std::size_t c = tile.col0; c < tile.col1; ++c) {
      EncodeChoices choices = spec.encode;
      if (choices.rounding == Rounding::stochastic) choices.random = spec.random(r, c);
      if (s.nan_block) {
        codes.push_back(0);
        continue;
      }
      const auto code = encode(element, scaled_value(x[r * cols + c], s), choices);
      if (!code) throw std::domain_error("NaN in a format without NaN");
      codes.push_back(*code);
    }
  }
  return codes;
}

/// Four-over-six: error of one candidate, rows in a tree of 16, elements of a row in order.
float four_over_six_error(const std::vector<float>& x, std::size_t cols, const Tile& tile, const TileScale& s,
                          const TensorScale& t, const std::vector<std::uint32_t>& codes, const Format& element,
                          const BlockSpec& spec) {
  const float denominator = static_cast<float>(6.0 * spec.e4m3_max);
  std::vector<float> rows;
  std::size_t i = 0;
  for (std::size_t r = tile.row0; r < tile.row1; ++r) {
    float error = 0;
    for (std::size_t c = tile.col0; c < tile.col1; ++c, ++i) {
      const float q = static_cast<float>(decode(element, codes[i]));
      const float v = f32_div(f32_mul(f32_mul(q, s.value), t.amax), denominator);
      const float d = f32_sub(v, x[r * cols + c]);
      error = f32_add(error, spec.rule == ScaleRule::four_over_six_mae ? std::fabs(d) : f32_mul(d, d));
    }
    rows.push_back(error);
  }
  std::size_t width = 1;
  while (width < rows.size()) width *= 2;
  rows.resize(width, 0.0F);
  for (; width > 1; width /= 2) {
    for (std::size_t r = 0; r < width / 2; ++r) rows[r] = f32_add(rows[r], rows[r + width / 2]);
  }
  return rows[0];
}

TileScale one_level_tile(const BlockSpec& spec, const Format& element, float amax) {
  TileScale s;
  const float largest = static_cast<float>(element.largest);
  if (spec.scale_format == ScaleFormat::e8m0) {
    s.code = e8m0_scale(spec.rule, element, amax);
    if (s.code == 0xFF) s.code = spec.infinite_code;
    s.nan_block = s.code == 0xFF;
    s.exact = true;
    s.shift = static_cast<int>(s.code) - 127;
    s.value = s.nan_block ? kNan : static_cast<float>(std::ldexp(1.0, s.shift));
    return s;
  }
  if (spec.rule == ScaleRule::ao_one_level) {
    const float raw = f32_div(amax, 6.0F);
    s.code = e4m3_code(std::clamp(raw, 0x1p-6F, 448.0F));
    s.value = e4m3_value(s.code);
    s.factor = f32_div(1.0F, s.value);
    s.clamp_to_six = true;
    return s;
  }
  if (amax < spec.amax_floor) amax = spec.amax_floor;
  if (amax == 0) {
    s.value = 1;
    s.factor = 1;
  } else if (spec.divide) {
    s.divide = true;
    s.value = f32_div(amax, largest);
    s.factor = s.value;
  } else if (spec.rule == ScaleRule::absmax || !std::isfinite(amax)) {
    s.factor = f32_min(f32_div(largest, amax), kFloatMax);  // amax below M / FLT_MAX: the factor stays finite
    s.value = f32_div(1.0F, s.factor);
  } else {
    // A double quotient is off by less than 2^-53 of itself, and amax / M never comes that close to a power of two
    // without being one: M has at most 12 significant bits. Factor and scale are kept FP32-normal.
    const int wanted = spec.rule == ScaleRule::absmax_pow2 ? ceil_log2(static_cast<double>(amax) / element.largest)
                                                           : -floor_log2(element.largest / static_cast<double>(amax));
    const int exponent = std::clamp(wanted, -126, 126);
    s.value = static_cast<float>(std::ldexp(1.0, exponent));
    s.factor = static_cast<float>(std::ldexp(1.0, -exponent));
  }
  s.code = bits_of(s.value);
  return s;
}

}  // namespace

float amax_of(const std::vector<float>& x) {
  float amax = 0;
  for (const float v : x) {
    if (std::isnan(v)) return kNan;
    amax = std::max(amax, std::fabs(v));
  }
  return amax;
}

std::uint32_t e8m0_scale(ScaleRule rule, const Format& element, float amax) {
  if (!std::isfinite(amax)) return 0xFF;
  if (amax == 0) return 0;
  const int e = floor_log2(static_cast<double>(amax));
  const int top = element.largest_exponent;
  switch (rule) {
    case ScaleRule::floor:
      return biased_byte(e - top);
    case ScaleRule::ceil:
      return biased_byte(ceil_log2(static_cast<double>(amax)) - top);
    case ScaleRule::even: {
      const double rounded = rounded_to_element_mantissa(element, amax);
      if (rounded >= 0x1p128) return 0xFF;
      return rounded == 0 ? 0U : biased_byte(floor_log2(rounded) - top);
    }
    case ScaleRule::rceil: {
      const float p = f32_mul(amax, f32_div(1.0F, static_cast<float>(element.largest)));
      if (p < 0x1p-126F) return p > 0x1p-127F ? 1U : 0U;
      return biased_byte(ceil_log2(static_cast<double>(p)));
    }
    default:
      throw std::invalid_argument("rule has no E8M0 scale");
  }
}

Quantized quantize(const std::vector<float>& original, std::size_t rows, std::size_t cols, const BlockSpec& spec) {
  std::vector<float> x = original;
  if (spec.hadamard != 0) {
    x = hadamard(x, rows, cols, spec.hadamard, spec.hadamard_signs, spec.hadamard_order, spec.hadamard_result,
                 spec.hadamard_seed);
  }
  const Format& element = format(spec.element);
  const std::size_t tile_rows = spec.tile_rows == 0 ? std::max<std::size_t>(rows, 1) : spec.tile_rows;
  const std::size_t tile_cols = spec.tile_cols == 0 ? std::max<std::size_t>(cols, 1) : spec.tile_cols;
  Quantized q;
  q.rows = rows;
  q.cols = cols;
  q.scale_rows = (rows + tile_rows - 1) / tile_rows;
  q.scale_cols = (cols + tile_cols - 1) / tile_cols;
  q.codes.assign(rows * cols, 0);
  q.decoded.assign(rows * cols, 0);
  q.tensor_amax = amax_of(x);

  TensorScale t;
  const bool six = spec.rule == ScaleRule::four_over_six_mae || spec.rule == ScaleRule::four_over_six_mse;
  const bool te = spec.rule == ScaleRule::te_v2_14 || spec.rule == ScaleRule::te_v2_13 || six;
  if (te) t = te_tensor_scale(q.tensor_amax, six ? spec.e4m3_max : 448.0);
  // The paper prints no guards; zero and infinite amax are treated as Transformer Engine treats them.
  if (spec.rule == ScaleRule::nvfp4_paper) t = te_tensor_scale(q.tensor_amax, 448.0);
  if (spec.rule == ScaleRule::ao_two_level) {
    t.amax = q.tensor_amax;
    t.decode = f32_div(t.amax, 2688.0F);
    if (t.decode == 0) t.decode = 1;  // an all-zero tensor, or one too small to be scaled
  }
  q.two_level = te || spec.rule == ScaleRule::nvfp4_paper || spec.rule == ScaleRule::ao_two_level;
  q.tensor_scale = t.decode;

  for (std::size_t tr = 0; tr < q.scale_rows; ++tr) {
    for (std::size_t tc = 0; tc < q.scale_cols; ++tc) {
      const Tile tile{tr * tile_rows, std::min(rows, (tr + 1) * tile_rows), tc * tile_cols,
                      std::min(cols, (tc + 1) * tile_cols)};
      std::vector<float> block;
      for (std::size_t r = tile.row0; r < tile.row1; ++r) {
        for (std::size_t c = tile.col0; c < tile.col1; ++c) block.push_back(x[r * cols + c]);
      }
      const float amax = amax_of(block);
      TileScale s;
      std::vector<std::uint32_t> codes;
      if (six) {
        const float base = f32_mul(f32_div(amax, 6.0F), t.encode);
        s = te_tile(base, t);
        codes = encode_tile(x, cols, tile, s, element, spec);
        const TileScale s4 = te_tile(f32_mul(1.5F, base), t);
        const auto codes4 = encode_tile(x, cols, tile, s4, element, spec);
        const float error6 = four_over_six_error(x, cols, tile, s, t, codes, element, spec);
        const float error4 = four_over_six_error(x, cols, tile, s4, t, codes4, element, spec);
        if (error4 < error6) {
          s = s4;
          codes = codes4;
        }
      } else {
        if (spec.rule == ScaleRule::te_v2_14) {
          s = te_tile(f32_mul(amax, f32_mul(t.encode, f32_div(1.0F, 6.0F))), t);
        } else if (spec.rule == ScaleRule::te_v2_13) {
          s = te_tile(f32_mul(f32_div(amax, 6.0F), t.encode), t);
        } else if (spec.rule == ScaleRule::nvfp4_paper) {
          s = te_tile(f32_mul(f32_div(amax, 6.0F), t.encode), t);
          s.clamp_to_six = false;
        } else if (spec.rule == ScaleRule::ao_two_level) {
          const float raw = f32_div(f32_div(amax, 6.0F), t.decode);
          s.code = e4m3_code(std::clamp(raw, 0x1p-6F, 448.0F));
          s.value = e4m3_value(s.code);
          s.factor = f32_div(f32_div(1.0F, t.decode), s.value);
          s.clamp_to_six = true;
        } else {
          s = one_level_tile(spec, element, amax);
        }
        codes = encode_tile(x, cols, tile, s, element, spec);
      }
      q.scale_codes.push_back(s.code);
      q.scales.push_back(s.value);
      const float largest = f32_mul(static_cast<float>(element.largest), s.value);
      q.largest.push_back(q.two_level ? f32_mul(largest, t.decode) : largest);
      std::size_t i = 0;
      for (std::size_t r = tile.row0; r < tile.row1; ++r) {
        for (std::size_t c = tile.col0; c < tile.col1; ++c, ++i) {
          q.codes[r * cols + c] = codes[i];
          const float q_value = float_of(decode_f32_bits(element, codes[i]));
          float value = f32_mul(q_value, s.value);
          if (q.two_level) value = f32_mul(value, t.decode);
          q.decoded[r * cols + c] = std::isnan(value) ? std::copysign(kNan, q_value) : value;
        }
      }
    }
  }
  return q;
}

}  // namespace ng_oracle
