// SPDX-License-Identifier: Apache-2.0
//
// E2M1 codes of eight elements at a few instructions each, as four words of two: word i holds elements pair_first(i)
// and pair_first(i) + 2. Magnitudes are below 8: the code that would follow the largest becomes the largest, nothing
// else saturates. Equal to `encode` over all inputs (tests/parity).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"

namespace ng::cuda::fast {

/// 0, 4, 1, 5: in this order words 0 and 1 are those of elements 0, 2, 4, 6, and words 2 and 3 those of 1, 3, 5, 7.
__device__ constexpr int pair_first(int pair) {
  return pair % 2 * 4 + pair / 2;
}

__device__ inline std::uint32_t add_bf16_pair(std::uint32_t a, std::uint32_t b) {
  const __nv_bfloat162 sum =
      __hadd2_rn(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const std::uint32_t*>(&sum);
}

__device__ inline std::uint32_t multiply_bf16_pair(std::uint32_t a, std::uint32_t b) {
  const __nv_bfloat162 product =
      __hmul2_rn(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const std::uint32_t*>(&product);
}

/// The upper half of a pair of finite BF16 numbers as FP32, by the floating-point units: the integer ones have more to
/// do.
__device__ inline float upper_of_pair(std::uint32_t pair) {
  const std::uint32_t one = 0x3f800000u;   // and 0 below: the lower half becomes 0,
  const std::uint32_t zero = 0x80000000u;  // which it does not with -0, nor does the upper half lose its sign
  const __nv_bfloat162 upper =
      __hfma2(*reinterpret_cast<const __nv_bfloat162*>(&pair), *reinterpret_cast<const __nv_bfloat162*>(&one),
              *reinterpret_cast<const __nv_bfloat162*>(&zero));
  return float_of(*reinterpret_cast<const std::uint32_t*>(&upper));
}

namespace packed_detail {

/// The bits of `a` where the mask is set, else those of `b`: one instruction, which the compiler does not find.
__device__ inline std::uint32_t select(std::uint32_t mask, std::uint32_t a, std::uint32_t b) {
  std::uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(result) : "r"(mask), "r"(a), "r"(b));
  return result;
}

/// Codes of eight elements from their magnitudes' codes, 0 to 8, and words with their signs in bits 15 and 31.
__device__ inline std::uint32_t saturated_with_signs(std::uint32_t codes, const std::uint32_t (&signs)[4]) {
  const std::uint32_t saturated = codes - ((codes & 0x88888888u) >> 3);
  const std::uint32_t even = __byte_perm(signs[0], signs[1], 0x7531);
  const std::uint32_t odd = __byte_perm(signs[2], signs[3], 0x7531);
  return (select(0x0f0f0f0fu, even >> 4, odd) & 0x88888888u) | saturated;
}

}  // namespace packed_detail

/// Nearest-even codes, element 0 lowest, of pairs of BF16. `magnitude`: exact, or rounded to odd; `rough`: the same
/// with the signs, and right in the exponents at least.
__device__ inline std::uint32_t e2m1_nearest(const std::uint32_t (&magnitude)[4], const std::uint32_t (&rough)[4]) {
  std::uint32_t sum[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // 1. The power of two at or below the magnitude, at least 1: 2^e, e = 0, 1, 2; here times 2^4.
    const std::uint32_t power = __viaddmax_u16x2(rough[i] & 0x7f807f80u, 0x02000200u, 0x41804180u);
    // 2. Shifted and added to itself it is 2^(e+6), plus 6 + 2e in the last place. There neighbours of BF16 lie 2^(e-1)
    // apart, which is E2M1's step: the addition rounds. The last four bits of the sum are the code plus 6.
    sum[i] = add_bf16_pair(magnitude[i], power + (power >> 6));
  }
  const std::uint32_t even = __byte_perm(sum[0], sum[1], 0x6420);
  const std::uint32_t odd = __byte_perm(sum[2], sum[3], 0x6420);
  const std::uint32_t codes = packed_detail::select(0x0f0f0f0fu, even, odd << 4) - 0x66666666u;
  return packed_detail::saturated_with_signs(codes, rough);
}

/// The same of FP32: the upper halves are the rough pairs, and rounded to odd (the last bit set where something was cut
/// off) they round again to six bits less as the FP32 numbers would.
__device__ inline std::uint32_t e2m1_nearest(const float (&scaled)[8]) {
  std::uint32_t magnitude[4];
  std::uint32_t rough[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t low = bits_of(scaled[pair_first(i)]);
    const std::uint32_t high = bits_of(scaled[pair_first(i) + 2]);
    rough[i] = __byte_perm(low, high, 0x7632);
    magnitude[i] = (rough[i] | __vminu2(__byte_perm(low, high, 0x5410), 0x00010001u)) & 0x7fff7fffu;
  }
  return e2m1_nearest(magnitude, rough);
}

/// What stochastic rounding multiplies elements by besides their factor: 1 becomes FP16's smallest normal number, as it
/// is E2M1's, so that the upper bits of an FP16 number are the E2M1 code and the lower ones the fraction of a step.
constexpr float kStochasticScale = 0x1p-14f;

/// Stochastically rounded codes, element 0 lowest, of elements times kStochasticScale. bytes[i]: the random bytes of
/// pair i, each in the lower byte of its half.
__device__ inline std::uint32_t e2m1_stochastic(const float (&scaled)[8], const std::uint32_t (&bytes)[4]) {
  std::uint32_t sum[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Nine bits of the fraction, cut; the byte is compared with the upper eight.
    const __half2 cut =
        __halves2half2(__float2half_rz(scaled[pair_first(i)]), __float2half_rz(scaled[pair_first(i) + 2]));
    sum[i] = *reinterpret_cast<const std::uint32_t*>(&cut) + 2u * bytes[i];
  }
  const std::uint32_t even = __byte_perm(sum[0], sum[1], 0x7531);  // sign, two zeros, the code in bits 1 to 4
  const std::uint32_t odd = __byte_perm(sum[2], sum[3], 0x7531);
  return packed_detail::saturated_with_signs(packed_detail::select(0x0f0f0f0fu, even >> 1, odd << 3), sum);
}

}  // namespace ng::cuda::fast
