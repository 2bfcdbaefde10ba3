// SPDX-License-Identifier: Apache-2.0
//
// Eight codes at once where a GPU has instructions for it: E2M1 two at a time in the halves of a word, FP8 by the
// hardware's conversion. Nearest even, saturating; equal to encode() for what is not NaN (tests/parity sweeps all
// inputs). The host has the same function without them.
#pragma once

#include "fast/quick_encode.hpp"

#if defined(__CUDACC__)
#include <cuda_fp8.h>

#include "fast/packed_e2m1.cuh"
#endif

namespace ng::cuda::fast {

/// Which format packed_codes serves under these constants.
inline PackedFormat packed_format(const QuantizerSpec& spec, const EncodeConstants& c) {
  if (c.way != EncodeWay::nearest || c.negative != NegativeCodes::all) return PackedFormat::none;
  if (spec.element == format_of(FormatId::e2m1)) return PackedFormat::e2m1;
  if (spec.element == format_of(FormatId::e4m3)) return PackedFormat::e4m3;
  return spec.element == format_of(FormatId::e5m2) ? PackedFormat::e5m2 : PackedFormat::none;
}

/// Codes of eight scaled values, c.zero added, given by their bits; c.packed is not `none`, and of kBits.
template <int kBits>
NG_HD void packed_codes(const EncodeConstants& c, const std::uint32_t (&scaled)[8], std::uint32_t* words) {
#if defined(__CUDA_ARCH__)
  if constexpr (kBits == 4) {
    float bounded[8];
    for (int i = 0; i < 8; ++i) bounded[i] = fmaxf(fminf(float_of(scaled[i]), 6.0f), -6.0f);
    words[0] = e2m1_nearest(bounded);
  } else if constexpr (kBits == 8) {
    const __nv_fp8_interpretation_t format = c.packed == PackedFormat::e4m3 ? __NV_E4M3 : __NV_E5M2;
    for (int w = 0; w < 2; ++w) {
      std::uint32_t halves[2];
      for (int h = 0; h < 2; ++h) {
        const int i = 4 * w + 2 * h;
        halves[h] =
            __nv_cvt_float2_to_fp8x2(float2{float_of(scaled[i]), float_of(scaled[i + 1])}, __NV_SATFINITE, format);
      }
      words[w] = halves[0] | halves[1] << 16;
    }
  }
#else
  for (int w = 0; w < kBits / 4; ++w) words[w] = 0;
  for (int i = 0; i < 8; ++i)
    words[i * kBits / 32] |= quick_code<EncodeWay::nearest>(c, scaled[i], 0) << (i * kBits % 32);
#endif
}

}  // namespace ng::cuda::fast
