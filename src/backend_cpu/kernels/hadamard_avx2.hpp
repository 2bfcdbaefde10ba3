// SPDX-License-Identifier: Apache-2.0
//
// hadamard_transform() in butterfly order for groups that lie along a row, eight values at a time: the same additions
// and subtractions in the same order, so the same bits. Included by files that are compiled for x86-64-v3.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "narrowgauge/numerics/hadamard.hpp"

namespace ng::cpu::NG_ISA {

namespace {

/// One butterfly whose partners lie in one vector: `partner` holds them, `lower` has the sign bit where an element is
/// the lower of its pair. a + b above, a - b (which is a + -b) below.
NG_HD __m256 butterfly_within(__m256 own, __m256 partner, __m256 lower) {
  return _mm256_add_ps(partner, _mm256_xor_ps(own, lower));
}

NG_HD __m256 sign_lanes(unsigned mask) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bits), bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(set, 31));
}

/// hadamard_result() of eight sums.
template <HadamardResult kResult>
NG_HD __m256 hadamard_results(__m256 sums) {
  __m256 result = sums;
  if constexpr (kResult == HadamardResult::bf16) {
    const __m256i bits = _mm256_castps_si256(sums);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    result = _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(kQuietNanBits)));
  return _mm256_blendv_ps(result, nan, _mm256_cmp_ps(sums, sums, _CMP_UNORD_Q));
}

template <int kSize, HadamardResult kResult>
NG_HD void hadamard_groups(const HadamardSignMask& mask, float* x, std::int64_t count) {
  constexpr int kVectors = kSize / 8;
  const float scale = hadamard_scale(kSize);
  float factors[kSize];
  for (int k = 0; k < kSize; ++k) factors[k] = hadamard_negates(mask, k) ? -scale : scale;
  const __m256 lower1 = sign_lanes(0xaa), lower2 = sign_lanes(0xcc), lower4 = sign_lanes(0xf0);
  for (std::int64_t i = 0; i < count; i += kSize) {
    __m256 v[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), _mm256_loadu_ps(factors + 8 * j));
      y = butterfly_within(y, _mm256_permute_ps(y, 0xb1), lower1);
      y = butterfly_within(y, _mm256_permute_ps(y, 0x4e), lower2);
      v[j] = butterfly_within(y, _mm256_permute2f128_ps(y, y, 0x01), lower4);
    }
    for (int distance = 1; distance < kVectors; distance *= 2) {
      for (int j = 0; j < kVectors; ++j) {
        if ((j & distance) != 0) continue;
        const __m256 a = v[j];
        const __m256 b = v[j + distance];
        v[j] = _mm256_add_ps(a, b);
        v[j + distance] = _mm256_sub_ps(a, b);
      }
    }
    for (int j = 0; j < kVectors; ++j) _mm256_storeu_ps(x + i + 8 * j, hadamard_results<kResult>(v[j]));
  }
}

template <int kSize>
NG_HD void hadamard_groups_of(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t count) {
  if (spec.result == HadamardResult::bf16)
    hadamard_groups<kSize, HadamardResult::bf16>(mask, x, count);
  else
    hadamard_groups<kSize, HadamardResult::f32>(mask, x, count);
}

/// False, and nothing done, where there is no such form. `count` is a multiple of the size.
NG_HD bool hadamard_row_avx2(const HadamardSpec& spec, const HadamardSignMask& mask, float* x, std::int64_t count) {
  if (spec.order != HadamardOrder::butterfly) return false;
  switch (spec.size) {
    case 8:
      hadamard_groups_of<8>(spec, mask, x, count);
      return true;
    case 16:
      hadamard_groups_of<16>(spec, mask, x, count);
      return true;
    case 32:
      hadamard_groups_of<32>(spec, mask, x, count);
      return true;
    case 64:
      hadamard_groups_of<64>(spec, mask, x, count);
      return true;
    case 128:
      hadamard_groups_of<128>(spec, mask, x, count);
      return true;
    default:
      return false;
  }
}

}  // namespace

}  // namespace ng::cpu::NG_ISA
