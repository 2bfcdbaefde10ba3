// SPDX-License-Identifier: Apache-2.0
//
// E2M1 codes at a few instructions an element: two elements in the halves of a word, or FP32 with its rounding mode.
// Magnitudes are finite. Equal to `encode` over all inputs (tests/parity).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/block_format.hpp"

namespace ng::cuda::fast {

/// BF16 of two finite FP32 numbers, rounded to odd: cut, and the last bit set where something was cut off. Rounding
/// that again to six bits less gives what rounding the FP32 number at once gives. `low` goes to the lower half.
__device__ inline std::uint32_t bf16_pair_to_odd(float low, float high) {
  const std::uint32_t kept = __byte_perm(bits_of(low), bits_of(high), 0x7632);
  const std::uint32_t cut = __byte_perm(bits_of(low), bits_of(high), 0x5410);
  return kept | __vminu2(cut, 0x00010001u);
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

/// Nearest-even, saturating codes of eight scaled elements as one word, the first lowest. pair[i] holds element i in
/// its lower and element i + 4 in its upper half, BF16, exact or rounded to odd.
template <ZeroSign kZeroSign>
__device__ std::uint32_t e2m1_nearest(const std::uint32_t (&pair)[4]) {
  constexpr std::uint32_t kSix = 0x40c040c0u;     // largest magnitude
  constexpr std::uint32_t kOne = 0x3f803f80u;     // below it the step is that of [1, 2)
  constexpr std::uint32_t kUp = 0x03000300u;      // times 2^6
  constexpr std::uint32_t kOffset = 0x03fe03feu;  // kUp + (kOne >> 6)
  std::uint32_t codes = 0;
  std::uint32_t signs = 0;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    const std::uint32_t magnitude = __vminu2(pair[i] & 0x7fff7fffu, kSix);
    // 1. The power of two at or below the magnitude, at least 1: 2^e, e = 0, 1, 2.
    const std::uint32_t power = __vmaxu2(magnitude & 0x7f807f80u, kOne);
    // 2. In [2^(e+6), 2^(e+7)) neighbours of BF16 lie 2^(e-1) apart, which is E2M1's step: the addition rounds.
    const std::uint32_t sum = add_bf16_pair(magnitude, power + kUp);
    // 3. Steps above 2^(e+6), plus 2e: the code. The constants are taken off once, below.
    codes = codes * 16u + (sum - power + (power >> 6));
    if constexpr (kZeroSign == ZeroSign::keep) {
      signs |= pair[i] >> (12 - 4 * i) & 0x00080008u << (4 * i);
    } else {  // a zero has no sign; adding 0x7fff reaches the sign bit from any other magnitude
      const std::uint32_t sign = pair[i] & (magnitude + 0x7fff7fffu);
      signs |= sign >> (12 - 4 * i) & 0x00080008u << (4 * i);
    }
  }
  return (codes - kOffset * 0x1111u) | signs;
}

/// A random byte as e2m1_stochastic takes it: the byte itself, minus 14 binary places of FP32's exponent.
__device__ inline std::uint32_t biased_byte(std::uint32_t word, int byte) {
  return __byte_perm(word, 0xf9000000u, 0x7650u | static_cast<unsigned>(byte));
}

/// Stochastically rounded (8 bits), saturating code of scaled element number `i` of a word of eight, at its place, but
/// for a constant: e2m1_stochastic_end takes it off.
__device__ inline std::uint32_t e2m1_stochastic_step(std::uint32_t codes, float scaled, std::uint32_t biased) {
  const float magnitude = fminf(fabsf(scaled), 6.0f);
  // As above: 2^e; then 2^(e+14), where FP32's neighbours lie 2^(e-9) apart: E2M1's step over 256. Cutting leaves the
  // whole 256ths in the last bits, to which the random byte is added.
  const std::uint32_t cut_exponent = bits_of(magnitude) & 0x7f800000u;
  const std::uint32_t power = cut_exponent > 0x3f800000u ? cut_exponent : 0x3f800000u;
  const float sum = __fadd_rz(magnitude, float_of(power + 0x07000000u));
  const std::uint32_t steps = bits_of(sum) - power + biased;
  return codes * 16u + (steps >> 8) + (power >> 22);
}

__device__ inline std::uint32_t e2m1_stochastic_end(std::uint32_t codes) {
  return codes - 0xfeu * 0x11111111u;
}

}  // namespace ng::cuda::fast
