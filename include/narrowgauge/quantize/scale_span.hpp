// SPDX-License-Identifier: Apache-2.0
//
// Scales of eight tiles at once for the rules that training uses most: floor, rceil, absmax and te_v2_14. The
// arithmetic of scale_rule.hpp without branches; equal to it for every finite amax (unit test). Other rules, and tiles
// whose amax is not finite, take tile_scale() itself.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/quantize/encode_span.hpp"
#include "narrowgauge/quantize/lanes.hpp"

#if defined(__GNUC__) && !defined(__CUDACC__)

namespace ng {

/// What elements of a tile are multiplied by, and the stored scale (E8M0 or E4M3 code, or FP32 bits).
struct EightScales {
  EightLanes::F encode;
  EightLanes::U code;
};

/// The rules that have a packed form; with application = multiply.
NG_HD constexpr bool has_packed_scales(const QuantizerSpec& spec) {
  if (spec.application != ScaleApplication::multiply) return false;
  return spec.rule == ScaleRule::floor || spec.rule == ScaleRule::rceil || spec.rule == ScaleRule::absmax ||
         spec.rule == ScaleRule::te_v2_14;
}

namespace scale_span_detail {

NG_HD EightLanes::F lane_value(const EightLanes::U& bits) {
  return reinterpret_cast<EightLanes::F>(bits);
}
NG_HD EightLanes::F all(float value) {
  return EightLanes::F{} + value;
}
NG_HD EightLanes::U all(std::uint32_t value) {
  return EightLanes::U{} + value;
}
NG_HD EightLanes::F minimum(const EightLanes::F& a, const EightLanes::F& b) {
  return a > b ? b : a;
}
NG_HD EightLanes::F maximum(const EightLanes::F& a, const EightLanes::F& b) {
  return a < b ? b : a;
}

/// From clamped E8M0 codes: the encode factor 2^(127 - code) as FP32, a subnormal for code 254.
NG_HD EightScales from_e8m0_codes(const EightLanes::U& code) {
  const EightLanes::U bits = select(code == 254u, all(0x00400000u), (254u - code) << 23);
  return {lane_value(bits), code};
}

NG_HD EightScales floor_scales(const QuantizerSpec& spec, const EightLanes::U& amax) {
  const EightLanes::U wanted = (amax >> 23) - static_cast<std::uint32_t>(largest_exponent(spec.element));
  return from_e8m0_codes(lane_max(wanted, 0u));
}

NG_HD EightScales rceil_scales(const QuantizerSpec& spec, const EightLanes::U& amax) {
  const float inverse = div_rn(1.0f, scale_detail::largest_value(spec.element));
  const EightLanes::U bits = lane_bits(lane_value(amax) * inverse);
  const EightLanes::U up = select((bits & 0x007fffffu) != 0u, all(1u), EightLanes::U{});
  const EightLanes::U subnormal = select(lane_signed(bits) > 0x00400000, all(1u), EightLanes::U{});
  const EightLanes::U code = select(lane_signed(bits) < 0x00800000, subnormal, (bits >> 23) + up);
  return from_e8m0_codes(lane_min(code, 254u));
}

NG_HD EightScales absmax_scales(const QuantizerSpec& spec, const EightLanes::U& amax_bits) {
  const EightLanes::F amax = maximum(lane_value(amax_bits), all(spec.amax_floor));
  const EightLanes::F factor = minimum(scale_detail::largest_value(spec.element) / amax, all(kLargestFinite));
  const EightLanes::I empty = lane_bits(amax) == 0u;
  const EightLanes::U one = all(bits_of(1.0f));
  return {lane_value(select(empty, one, lane_bits(factor))), select(empty, one, lane_bits(1.0f / factor))};
}

NG_HD EightScales te_scales(const EightLanes::U& amax, const TensorScale& tensor) {
  const float factor = mul_rn(tensor.encode, 0.16666667163372039794921875f);  // fp32(1/6)
  const EightLanes::F wanted = minimum(lane_value(amax) * factor, all(448.0f));
  const EightLanes::U code = encode_branchless<EightLanes, FormatId::e4m3, Rounding::nearest_even, Inputs::plain>(
      SpecialCodes{}, 0, lane_bits(wanted), EightLanes::U{});
  // Value of the code: subnormal codes 0..7 are multiples of 2^-9.
  const EightLanes::F small = __builtin_convertvector(lane_signed(code), EightLanes::F) * power_of_two(-9);
  const EightLanes::U value =
      select(lane_signed(code) < 8, lane_bits(small), (code << 20) + (static_cast<std::uint32_t>(127 - 7) << 23));
  const EightLanes::F product = lane_value(value) * tensor.decode;
  return {minimum(1.0f / product, all(kLargestFinite)), code};
}

}  // namespace scale_span_detail

/// Scales of eight tiles from the FP32 magnitude bits of their amax, all finite. has_packed_scales(spec) holds.
template <ScaleRule kRule>
NG_HD EightScales eight_scales(const QuantizerSpec& spec, const EightLanes::U& amax, const TensorScale& tensor) {
  if constexpr (kRule == ScaleRule::floor) return scale_span_detail::floor_scales(spec, amax);
  if constexpr (kRule == ScaleRule::rceil) return scale_span_detail::rceil_scales(spec, amax);
  if constexpr (kRule == ScaleRule::absmax) return scale_span_detail::absmax_scales(spec, amax);
  if constexpr (kRule == ScaleRule::te_v2_14) return scale_span_detail::te_scales(amax, tensor);
}

}  // namespace ng

#endif
