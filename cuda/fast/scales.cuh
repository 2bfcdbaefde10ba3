// SPDX-License-Identifier: Apache-2.0
//
// The scale of a tile in fast kernels: tile_scale without branches for the ordinary tile, with the hardware's E4M3
// conversions and reciprocals. What is not ordinary is encoded by encode_special.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "fast/served_specs.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cuda::fast {

struct QuickScale {
  std::uint32_t code;  ///< stored scale, as TileScale's
  float factor;        ///< elements are multiplied by it
  bool ordinary;       ///< code and factor are tile_scale's, and encode_tile takes the factor
  bool clamped;        ///< as it does once the elements' magnitudes are bounded by clamp_bound, which changes no code
};

/// What a spec's scales need besides the amax. kTable: factors come from a table of kE4m3Codes, else from `decode`.
template <bool kTable>
struct ScaleSource {
  float amax_floor;     ///< of the quantizer
  float wanted = 0.0f;  ///< two-level formats: what the amax is multiplied by
  float decode = 0.0f;
  const float* factors = nullptr;
};

constexpr int kE4m3Codes = 128;  ///< without sign

__device__ inline float wanted_by_te(const TensorScale& tensor) {
  constexpr float kSixth = 0.16666667163372039794921875f;  // fp32(1/6)
  return mul_rn(tensor.encode, kSixth);
}
/// The factor of an E4M3 scale: min(1 / (scale * decode), FLT_MAX).
__device__ inline float te_factor(std::uint32_t code, float decode) {
  const float value =
      __half2float(static_cast<__half>(__nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(code), __NV_E4M3)));
  return scale_detail::minimum(__frcp_rn(mul_rn(value, decode)), kLargestFinite);
}

/// Times a factor >= 2^-16: about 6.5, which is encoded as any larger number is.
__device__ inline float clamp_bound(float factor) {
  return 6.5f * __frcp_rn(factor);
}

/// Code of the power of two by which the E8M0 rule of a spec divides a tile with this finite amax, 0 to 253.
template <class Spec>
__device__ std::uint32_t quick_e8m0(std::uint32_t amax) {
  constexpr ElementFormat kElement = kFormatOf<Spec::kId>;
  if constexpr (Spec::kRule == ScaleRule::floor) {
    constexpr std::uint32_t kLargest = largest_exponent(kElement);  // above 1, which covers subnormals
    const std::uint32_t field = amax >> 23;
    return field > kLargest ? field - kLargest : 0u;
  } else {
    static_assert(Spec::kRule == ScaleRule::rceil);
    constexpr float kReciprocal = 1.0f / scale_detail::largest_value(kElement);
    const std::uint32_t bits = bits_of(mul_rn(float_of(amax), kReciprocal));
    return bits < 0x00800000u ? (bits > 0x00400000u ? 1u : 0u) : (bits + 0x007fffffu) >> 23;
  }
}

/// Scale of a tile with this amax.
template <class Spec, bool kTable>
__device__ QuickScale quick_scale(std::uint32_t amax, const ScaleSource<kTable>& source) {
  constexpr ElementFormat kElement = kFormatOf<Spec::kId>;
  QuickScale scale{0, 1.0f, amax < kInfinityBits, false};
  if constexpr (Spec::kScale == ScaleFormat::e8m0) {
    scale.code = quick_e8m0<Spec>(amax);
    scale.factor = float_of((254u - scale.code) << 23);
  } else if constexpr (Spec::kScale == ScaleFormat::f32) {
    constexpr float kLargest = scale_detail::largest_value(kElement);
    const float most = scale_detail::maximum(float_of(amax), source.amax_floor);
    if constexpr (Spec::kRule == ScaleRule::absmax_pow2) {
      constexpr std::uint32_t kCarry = 0x007fffffu - (bits_of(kLargest) & 0x007fffffu);
      const int exponent = static_cast<int>((bits_of(most) + kCarry) >> 23) - static_cast<int>(bits_of(kLargest) >> 23);
      const std::uint32_t clamped = static_cast<std::uint32_t>(exponent < -126  ? -126
                                                               : exponent > 126 ? 126
                                                                                : exponent);
      scale.code = bits_of(most) != 0 ? (127u + clamped) << 23 : bits_of(1.0f);
      scale.factor = bits_of(most) != 0 ? float_of((127u - clamped) << 23) : 1.0f;
    } else {
      static_assert(Spec::kRule == ScaleRule::absmax);
      const float factor = scale_detail::minimum(div_rn(kLargest, most), kLargestFinite);
      scale.factor = bits_of(most) != 0 ? factor : 1.0f;
      scale.code = bits_of(__frcp_rn(scale.factor));
    }
  } else {
    static_assert(Spec::kRule == ScaleRule::te_v2_14);
    scale.code = __nv_cvt_float_to_fp8(mul_rn(float_of(amax), source.wanted), __NV_SATFINITE, __NV_E4M3) & 0x7fu;
    if constexpr (kTable)
      scale.factor = source.factors[scale.code];
    else
      scale.factor = te_factor(scale.code, source.decode);
    // Small E4M3 scales are far from the wanted ones, and a known amax may be too small.
    const bool usual = scale.factor >= 0x1p-16f;
    scale.ordinary = usual & (mul_rn(float_of(amax), scale.factor) < 8.0f);
    scale.clamped = usual & (amax < kInfinityBits);
  }
  return scale;
}

}  // namespace ng::cuda::fast
