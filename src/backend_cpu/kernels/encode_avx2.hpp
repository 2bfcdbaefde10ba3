// SPDX-License-Identifier: Apache-2.0
//
// Thirty-two elements to codes at a time with AVX2, for rows without NaN (Inputs::plain and plain_exact_positive of
// encode_span.hpp). Nothing is decided here: encode() decides, and tests/unit/quantize_kernels_test.cpp and
// tests/exhaustive/every_scaled_fp32_test.cpp show that these functions equal it for every input. Included by files
// that are compiled for x86-64-v3.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "narrowgauge/quantize/encode_span.hpp"

namespace ng::cpu::NG_ISA {

namespace {

constexpr std::int64_t kBlock = 32;  ///< elements of one step

/// `kBits`: random bits of stochastic rounding, else 0.
template <FormatId kFormat, Rounding kRounding, int kBits, Inputs kInputs>
struct BlockEncoder {
  static constexpr ElementFormat f = kFormatOf<kFormat>;
  static constexpr int kMantissa = f.mantissa_bits;
  static constexpr int kShift = 23 - kMantissa;
  static constexpr int kSmallestField = 127 + smallest_exponent(f);
  static_assert(has_packed_encode(f) && kInputs != Inputs::any && kMantissa <= 3);

  NG_HD static __m256i all(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }

  /// Magnitude, bounded by the largest value (overflow saturates), as FP32 bits.
  NG_HD static __m256i bounded(__m256 scaled) {
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(scaled), all(kMagnitudeMask));
    return _mm256_min_epi32(magnitude, all(largest_value_bits(f)));
  }
  /// Its binade, not below the smallest one, as FP32 bits of the power of two.
  NG_HD static __m256i binade(__m256i magnitude) {
    return _mm256_max_epi32(_mm256_and_si256(magnitude, all(kInfinityBits)),
                            all(static_cast<std::uint32_t>(kSmallestField) << 23));
  }

  /// Sixteen magnitude codes as 16-bit words from two vectors of scaled values, in the order of _mm256_packs_epi32:
  /// elements 0-3, 8-11, 4-7, 12-15. `draws`: sixteen 16-bit words in that order (8 bits), or unused.
  NG_HD static __m256i nearest(__m256 v0, __m256 v1) {
    const auto half = [](__m256 v) {
      // An addition that leaves exactly the wanted bits rounds to nearest even by itself (see encode_branchless). The
      // sum holds the kept bits in its low half and the exponent field, times 128, in its high half: one multiply-add
      // brings both to a common weight.
      const __m256i magnitude = bounded(v);
      const __m256i align = _mm256_add_epi32(binade(magnitude), all(static_cast<std::uint32_t>(kShift) << 23));
      const __m256 sum = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_castsi256_ps(align));
      return _mm256_madd_epi16(_mm256_castps_si256(sum), all(1u << 16 | 1u << (7 - kMantissa)));
    };
    const __m256i words = _mm256_packs_epi32(half(v0), half(v1));
    constexpr short kSmallestWord = static_cast<short>((kSmallestField + kShift) << 7);
    return _mm256_srli_epi16(_mm256_sub_epi16(words, _mm256_set1_epi16(kSmallestWord)), 7 - kMantissa);
  }

  /// Eight values as fixed-point codes: code * 2^kBits, the fraction cut. kBits <= 16.
  NG_HD static __m256i fixed_point(__m256 v) {
    const __m256i magnitude = bounded(v);
    const __m256i base = binade(magnitude);
    // A product by a power of two is exact: units of the last place, times 2^kBits, then cut.
    constexpr std::uint32_t kScale = static_cast<std::uint32_t>(127 + kMantissa + kBits + 127) << 23;
    const __m256 scale = _mm256_castsi256_ps(_mm256_sub_epi32(all(kScale), base));
    const __m256i units = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(magnitude), scale));
    const __m256i above = _mm256_sub_epi32(base, all(static_cast<std::uint32_t>(kSmallestField) << 23));
    return _mm256_add_epi32(units, _mm256_srli_epi32(above, kShift - kBits));
  }

  /// Eight codes with draws of 32 bits: up where the 32-bit fraction plus the draw carries.
  NG_HD static __m256i stochastic_32(__m256 v, __m256i draw) {
    const __m256i magnitude = bounded(v);
    const __m256i exponent = _mm256_and_si256(magnitude, all(kInfinityBits));
    const __m256i base = binade(magnitude);
    const __m256i lost = _mm256_add_epi32(_mm256_srli_epi32(_mm256_sub_epi32(base, exponent), 23),
                                          all(static_cast<std::uint32_t>(kShift)));
    // FP32 subnormals get a leading one that they do not have: they are too small for any of their bits to count.
    const __m256i significand = _mm256_or_si256(_mm256_andnot_si256(all(0xff800000u), magnitude), all(0x00800000u));
    const __m256i floor = _mm256_srlv_epi32(significand, lost);  // shifts of 32 and more give 0
    const __m256i fraction = _mm256_or_si256(_mm256_sllv_epi32(significand, _mm256_sub_epi32(all(32), lost)),
                                             _mm256_srlv_epi32(significand, _mm256_sub_epi32(lost, all(32))));
    // The sum carries where fraction > ~draw, unsigned: compared with the highest bits flipped.
    const __m256i carry =
        _mm256_cmpgt_epi32(_mm256_xor_si256(fraction, all(kSignBit)), _mm256_xor_si256(draw, all(kMagnitudeMask)));
    const __m256i above = _mm256_sub_epi32(base, all(static_cast<std::uint32_t>(kSmallestField) << 23));
    return _mm256_sub_epi32(_mm256_add_epi32(floor, _mm256_srli_epi32(above, kShift)), carry);
  }

  /// Sixteen codes as 16-bit words in the order of _mm256_packs_epi32. `draws`: those of the sixteen elements.
  NG_HD static __m256i words(__m256 v0, __m256 v1, const std::uint8_t* draws) {
    if constexpr (kRounding == Rounding::nearest_even) {
      return nearest(v0, v1);
    } else if constexpr (kBits == 0) {
      return _mm256_packs_epi32(fixed_point(v0), fixed_point(v1));
    } else if constexpr (kBits == 8) {
      const __m256i draw = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(draws)));
      const __m256i units = _mm256_packs_epi32(fixed_point(v0), fixed_point(v1));
      return _mm256_srli_epi16(_mm256_add_epi16(units, _mm256_permute4x64_epi64(draw, 0xd8)), 8);
    } else if constexpr (kBits == 16) {
      const auto half = [](__m256 v, const std::uint8_t* at) {
        const __m256i draw = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
        return _mm256_srli_epi32(_mm256_add_epi32(fixed_point(v), draw), 16);
      };
      return _mm256_packs_epi32(half(v0, draws), half(v1, draws + 16));
    } else {
      const auto half = [](__m256 v, const std::uint8_t* at) {
        return stochastic_32(v, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
      };
      return _mm256_packs_epi32(half(v0, draws), half(v1, draws + 32));
    }
  }

  /// All ones, or at least the highest bit, where the code is negative.
  NG_HD static __m256i sign(__m256 v) {
    if constexpr (kInputs == Inputs::plain_exact_positive)
      return _mm256_castps_si256(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ));
    return _mm256_castps_si256(v);
  }

  /// Thirty-two codes, one a byte, in order, from four vectors of scaled values.
  NG_HD static __m256i codes(__m256 v0, __m256 v1, __m256 v2, __m256 v3, const std::uint8_t* draws) {
    constexpr int kDrawBytes = 16 * kBits / 8;
    const __m256i magnitudes = _mm256_packus_epi16(words(v0, v1, draws), words(v2, v3, draws + kDrawBytes));
    // Packing with saturation keeps the highest bit: that of the scaled values is their sign.
    const __m256i signs = _mm256_packs_epi16(_mm256_packs_epi32(sign(v0), sign(v1)),  //
                                             _mm256_packs_epi32(sign(v2), sign(v3)));
    constexpr int kToSign = 7 - magnitude_bit_count(f);  // from bit 7 of the byte to the sign of the code
    __m256i negative = kToSign == 0 ? signs : _mm256_srli_epi16(signs, kToSign);
    negative = _mm256_and_si256(negative, _mm256_set1_epi8(static_cast<char>(sign_mask(f))));
    const __m256i mixed = _mm256_or_si256(magnitudes, negative);
    return _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
};

/// Codes of one a byte to two a byte, the even element in the low half.
NG_HD __m128i nibbles_of(__m256i codes) {
  const __m256i bytes = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
  return _mm_packus_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}

/// Where the factor of an element comes from: one for a block of 32, one for each 16, one for each element.
enum class Factors : std::uint8_t { one, per_16, per_element };

/// Codes of x[i] * factor for count elements, a multiple of 32; two a byte with kNibbles. `draws`: kBits / 8 bytes
/// each.
template <class Encoder, Factors kFactors, bool kNibbles, int kBits>
NG_HD void encode_blocks(const float* x, const float* factors, const std::uint8_t* draws, std::int64_t count,
                         std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; i += kBlock) {
    const auto scaled = [&](int lane) {
      const __m256 value = _mm256_loadu_ps(x + i + lane);
      if constexpr (kFactors == Factors::per_element)
        return _mm256_mul_ps(value, _mm256_loadu_ps(factors + i + lane));
      else if constexpr (kFactors == Factors::per_16)
        return _mm256_mul_ps(value, _mm256_broadcast_ss(factors + i / 16 + lane / 16));
      else
        return _mm256_mul_ps(value, _mm256_broadcast_ss(factors));
    };
    const __m256i codes =
        Encoder::codes(scaled(0), scaled(8), scaled(16), scaled(24), kBits == 0 ? nullptr : draws + i * kBits / 8);
    if constexpr (kNibbles)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i / 2), nibbles_of(codes));
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), codes);
  }
}

/// The largest lanes of eight vectors of magnitude bits, as eight lanes.
NG_HD __m256i largest_of_each(const __m256i* v) {
  const auto pair = [](__m256i a, __m256i b) {
    return _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  };
  const auto four = [](__m256i a, __m256i b) {
    return _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
  };
  const __m256i low = four(pair(v[0], v[1]), pair(v[2], v[3]));
  const __m256i high = four(pair(v[4], v[5]), pair(v[6], v[7]));
  return _mm256_max_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

/// amax_tiles for tiles of kTile elements, eight at a time. Returns how many tiles are done.
template <int kTile>
NG_HD std::int64_t amax_of_eight_tiles(const float* x, std::int64_t tiles, bool merge, std::uint32_t* amax) {
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  std::int64_t j = 0;
  for (; j + 8 <= tiles; j += 8) {
    __m256i largest[8];
    for (int t = 0; t < 8; ++t) {
      const float* from = x + (j + t) * kTile;
      __m256i v = _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(from)), magnitude_mask);
      for (int i = 8; i < kTile; i += 8)
        v = _mm256_max_epi32(v, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(from + i)), magnitude_mask));
      largest[t] = v;
    }
    __m256i result = largest_of_each(largest);
    __m256i* to = reinterpret_cast<__m256i*>(amax + j);
    if (merge) result = _mm256_max_epi32(result, _mm256_loadu_si256(to));
    _mm256_storeu_si256(to, result);
  }
  return j;
}

/// Four blocks of Philox4x32-10 (counter_rng.hpp) from block number `block` on, in order, 64 bytes. A word lies in the
/// low half of each 64-bit lane; what the upper halves hold is never read.
NG_HD void four_random_blocks(const RandomStream& stream, std::uint64_t block, std::uint8_t* out) {
  const __m256i index = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(block)),  //
                                         _mm256_setr_epi64x(0, 1, 2, 3));
  __m256i c0 = index;
  __m256i c1 = _mm256_srli_epi64(index, 32);
  __m256i c2 = _mm256_set1_epi64x(stream.tensor_id);
  __m256i c3 = _mm256_set1_epi64x(stream.step);
  const __m256i multiplier0 = _mm256_set1_epi64x(0xD2511F53);
  const __m256i multiplier2 = _mm256_set1_epi64x(0xCD9E8D57);
  std::uint32_t key0 = stream.seed;
  std::uint32_t key1 = static_cast<std::uint32_t>(stream.purpose);
  for (int round = 0; round < 10; ++round) {
    const __m256i p0 = _mm256_mul_epu32(c0, multiplier0);
    const __m256i p2 = _mm256_mul_epu32(c2, multiplier2);
    c0 = _mm256_xor_si256(_mm256_srli_epi64(p2, 32), _mm256_xor_si256(c1, _mm256_set1_epi64x(key0)));
    c1 = p2;
    c2 = _mm256_xor_si256(_mm256_srli_epi64(p0, 32), _mm256_xor_si256(c3, _mm256_set1_epi64x(key1)));
    c3 = p0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const __m256i low_half = _mm256_set1_epi64x(0xffffffff);
  const __m256i first = _mm256_or_si256(_mm256_and_si256(c0, low_half), _mm256_slli_epi64(c1, 32));
  const __m256i second = _mm256_or_si256(_mm256_and_si256(c2, low_half), _mm256_slli_epi64(c3, 32));
  const __m256i even = _mm256_unpacklo_epi64(first, second);  // blocks 0 and 2
  const __m256i odd = _mm256_unpackhi_epi64(first, second);   // blocks 1 and 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32), _mm256_permute2x128_si256(even, odd, 0x31));
}

}  // namespace

}  // namespace ng::cpu::NG_ISA
