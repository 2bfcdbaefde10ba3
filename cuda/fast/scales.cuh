// SPDX-License-Identifier: Apache-2.0
//
// The scale of a tile in fast kernels: tile_scale, but for Transformer Engine's NVFP4 rule, whose E4M3 conversions the
// hardware does. Equal to tile_scale where the fast kernels use the result: finite encode factors, and codes.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "fast/served_specs.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cuda::fast {

/// Scale of a tile with this amax. Of the result, `encode` and `code` are set, and what encode_scaled reads.
template <class Spec>
__device__ TileScale scale_of(const QuantizerSpec& spec, std::uint32_t amax, const TensorScale& tensor) {
  if constexpr (Spec::kRule == ScaleRule::te_v2_14) {
    constexpr float kSixth = 0.16666667163372039794921875f;  // fp32(1/6)
    const float wanted = mul_rn(float_of(amax), mul_rn(tensor.encode, kSixth));
    TileScale scale;
    scale.code = __nv_cvt_float_to_fp8(wanted, __NV_SATFINITE, __NV_E4M3) & 0x7fu;
    const float value = __half2float(
        static_cast<__half>(__nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(scale.code), __NV_E4M3)));
    scale.encode = scale_detail::minimum(div_rn(1.0f, mul_rn(value, tensor.decode)), kLargestFinite);
    return scale;
  } else {
    return tile_scale(spec, amax, tensor);
  }
}

}  // namespace ng::cuda::fast
