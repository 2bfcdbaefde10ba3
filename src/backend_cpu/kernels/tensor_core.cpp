// SPDX-License-Identifier: Apache-2.0
//
// Chains of the tensor-core model, sixteen outputs at a time, equal in every bit to numerics/accumulator.hpp. Products
// and grids are exact in FP32 here (TensorCoreBlock says where), so that cutting to the grid is one conversion to an
// integer, toward zero. Compiled once per instruction set.
#include "tensor_core.hpp"

#include "kernels.hpp"

#if NG_ISA_LEVEL >= 3
#include <immintrin.h>
#endif

namespace ng::cpu::NG_ISA {

namespace {

constexpr int kCols = static_cast<int>(kPanelCols);
/// Terms of significands below 4 on a grid of 25 bits whose sum fits 32 bits.
constexpr int kTermsPerSum = 16;

/// Bits to clear in an FP32 that holds an integer below 2^24, so that `significand_bits` are left.
NG_HD constexpr std::uint32_t fp32_mask(int significand_bits) {
  return ~((1u << (24 - significand_bits)) - 1u);
}

#if NG_ISA_LEVEL >= 3

NG_HD __m256 power_of_two_lanes(__m256i exponent) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
}

/// max over the step's products and c of their exponents.
NG_HD void step_exponents(const std::uint32_t* ea, const std::int16_t* eb, int terms, const __m256 (&c)[2],
                          __m256i (&e)[2]) {
  __m256i largest = _mm256_set1_epi16(kLeastProductExponent);
  __m256i other = largest;
  int t = 0;
  for (; t + 2 <= terms; t += 2) {
    const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(eb + t * kCols));
    const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(eb + (t + 1) * kCols));
    largest = _mm256_max_epi16(largest, _mm256_add_epi16(b0, _mm256_set1_epi32(static_cast<int>(ea[t]))));
    other = _mm256_max_epi16(other, _mm256_add_epi16(b1, _mm256_set1_epi32(static_cast<int>(ea[t + 1]))));
  }
  largest = _mm256_max_epi16(largest, other);
  e[0] = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(largest));
  e[1] = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(largest, 1));
  for (int h = 0; h < 2; ++h) {  // a zero c has exponent field 0: -127
    const __m256i field = _mm256_srli_epi32(_mm256_slli_epi32(_mm256_castps_si256(c[h]), 1), 24);
    e[h] = _mm256_max_epi32(e[h], _mm256_sub_epi32(field, _mm256_set1_epi32(127)));
  }
}

NG_HD void add_products(const float* a, const float* b, int terms, const __m256 (&scale)[2], __m256i (&sum)[2]) {
#pragma GCC unroll 4
  for (int t = 0; t < terms; ++t) {
    const __m256 x = _mm256_broadcast_ss(a + t);
    const __m256 p0 = _mm256_mul_ps(x, _mm256_loadu_ps(b + t * kCols));
    const __m256 p1 = _mm256_mul_ps(x, _mm256_loadu_ps(b + t * kCols + 8));
    sum[0] = _mm256_add_epi32(sum[0], _mm256_cvttps_epi32(_mm256_mul_ps(p0, scale[0])));
    sum[1] = _mm256_add_epi32(sum[1], _mm256_cvttps_epi32(_mm256_mul_ps(p1, scale[1])));
  }
}

/// Eight sums as doubles, exactly.
struct WideSum {
  __m256d low, high;
};
NG_HD void add_wide(WideSum& to, __m256i sum) {
  to.low = _mm256_add_pd(to.low, _mm256_cvtepi32_pd(_mm256_castsi256_si128(sum)));
  to.high = _mm256_add_pd(to.high, _mm256_cvtepi32_pd(_mm256_extracti128_si256(sum, 1)));
}
/// Cut to 24 bits toward zero, as FP32.
NG_HD __m256 cut_wide(const WideSum& sum) {
  const __m256d mask = _mm256_castsi256_pd(_mm256_set1_epi64x(~((1ll << 29) - 1)));
  const __m128 low = _mm256_cvtpd_ps(_mm256_and_pd(sum.low, mask));
  const __m128 high = _mm256_cvtpd_ps(_mm256_and_pd(sum.high, mask));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

/// kTerms, kFraction: L and F; kWide: sums of up to 32 bits and results of 24, else sums below 2^24.
template <int kTerms, int kFraction, bool kWide>
NG_HD void row_chain(const float* a, const std::uint32_t* ea, const float* b, const std::int16_t* eb,
                     std::int64_t steps, std::uint32_t narrow_mask, float* c_out) {
  __m256 c[2] = {_mm256_loadu_ps(c_out), _mm256_loadu_ps(c_out + 8)};
  const __m256i fraction = _mm256_set1_epi32(kFraction);
  for (std::int64_t s = 0; s < steps; ++s) {
    __m256i e[2];
    step_exponents(ea, eb, kTerms, c, e);
    const __m256 scale[2] = {power_of_two_lanes(_mm256_sub_epi32(fraction, e[0])),
                             power_of_two_lanes(_mm256_sub_epi32(fraction, e[1]))};
    const __m256i from_c[2] = {_mm256_cvttps_epi32(_mm256_mul_ps(c[0], scale[0])),
                               _mm256_cvttps_epi32(_mm256_mul_ps(c[1], scale[1]))};
    __m256 cut[2];
    if constexpr (kWide) {
      WideSum wide[2] = {};
      for (int h = 0; h < 2; ++h) add_wide(wide[h], from_c[h]);
      for (int t = 0; t < kTerms; t += kTermsPerSum) {
        __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        add_products(a + t, b + t * kCols, kTerms - t < kTermsPerSum ? kTerms - t : kTermsPerSum, scale, sum);
        for (int h = 0; h < 2; ++h) add_wide(wide[h], sum[h]);
      }
      for (int h = 0; h < 2; ++h) cut[h] = cut_wide(wide[h]);
    } else {
      __m256i sum[2] = {from_c[0], from_c[1]};
      add_products(a, b, kTerms, scale, sum);
      const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(narrow_mask)));
      for (int h = 0; h < 2; ++h) cut[h] = _mm256_and_ps(_mm256_cvtepi32_ps(sum[h]), mask);
    }
    for (int h = 0; h < 2; ++h) c[h] = _mm256_mul_ps(cut[h], power_of_two_lanes(_mm256_sub_epi32(e[h], fraction)));
    a += kTerms;
    ea += kTerms;
    b += kTerms * kCols;
    eb += kTerms * kCols;
  }
  _mm256_storeu_ps(c_out, c[0]);
  _mm256_storeu_ps(c_out + 8, c[1]);
}

#else

template <int kTerms, int kFraction, bool kWide>
NG_HD void row_chain(const float* a, const std::uint32_t* ea, const float* b, const std::int16_t* eb,
                     std::int64_t steps, std::uint32_t narrow_mask, float* c) {
  for (std::int64_t s = 0; s < steps; ++s) {
    std::int32_t e[kCols];
    for (int j = 0; j < kCols; ++j) {  // a zero c has exponent field 0: -127
      const std::int32_t ec = static_cast<std::int32_t>(magnitude_bits(c[j]) >> 23) - 127;
      e[j] = ec > kLeastProductExponent ? ec : kLeastProductExponent;
    }
    for (int t = 0; t < kTerms; ++t) {
      const std::int32_t x = static_cast<std::int16_t>(ea[t] & 0xffffu);
      for (int j = 0; j < kCols; ++j) {
        const std::int32_t product = x + eb[t * kCols + j];
        e[j] = product > e[j] ? product : e[j];
      }
    }
    float scale[kCols];
    for (int j = 0; j < kCols; ++j) scale[j] = float_of(static_cast<std::uint32_t>(kFraction - e[j] + 127) << 23);
    double wide[kCols];
    for (int j = 0; j < kCols; ++j) wide[j] = static_cast<std::int32_t>(c[j] * scale[j]);
    for (int t0 = 0; t0 < kTerms; t0 += kTermsPerSum) {
      std::int32_t sum[kCols] = {};
      for (int t = t0; t < kTerms && t < t0 + kTermsPerSum; ++t)
        for (int j = 0; j < kCols; ++j) sum[j] += static_cast<std::int32_t>(a[t] * b[t * kCols + j] * scale[j]);
      for (int j = 0; j < kCols; ++j) wide[j] += sum[j];
    }
    for (int j = 0; j < kCols; ++j) {
      float cut;
      if (kWide) {
        const std::uint64_t bits = __builtin_bit_cast(std::uint64_t, wide[j]) & ~((1ull << 29) - 1);
        cut = static_cast<float>(__builtin_bit_cast(double, bits));
      } else {
        cut = float_of(bits_of(static_cast<float>(wide[j])) & narrow_mask);
      }
      c[j] = cut * float_of(static_cast<std::uint32_t>(e[j] - kFraction + 127) << 23);
    }
    a += kTerms;
    ea += kTerms;
    b += kTerms * kCols;
    eb += kTerms * kCols;
  }
}

#endif

template <int kTerms, int kFraction, bool kWide>
bool run_block(const TensorCoreBlock& block) {
  if (block.terms != kTerms || block.fraction_bits != kFraction || (block.significand_bits == 24) != kWide)
    return false;
  const std::uint32_t mask = fp32_mask(block.significand_bits);
  for (std::int64_t r = 0; r < block.rows; ++r)
    row_chain<kTerms, kFraction, kWide>(block.a + r * block.a_stride, block.a_exponents + r * block.a_stride, block.b,
                                        block.b_exponents, block.steps, mask, block.c + r * kPanelCols);
  return true;
}

/// False where there is no fast path for these parameters; nothing is done then.
bool tensor_core_rows(const TensorCoreBlock& block) {
  return run_block<32, 13, false>(block) || run_block<16, 13, false>(block) || run_block<16, 25, true>(block) ||
         run_block<8, 25, true>(block) || run_block<8, 24, true>(block) || run_block<4, 24, true>(block) ||
         run_block<4, 23, true>(block) || run_block<32, 25, true>(block);
}

/// total[16] with one chain each.
void tensor_core_promote(ScaleMode mode, const float* chain, float scale_a, const float* scale_b, float* total) {
  for (int j = 0; j < kCols; ++j) {
    const ElementScales scales{&scale_a, scale_b + j};
    total[j] = promoted(mode, chain[j], scales, 0, total[j]);
  }
}

}  // namespace

void add_tensor_core_kernels(CpuKernels& table) {
  table.tensor_core_rows = tensor_core_rows;
  table.tensor_core_promote = tensor_core_promote;
}

}  // namespace ng::cpu::NG_ISA
