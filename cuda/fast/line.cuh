// SPDX-License-Identifier: Apache-2.0
//
// Consecutive elements along the contraction axis in the registers of one thread: 16 of them in row kernels, a line of
// 32 in tile kernels. From memory to the transformed elements, their largest magnitudes, and the codes of a tile under
// a factor. BF16 elements stay packed, element 2k in the lower half of word k.
#pragma once

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "fast/packed_e2m1.cuh"
#include "narrowgauge/numerics/block_format.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng::cuda::fast {

constexpr int kLine = 32;

template <int kCount>
struct Bf16Elements {
  static constexpr bool kPacked = true;
  static constexpr int kElements = kCount;
  static constexpr int kWords = kCount / 2;
  std::uint32_t word[kWords];

  /// Four words of memory, `at` the number of the first.
  __device__ void set(int at, const uint4& four) {
    word[at] = four.x;
    word[at + 1] = four.y;
    word[at + 2] = four.z;
    word[at + 3] = four.w;
  }
  __device__ float element(int i) const { return float_of(i % 2 == 0 ? word[i / 2] << 16 : word[i / 2] & 0xffff0000u); }
  /// The same where all elements are finite.
  __device__ float finite_element(int i) const {
    return i % 2 == 0 ? float_of(word[i / 2] << 16) : upper_of_pair(word[i / 2]);
  }
  /// FP32 bits of the largest magnitude of elements [first, first + kHere): BF16 magnitudes compare as integers. The
  /// largest of all as unsigned numbers is that of the negative ones, if any; as signed ones of the positive ones.
  template <int kHere>
  __device__ std::uint32_t amax(int first) const {
    const std::uint32_t* w = word + first / 2;
    std::uint32_t negative = w[0];
    std::uint32_t positive = w[0];
#pragma unroll
    for (int k = 1; k + 1 < kHere / 2; k += 2) {
      negative = __vimax3_u16x2(negative, w[k], w[k + 1]);
      positive = __vimax3_s16x2(positive, w[k], w[k + 1]);
    }
    negative = __vmaxu2(negative, w[kHere / 2 - 1]);
    positive = __vmaxs2(positive, w[kHere / 2 - 1]);
    const std::uint32_t largest = __vmaxu2(negative & 0x7fff7fffu, positive & 0x7fff7fffu);
    const std::uint32_t low = largest << 16;
    const std::uint32_t high = largest & 0xffff0000u;
    return low > high ? low : high;
  }
  /// Bounds the magnitudes of elements [first, first + kHere) by that of `bound`, cut to BF16.
  template <int kHere>
  __device__ void clamp(int first, float bound) {
    const std::uint32_t largest = __byte_perm(bits_of(bound), 0u, 0x3232);
#pragma unroll
    for (int k = first / 2; k < (first + kHere) / 2; ++k)
      word[k] = __vminu2(word[k] & 0x7fff7fffu, largest) | (word[k] & 0x80008000u);
  }
};

template <int kCount>
struct FloatElements {
  static constexpr bool kPacked = false;
  static constexpr int kElements = kCount;
  static constexpr int kWords = kCount;
  float value[kCount];

  __device__ void set(int at, const uint4& four) {
    value[at] = float_of(four.x);
    value[at + 1] = float_of(four.y);
    value[at + 2] = float_of(four.z);
    value[at + 3] = float_of(four.w);
  }
  __device__ float element(int i) const { return value[i]; }
  __device__ float finite_element(int i) const { return value[i]; }
  template <int kHere>
  __device__ std::uint32_t amax(int first) const {
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kHere; ++i) {
      const std::uint32_t magnitude = magnitude_bits(value[first + i]);
      largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
  }
  template <int kHere>
  __device__ void clamp(int first, float bound) {
#pragma unroll
    for (int i = first; i < first + kHere; ++i) value[i] = fminf(fmaxf(value[i], -bound), bound);
  }
};

template <bool kBf16, int kCount>
using ElementsOf = std::conditional_t<kBf16, Bf16Elements<kCount>, FloatElements<kCount>>;

/// What the inputs of a Hadamard group of 16 are multiplied by: 1/4 with the signs. Made by the host, so that a kernel
/// finds it in its parameters.
struct HadamardFactors {
  float factor[16] = {};
};

inline HadamardFactors hadamard_factors(const HadamardSignMask& signs) {
  HadamardFactors factors;
  for (int k = 0; k < 16; ++k) factors.factor[k] = hadamard_negates(signs, k) ? -0.25f : 0.25f;
  return factors;
}

/// Groups of 16 transformed as hadamard_transform does with order `butterfly` and result `bf16`. A NaN may differ in
/// its payload, which nothing reads.
template <int kCount>
__device__ Bf16Elements<kCount> hadamard_16(const Bf16Elements<kCount>& raw, const HadamardFactors& factors) {
  Bf16Elements<kCount> result;
#pragma unroll
  for (int first = 0; first < kCount; first += 16) {
    float x[16];
#pragma unroll
    for (int k = 0; k < 16; ++k) x[k] = mul_rn(raw.element(first + k), factors.factor[k]);
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

/// No random bytes.
struct NoBytes {};

/// The random bytes of consecutive elements, element 4w + b in byte b of word w.
template <int kCount>
struct ElementBytes {
  std::uint32_t word[kCount / 4];
  /// Those of the pairs of eight elements from `first` on, as e2m1_stochastic takes them.
  __device__ void pairs(int first, std::uint32_t (&bytes)[4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      bytes[i] = word[first / 4 + i] & 0x00ff00ffu;
      bytes[i + 2] = __byte_perm(word[first / 4 + i], 0u, 0x4341);
    }
  }
};

/// An element times a factor >= 2^-16, where -0 becomes 0 if the spec has it so.
template <class Spec, class Elements>
__device__ float scaled_element(const Elements& x, int i, float factor) {
  if constexpr (Spec::kZeroSign == ZeroSign::keep)
    return mul_rn(x.finite_element(i), factor);
  else if constexpr (Elements::kPacked)
    return fma_rn(x.finite_element(i), factor, 0.0f);  // no BF16 product vanishes, so that only zeros lose a sign
  else
    return add_rn(mul_rn(x.finite_element(i), factor), 0.0f);
}

/// E2M1 codes of elements [first, first + 8).
template <class Spec, bool kStochastic, class Elements, class Bytes>
__device__ std::uint32_t eight_e2m1(const Elements& x, int first, float factor, const Bytes& random) {
  static_assert(!kStochastic || Elements::kPacked);
  if constexpr (!kStochastic && Elements::kPacked && Spec::kScale == ScaleFormat::e8m0) {
    // Powers of two: BF16 products are exact, or so small that every code is zero.
    const std::uint32_t twice = __byte_perm(bits_of(factor), 0u, 0x3232);
    const std::uint32_t* w = x.word + first / 2;
    std::uint32_t magnitude[4];
    std::uint32_t product[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = i % 2 * 2;
      product[i] = multiply_bf16_pair(__byte_perm(w[at], w[at + 1], i < 2 ? 0x5410 : 0x7632), twice);
      magnitude[i] = product[i] & 0x7fff7fffu;
    }
    return e2m1_nearest(magnitude, product);
  } else {
    const float by = kStochastic ? factor * kStochasticScale : factor;
    float scaled[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) scaled[i] = scaled_element<Spec>(x, first + i, by);
    if constexpr (kStochastic) {
      std::uint32_t bytes[4];
      random.pairs(first, bytes);
      return e2m1_stochastic(scaled, bytes);
    } else {
      return e2m1_nearest(scaled);
    }
  }
}

/// FP8 codes of elements [first, first + 4), by the hardware's saturating conversion.
template <class Spec, class Elements>
__device__ std::uint32_t four_fp8(const Elements& x, int first, float factor) {
  constexpr __nv_fp8_interpretation_t kHardware = Spec::kId == FormatId::e4m3 ? __NV_E4M3 : __NV_E5M2;
  std::uint32_t word = 0;
#pragma unroll
  for (int i = 2; i >= 0; i -= 2) {
    const float2 pair{mul_rn(x.finite_element(first + i), factor), mul_rn(x.finite_element(first + i + 1), factor)};
    word = word << 16 | __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, kHardware);
  }
  return word;
}

/// Codes of the tile [first, first + kHere), 4 or 8 bits each, of finite elements under an ordinary factor
/// (quick_scale). Stochastic rounding draws from `bytes`.
template <class Spec, bool kStochastic, int kHere, class Elements, class Bytes>
__device__ void encode_tile(float factor, const Elements& x, int first, const Bytes& bytes,
                            std::uint32_t (&words)[kHere * Spec::kBits / 32]) {
  constexpr int kPerWord = 32 / Spec::kBits;
#pragma unroll
  for (int w = 0; w < kHere / kPerWord; ++w) {
    if constexpr (Spec::kBits == 4)
      words[w] = eight_e2m1<Spec, kStochastic>(x, first + kPerWord * w, factor, bytes);
    else
      words[w] = four_fp8<Spec>(x, first + kPerWord * w, factor);
  }
}

}  // namespace ng::cuda::fast
