// SPDX-License-Identifier: Apache-2.0
//
// From the amax of a tile (and of its tensor) to its scale. Every rule ends in the same three facts: the stored scale,
// the factor that elements are multiplied by, and the value that codes are multiplied by. Source: numerics.md section 2
// (OCP MX v1.0 section 6.3; torchao for ceil, even, rceil; Transformer Engine for te_*; arXiv 2509.25149 eq. 1-4).
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

constexpr int kE8m0Bias = 127;

/// Tensor-level scales of a two-level format. One-level formats have encode = decode = 1.
struct TensorScale {
  float amax = 0.0f;
  float encode = 1.0f;  ///< S
  float decode = 1.0f;  ///< D, stored beside the codes as `tensor_scale`
};

/// Scale of one tile.
struct TileScale {
  float encode = 1.0f;  ///< scaled element = fp32(x * encode), or fp32(x / divisor)
  float divisor = 1.0f;
  float decode = 1.0f;     ///< value of the stored scale; decoded element = fp32(fp32(code * decode) * D)
  std::uint32_t code = 0;  ///< stored scale: E8M0 or E4M3 code, or FP32 bits
  bool poisoned = false;   ///< E8M0 0xFF: codes are written as 0 and the block decodes to NaN
};

namespace scale_detail {

NG_HD constexpr float largest_value(const ElementFormat& f) {
  // Finite, positive, FP32-normal for every element format: the decode formula without its special cases.
  const std::uint32_t code = largest_code(f);
  if (f.sign == SignLayout::twos_complement) return 127.0f / 64.0f;
  const int exponent = static_cast<int>(code >> f.mantissa_bits) - f.bias;
  const std::uint32_t mantissa = code & ((1u << f.mantissa_bits) - 1u);
  return float_of(static_cast<std::uint32_t>(exponent + 127) << 23 | mantissa << (23 - f.mantissa_bits));
}

NG_HD float canonical_nan(float a) {
  return is_nan_bits(bits_of(a)) ? float_of(kQuietNanBits) : a;
}
NG_HD float minimum(float a, float b) {
  return a > b ? b : a;
}  // NaN in a stays NaN
NG_HD float maximum(float a, float b) {
  return a < b ? b : a;
}

/// Nearest even, saturating E4M3 code of a non-negative block scale. A NaN scale has no sign: the one that an operation
/// such as 0/0 gives differs between host and device.
NG_HD std::uint32_t e4m3_scale_code(float value) {
  constexpr ElementFormat f = kFormatOf<FormatId::e4m3>;
  CastChoices choices;
  choices.nan = NanChoice::cuda;
  return encode(f, choices, value);
}
NG_HD float e4m3_scale_value(std::uint32_t code) {
  constexpr ElementFormat f = kFormatOf<FormatId::e4m3>;
  return decode(f, code);
}

NG_HD TileScale from_e8m0(int exponent) {
  const int clamped = exponent < -127 ? -127 : exponent > 127 ? 127 : exponent;
  TileScale scale;
  scale.code = static_cast<std::uint32_t>(clamped + kE8m0Bias);
  scale.decode = power_of_two(clamped);
  scale.encode = power_of_two(-clamped);
  scale.divisor = scale.decode;
  return scale;
}

NG_HD TileScale not_finite_e8m0(std::uint8_t code) {
  TileScale scale;
  scale.code = code;
  scale.poisoned = code == 0xff;
  scale.decode = scale.poisoned ? float_of(kQuietNanBits) : power_of_two(static_cast<int>(code) - kE8m0Bias);
  scale.encode = scale.poisoned ? 0.0f : power_of_two(kE8m0Bias - static_cast<int>(code));
  scale.divisor = scale.decode;
  return scale;
}

NG_HD TileScale e8m0_tile_scale(const QuantizerSpec& spec, std::uint32_t amax) {
  if (amax >= kInfinityBits) return not_finite_e8m0(spec.infinite_scale_code);
  if (amax == 0) return from_e8m0(-127);
  const int largest = largest_exponent(spec.element);
  switch (spec.rule) {
    case ScaleRule::ceil: {
      const bool above = (significand_of_bits(amax) & 0x007fffffu) != 0;
      return from_e8m0(exponent_of_bits(amax) - largest + (above ? 1 : 0));
    }
    case ScaleRule::even: {
      // Add half a unit of the element's last place to the bits, cut: the carry reaches the exponent.
      const std::uint32_t rounded = amax + (1u << (23 - fraction_bits(spec.element) - 1));
      if (rounded >= kInfinityBits) return not_finite_e8m0(spec.infinite_scale_code);
      return from_e8m0(exponent_of_bits(rounded) - largest);
    }
    case ScaleRule::rceil: {
      const float p = mul_rn(float_of(amax), div_rn(1.0f, largest_value(spec.element)));
      const std::uint32_t bits = bits_of(p);
      if (bits < 0x00800000u) return from_e8m0(bits > 0x00400000u ? -126 : -127);
      return from_e8m0(static_cast<int>(bits >> 23) - 127 + ((bits & 0x007fffffu) != 0 ? 1 : 0));
    }
    default:
      return from_e8m0(exponent_of_bits(amax) - largest);  // floor
  }
}

NG_HD TileScale f32_tile_scale(const QuantizerSpec& spec, std::uint32_t amax_bits) {
  const float largest = largest_value(spec.element);
  const float amax = maximum(float_of(amax_bits), spec.amax_floor);
  TileScale scale;
  if (bits_of(amax) != 0) {
    const float factor = minimum(div_rn(largest, amax), kLargestFinite);
    if (spec.rule == ScaleRule::absmax || !is_finite_bits(bits_of(amax))) {
      scale.encode = factor;
      scale.decode = div_rn(1.0f, factor);
      scale.divisor = spec.application == ScaleApplication::divide ? div_rn(amax, largest) : scale.decode;
      if (spec.application == ScaleApplication::divide) scale.decode = scale.divisor;
    } else {
      int exponent;
      if (spec.rule == ScaleRule::absmax_pow2) {  // amax / M rounded up to a power of two, exactly
        const std::uint32_t m = significand_of_bits(bits_of(amax));
        exponent = exponent_of_bits(bits_of(amax)) - exponent_of_bits(bits_of(largest)) +
                   (m > significand_of_bits(bits_of(largest)) ? 1 : 0);
      } else {  // msamp_pow2: 1 / 2^floor(log2(M / amax))
        exponent = -exponent_of_bits(bits_of(factor));
      }
      exponent = exponent < -126 ? -126 : exponent > 126 ? 126 : exponent;
      scale.decode = power_of_two(exponent);
      scale.encode = power_of_two(-exponent);
      scale.divisor = scale.decode;
    }
  }
  scale.decode = canonical_nan(scale.decode);
  scale.code = bits_of(scale.decode);
  return scale;
}

NG_HD TileScale nvfp4_from_code(std::uint32_t code, float encode) {
  TileScale scale;
  scale.code = code;
  scale.decode = e4m3_scale_value(code);
  scale.encode = encode;
  scale.divisor = div_rn(1.0f, encode);
  return scale;
}

/// Transformer Engine's encode factor of a block: min(1 / (code * D), FLT_MAX).
NG_HD TileScale te_tile_scale(std::uint32_t code, const TensorScale& tensor) {
  const float product = mul_rn(e4m3_scale_value(code), tensor.decode);
  return nvfp4_from_code(code, minimum(div_rn(1.0f, product), kLargestFinite));
}

NG_HD std::uint32_t four_over_six_code(float amax, const TensorScale& tensor, bool four) {
  const float base = mul_rn(div_rn(amax, 6.0f), tensor.encode);
  return e4m3_scale_code(minimum(four ? mul_rn(1.5f, base) : base, 448.0f));
}

NG_HD TileScale nvfp4_tile_scale(const QuantizerSpec& spec, float amax, const TensorScale& tensor) {
  switch (spec.rule) {
    case ScaleRule::te_v2_13:
      return te_tile_scale(e4m3_scale_code(minimum(mul_rn(div_rn(amax, 6.0f), tensor.encode), 448.0f)), tensor);
    case ScaleRule::four_over_six:
      return te_tile_scale(four_over_six_code(amax, tensor, false), tensor);
    case ScaleRule::nvfp4_paper: {  // eq. 2-4: e4m3((amax_b / 6) * S), elements times 1/(s*D). The guards that the
      // paper does not print are Transformer Engine's, so every scale equals te_v2_13's: the name says the source.
      const std::uint32_t code = e4m3_scale_code(mul_rn(div_rn(amax, 6.0f), tensor.encode));
      return te_tile_scale(code, tensor);
    }
    case ScaleRule::ao_one_level: {
      const std::uint32_t code = e4m3_scale_code(minimum(maximum(div_rn(amax, 6.0f), 0.015625f), 448.0f));
      return nvfp4_from_code(code, div_rn(1.0f, e4m3_scale_value(code)));
    }
    case ScaleRule::ao_two_level: {
      const float ratio = div_rn(div_rn(amax, 6.0f), tensor.decode);
      const std::uint32_t code = e4m3_scale_code(minimum(maximum(ratio, 0.015625f), 448.0f));
      return nvfp4_from_code(code, div_rn(div_rn(1.0f, tensor.decode), e4m3_scale_value(code)));
    }
    default: {                                            // te_v2_14
      const float sixth = 0.16666667163372039794921875f;  // fp32(1/6)
      const float wanted = mul_rn(amax, mul_rn(tensor.encode, sixth));
      return te_tile_scale(e4m3_scale_code(minimum(wanted, 448.0f)), tensor);
    }
  }
}

}  // namespace scale_detail

/// Tensor-level scale from the amax of the whole tensor (or group), given by its FP32 magnitude bits.
NG_HD TensorScale tensor_scale(const QuantizerSpec& spec, std::uint32_t amax_bits) {
  TensorScale t;
  t.amax = float_of(amax_bits);
  if (!needs_tensor_amax(spec.rule)) return t;
  if (spec.rule == ScaleRule::ao_two_level) {
    t.decode = scale_detail::canonical_nan(div_rn(t.amax, 2688.0f));
    if (bits_of(t.decode) == 0) t.decode = 1.0f;  // an all-zero tensor, or one that is too small to be scaled
    t.encode = div_rn(1.0f, t.decode);
    return t;
  }
  const float numerator = spec.rule == ScaleRule::four_over_six ? mul_rn(6.0f, spec.four_over_six_e4m3_max) : 2688.0f;
  t.encode = scale_detail::minimum(div_rn(numerator, t.amax), kLargestFinite);
  if (amax_bits == 0 || t.encode == 0.0f) t.encode = 1.0f;  // an all-zero tensor, or an infinite amax
  t.decode = scale_detail::canonical_nan(div_rn(1.0f, t.encode));
  return t;
}

/// Scale of a tile from its amax, given by its FP32 magnitude bits (NaN and infinity included). For four_over_six this
/// is the scale for 6; quantize/tile.hpp chooses between it and the one for 4.
NG_HD TileScale tile_scale(const QuantizerSpec& spec, std::uint32_t amax_bits, const TensorScale& tensor) {
  if (spec.scale_format == ScaleFormat::none) return TileScale{};
  if (spec.scale_format == ScaleFormat::e8m0) return scale_detail::e8m0_tile_scale(spec, amax_bits);
  if (spec.scale_format == ScaleFormat::f32) return scale_detail::f32_tile_scale(spec, amax_bits);
  return scale_detail::nvfp4_tile_scale(spec, float_of(amax_bits), tensor);
}

/// Scale of a four_over_six tile for the other target, 4.
NG_HD TileScale four_over_six_tile_scale(std::uint32_t amax_bits, const TensorScale& tensor) {
  return scale_detail::te_tile_scale(scale_detail::four_over_six_code(float_of(amax_bits), tensor, true), tensor);
}

/// Value of a stored scale.
NG_HD float stored_scale_value(ScaleFormat format, std::uint32_t code) {
  switch (format) {
    case ScaleFormat::none:
      return 1.0f;
    case ScaleFormat::e8m0:
      return code == 0xff ? float_of(kQuietNanBits) : power_of_two(static_cast<int>(code) - kE8m0Bias);
    case ScaleFormat::e4m3:
      return scale_detail::e4m3_scale_value(code);
    case ScaleFormat::f32:
      break;
  }
  return float_of(code);
}

/// The element as the encoder sees it: one multiply by a factor >= 0, or one division. Its sign is that of x also where
/// the result is NaN (infinity times 0, a NaN factor): machines do not agree on the sign of such a NaN.
NG_HD float with_sign_of(float value, float x) {
  return float_of(magnitude_bits(value) | (bits_of(x) & kSignBit));
}
NG_HD float scaled_by_factor(float x, float factor) {
  return with_sign_of(mul_rn(x, factor), x);
}
NG_HD float scaled_by_division(float x, float divisor) {
  return with_sign_of(div_rn(x, divisor), x);
}
NG_HD float scaled_value(const QuantizerSpec& spec, const TileScale& scale, float x) {
  if (spec.scale_format == ScaleFormat::none) return x;
  return spec.application == ScaleApplication::divide ? scaled_by_division(x, scale.divisor)
                                                      : scaled_by_factor(x, scale.encode);
}

/// Code of one element under the scale of its tile.
NG_HD std::uint32_t encode_scaled(const QuantizerSpec& spec, const TileScale& scale, float x,
                                  std::uint32_t random = 0) {
  if (scale.poisoned) return 0;
  return encode(spec.element, spec.cast, scaled_value(spec, scale, x), random);
}

/// An element times a scale; a NaN has the sign of the element, whatever the machine makes of it.
NG_HD float decoded_product(float element, float scale) {
  const float product = mul_rn(element, scale);
  return is_nan_bits(bits_of(product)) ? float_of(kQuietNanBits | (bits_of(element) & kSignBit)) : product;
}

/// Factor of a code under `decode = te`: fp32(fp32(scale * amax) * fp32(1/2688)), the arithmetic of Transformer
/// Engine's dequantize kernel. The decoded value is decoded_product(element, factor).
NG_HD float te_decode_factor(float scale, float tensor_amax) {
  const float reciprocal = 3.7202382e-4f;  // fp32(1 / (6 * 448))
  return mul_rn(mul_rn(scale, tensor_amax), reciprocal);
}

/// Decoded value: fp32(fp32(code * scale) * tensor scale). The second product is left out for one-level formats.
NG_HD float decode_scaled(const QuantizerSpec& spec, float scale, float tensor_decode, std::uint32_t code) {
  const float element = decode(spec.element, code);
  if (spec.scale_format == ScaleFormat::none) return element;
  const float one_level = decoded_product(element, scale);
  return needs_tensor_amax(spec.rule) ? decoded_product(one_level, tensor_decode) : one_level;
}

}  // namespace ng
