// SPDX-License-Identifier: Apache-2.0
//
// A line: 32 consecutive elements along the contraction axis, in the registers of one thread. From memory to the
// transformed line, its largest magnitudes, and the codes of a tile under a factor. BF16 lines stay packed, element 2k
// in the lower half of word k.
#pragma once

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "fast/packed_e2m1.cuh"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng::cuda::fast {

constexpr int kLine = 32;

struct Bf16Line {
  static constexpr bool kPacked = true;
  std::uint32_t word[kLine / 2];

  /// Four words of memory, `at` the number of the first.
  __device__ void set(int at, const uint4& four) {
    word[at] = four.x;
    word[at + 1] = four.y;
    word[at + 2] = four.z;
    word[at + 3] = four.w;
  }
  __device__ float element(int i) const { return float_of(i % 2 == 0 ? word[i / 2] << 16 : word[i / 2] & 0xffff0000u); }
  /// FP32 bits of the largest magnitude of elements [first, first + count): BF16 magnitudes compare as integers.
  template <int kCount>
  __device__ std::uint32_t amax(int first) const {
    std::uint32_t largest = word[first / 2] & 0x7fff7fffu;
#pragma unroll
    for (int k = 1; k < kCount / 2; ++k) largest = __vmaxu2(largest, word[first / 2 + k] & 0x7fff7fffu);
    const std::uint32_t low = largest << 16;
    const std::uint32_t high = largest & 0xffff0000u;
    return low > high ? low : high;
  }
};

struct FloatLine {
  static constexpr bool kPacked = false;
  float value[kLine];

  __device__ void set(int at, const uint4& four) {
    value[at] = float_of(four.x);
    value[at + 1] = float_of(four.y);
    value[at + 2] = float_of(four.z);
    value[at + 3] = float_of(four.w);
  }
  __device__ float element(int i) const { return value[i]; }
  template <int kCount>
  __device__ std::uint32_t amax(int first) const {
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const std::uint32_t magnitude = magnitude_bits(value[first + i]);
      largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
  }
};

/// Both groups of 16 transformed as hadamard_transform does with order `butterfly` and result `bf16`; `signs` as in
/// HadamardSignMask, 16 of them. A NaN may differ in its payload, which nothing reads.
template <class Line>
__device__ Bf16Line hadamard_16(const Line& line, std::uint32_t signs) {
  Bf16Line result;
#pragma unroll
  for (int first = 0; first < kLine; first += 16) {
    float x[16];
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      const std::uint32_t flip = signs << (31 - k) & kSignBit;
      x[k] = mul_rn(line.element(first + k), float_of(0x3e800000u | flip));  // 1/4
    }
#pragma unroll
    for (int stride = 1; stride < 16; stride *= 2) {
#pragma unroll
      for (int k = 0; k < 16; ++k) {
        if ((k & stride) != 0) continue;
        const float a = x[k];
        const float b = x[k + stride];
        x[k] = add_rn(a, b);
        x[k + stride] = sub_rn(a, b);
      }
    }
#pragma unroll
    for (int k = 0; k < 16; k += 2) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(x[k], x[k + 1]);
      result.word[(first + k) / 2] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
  }
  return result;
}

/// The random bytes of a line, element 4w + b in byte b of word w.
struct LineBytes {
  std::uint32_t word[kLine / 4];
  __device__ std::uint32_t biased(int i) const { return biased_byte(word[i / 4], i % 4); }
};

/// No random bytes.
struct NoBytes {
  __device__ std::uint32_t biased(int) const { return 0; }
};

/// E2M1 codes of elements [first, first + 8) of a line of finite values.
template <class Spec, bool kStochastic, class Line, class Bytes>
__device__ std::uint32_t eight_e2m1(const Line& line, int first, float factor, const Bytes& bytes) {
  if constexpr (kStochastic) {
    std::uint32_t codes = 0;
    std::uint32_t signs = 0;
#pragma unroll
    for (int i = 7; i >= 0; --i) {
      const float scaled = mul_rn(line.element(first + i), factor);
      codes = e2m1_stochastic_step(codes, scaled, bytes.biased(first + i));
      std::uint32_t sign = bits_of(scaled);
      if constexpr (Spec::kZeroSign != ZeroSign::keep) sign = magnitude_bits(scaled) == 0 ? 0u : sign;
      signs |= sign >> (28 - 4 * i) & 8u << (4 * i);
    }
    return e2m1_stochastic_end(codes) | signs;
  } else {
    std::uint32_t pair[4];
    if constexpr (Line::kPacked && Spec::kScale == ScaleFormat::e8m0) {
      // Powers of two: BF16 products are exact, or so small that every code is zero.
      const std::uint32_t twice = __byte_perm(bits_of(factor), 0u, 0x3232);
      const std::uint32_t* w = line.word + first / 2;
      pair[0] = multiply_bf16_pair(__byte_perm(w[0], w[2], 0x5410), twice);
      pair[1] = multiply_bf16_pair(__byte_perm(w[0], w[2], 0x7632), twice);
      pair[2] = multiply_bf16_pair(__byte_perm(w[1], w[3], 0x5410), twice);
      pair[3] = multiply_bf16_pair(__byte_perm(w[1], w[3], 0x7632), twice);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        pair[i] =
            bf16_pair_to_odd(mul_rn(line.element(first + i), factor), mul_rn(line.element(first + i + 4), factor));
    }
    return e2m1_nearest<Spec::kZeroSign>(pair);
  }
}

/// FP8 codes of elements [first, first + 4) of a line of finite values, by the hardware's saturating conversion.
template <class Spec, class Line>
__device__ std::uint32_t four_fp8(const Line& line, int first, float factor) {
  constexpr __nv_fp8_interpretation_t kHardware = Spec::kId == FormatId::e4m3 ? __NV_E4M3 : __NV_E5M2;
  std::uint32_t word = 0;
#pragma unroll
  for (int i = 2; i >= 0; i -= 2) {
    const float2 pair{mul_rn(line.element(first + i), factor), mul_rn(line.element(first + i + 1), factor)};
    word = word << 16 | __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, kHardware);
  }
  return word;
}

/// Codes of the tile [first, first + kCount) of a line of finite values under a finite factor, 4 or 8 bits each.
template <class Spec, bool kStochastic, int kCount, class Line, class Bytes>
__device__ void encode_tile(float factor, const Line& line, int first, const Bytes& bytes,
                            std::uint32_t (&words)[kCount * Spec::kBits / 32]) {
  constexpr int kPerWord = 32 / Spec::kBits;
#pragma unroll
  for (int w = 0; w < kCount / kPerWord; ++w) {
    if constexpr (Spec::kBits == 4)
      words[w] = eight_e2m1<Spec, kStochastic>(line, first + kPerWord * w, factor, bytes);
    else
      words[w] = four_fp8<Spec>(line, first + kPerWord * w, factor);
  }
}

}  // namespace ng::cuda::fast
