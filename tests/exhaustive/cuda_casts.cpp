// SPDX-License-Identifier: Apache-2.0
//
// cuda_fp4.h, cuda_fp6.h and cuda_fp8.h compiled as host code.
#include "cuda_casts.hpp"

#include <cuda_fp4.h>
#include <cuda_fp6.h>
#include <cuda_fp8.h>

namespace ng_test {
namespace {

ng::CastChoices choices(ng::Rounding rounding, ng::Overflow overflow, ng::NanChoice nan) {
  ng::CastChoices c;
  c.rounding = rounding;
  c.overflow = overflow;
  c.nan = nan;
  return c;
}

}  // namespace

const std::vector<CudaCast>& cuda_casts() {
  using ng::FormatId;
  using ng::NanChoice;
  using ng::Overflow;
  using ng::Rounding;
  static const std::vector<CudaCast> casts = {
      {"e4m3_satfinite", FormatId::e4m3, choices(Rounding::nearest_even, Overflow::saturate, NanChoice::cuda),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3); }},
      {"e4m3_nosat", FormatId::e4m3, choices(Rounding::nearest_even, Overflow::nonfinite, NanChoice::cuda),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp8(x, __NV_NOSAT, __NV_E4M3); }},
      {"e5m2_satfinite", FormatId::e5m2, choices(Rounding::nearest_even, Overflow::saturate, NanChoice::cuda),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2); }},
      {"e5m2_nosat", FormatId::e5m2, choices(Rounding::nearest_even, Overflow::nonfinite, NanChoice::cuda),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp8(x, __NV_NOSAT, __NV_E5M2); }},
      {"e2m1_nearest", FormatId::e2m1, choices(Rounding::nearest_even, Overflow::saturate, NanChoice::largest),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest); }},
      {"e2m1_toward_zero", FormatId::e2m1, choices(Rounding::toward_zero, Overflow::saturate, NanChoice::largest),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundZero); }},
      {"e3m2_nearest", FormatId::e3m2, choices(Rounding::nearest_even, Overflow::saturate, NanChoice::largest),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp6(x, __NV_E3M2, cudaRoundNearest); }},
      {"e2m3_nearest", FormatId::e2m3, choices(Rounding::nearest_even, Overflow::saturate, NanChoice::largest),
       [](float x) -> std::uint32_t { return __nv_cvt_float_to_fp6(x, __NV_E2M3, cudaRoundNearest); }},
  };
  return casts;
}

}  // namespace ng_test
