// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of tensor cores, as one small machine with parameters: L products and the accumulator are aligned to
// the largest exponent among them, cut there, summed exactly, and rounded once (the "truncated fused dot product" of
// MMA-Sim, arXiv 2511.10909, and of Khattak and Mikaitis's models). Integers only. Operands, accumulators and results
// are FP32 numbers, whatever format they have: every operand format is exact in FP32.
//
// Measured on an H100 for every mma.sync and wgmma instruction (data/golden/h100_special.h5): all NaN results are
// 0x7FFFFFFF; a result beyond the format becomes an infinity, also where rounding is toward zero; a step that is zero,
// or so small that it is rounded to zero, gives +0, also when all terms are -0; FP32 subnormal results; the least
// exponent that a zero term counts with (`zero_exponent`). Of other chips these are the public models'.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

/// What a step leaves in the accumulator. `fp32_*`: significand_bits of FP32. `fp16_nearest_even`: FP16. No unit of the
/// catalogue rounds FP32 to nearest; a fit of an unknown one may.
enum class StepResult : std::uint8_t { fp32_toward_zero, fp16_nearest_even, fp32_nearest_even };

/// Block scales inside the step. `step`: one pair of scales for all terms, their exponents are added to each product's.
/// `groups`: products of 16 consecutive E2M1 pairs are summed exactly, each sum times its pair of scales is one term.
enum class StepScales : std::uint8_t { none, step, groups };

/// Which k a step takes. `consecutive`: L in ascending k. `low_then_high_pairs`: of each instruction's k first those
/// with k mod 4 in {0, 1}, then the others, from +0; the accumulator is added to the result, to nearest even (FP8
/// through mma.sync on Hopper: FP16 products of the unpacked low and high halves of each register, so that E4M3's
/// subnormals count with the exponents that they have in FP16).
enum class StepOrder : std::uint8_t { consecutive, low_then_high_pairs };

struct AccumulatorSpec {
  std::int16_t terms;            ///< L: products of one step
  std::int16_t instruction_k;    ///< products of one instruction: a multiple of L
  std::int8_t fraction_bits;     ///< F: the grid of a step is 2^(largest exponent - F)
  std::int8_t significand_bits;  ///< P: of the result, FP32 only
  StepResult result;
  StepScales scales;
  StepOrder order;
  std::int16_t zero_exponent;  ///< exponent that terms of value zero count with

  friend constexpr bool operator==(const AccumulatorSpec&, const AccumulatorSpec&) = default;
};

/// Values of k that share one pair of block scales in a step of `groups`.
constexpr int kScaleGroup = 16;

/// A number as the alignment sees it: significand * 2^(exponent - 23), subnormals of its own format not normalised.
struct AlignedNumber {
  std::uint32_t significand;  ///< 0 for zero; below 2^24
  std::int16_t exponent;
  bool negative;
  bool infinite;
  bool nan;
};

/// Bits of the NaN that tensor cores and the GPU's FP32 arithmetic write.
constexpr std::uint32_t kTensorCoreNanBits = 0x7fffffffu;

/// `bits`: an FP32 number that a format with this smallest normal exponent can hold.
NG_HD constexpr AlignedNumber aligned_number(std::uint32_t bits, int smallest_exponent) {
  const std::uint32_t magnitude = bits & kMagnitudeMask;
  AlignedNumber n{0, 0, (bits & kSignBit) != 0, magnitude == kInfinityBits, magnitude > kInfinityBits};
  if (magnitude == 0 || magnitude >= kInfinityBits) return n;
  const bool normal = magnitude >= 0x00800000u;
  n.significand = (magnitude & 0x007fffffu) | (normal ? 0x00800000u : 0u);
  int exponent = normal ? static_cast<int>(magnitude >> 23) - 127 : -126;
  if (exponent < smallest_exponent) {  // a subnormal of its format: the low bits that go are zero
    const int low = smallest_exponent - exponent;
    n.significand = low < 24 ? n.significand >> low : 0;
    if (n.significand == 0) return n;
    exponent = smallest_exponent;
  }
  n.exponent = static_cast<std::int16_t>(exponent);
  return n;
}

/// Operands of a product: A's and B's numbers, and where there are block scales those of each group of k.
struct StepOperands {
  const float* a;
  const float* b;
  const float* scale_a;  ///< one per `scale_k` values of k, or null
  const float* scale_b;
  int smallest_exponent_a;  ///< of A's format
  int smallest_exponent_b;
  int smallest_exponent_scale;  ///< of the scales' format
};

namespace accumulator_detail {

NG_HD constexpr int larger(int a, int b) {
  return a > b ? a : b;
}

/// magnitude * 2^shift, cut toward zero.
NG_HD constexpr std::int64_t cut(std::uint64_t magnitude, int shift) {
  if (magnitude == 0) return 0;  // a zero's exponent says nothing
  if (shift >= 0) return static_cast<std::int64_t>(magnitude << shift);
  return shift <= -64 ? 0 : static_cast<std::int64_t>(magnitude >> -shift);
}

NG_HD constexpr int highest_bit(std::uint64_t value) {
  int at = 0;
  for (int step = 32; step > 0; step /= 2) {
    if ((value >> step) != 0) {
      value >>= step;
      at += step;
    }
  }
  return at;
}

/// sum * 2^exponent rounded to FP32 with `precision` bits, toward zero or to nearest even, or to FP16; as FP32 bits.
/// What rounds to zero is +0.
NG_HD constexpr std::uint32_t rounded_sum(std::int64_t sum, int exponent, StepResult result, int precision) {
  if (sum == 0) return 0;
  const bool fp16 = result == StepResult::fp16_nearest_even;
  const bool nearest = result != StepResult::fp32_toward_zero;
  const std::uint32_t sign = sum < 0 ? kSignBit : 0u;
  std::uint64_t magnitude = static_cast<std::uint64_t>(sum < 0 ? -sum : sum);
  // 1. The grid of the result: its last bit, in the binade of the sum or among the subnormals.
  const int bits = fp16 ? 11 : precision;
  const int last = larger(exponent + highest_bit(magnitude), fp16 ? -14 : -126) - (bits - 1);
  // 2. Cut or round to it; a grid finer than the sum's changes nothing.
  if (last > exponent) {
    const int drop = last - exponent;
    const std::uint64_t kept = drop >= 64 ? 0 : magnitude >> drop;
    const std::uint64_t rest = drop >= 64 ? magnitude : magnitude & ((1ull << drop) - 1);
    const std::uint64_t half = drop > 64 ? ~0ull : 1ull << (drop - 1);
    magnitude = kept + (nearest && (rest > half || (rest == half && (kept & 1) != 0)) ? 1 : 0);
    exponent = last;
    if (magnitude == 0) return 0;
  }
  // 3. FP32 bits.
  const int top = highest_bit(magnitude);
  const int binade = exponent + top;
  if (binade > (fp16 ? 15 : 127)) return sign | kInfinityBits;
  if (binade < -126) return sign | static_cast<std::uint32_t>(magnitude << (exponent + 149));
  const std::uint64_t fraction = top <= 23 ? magnitude << (23 - top) : magnitude >> (top - 23);
  return sign | static_cast<std::uint32_t>(binade + 127) << 23 | (static_cast<std::uint32_t>(fraction) & 0x007fffffu);
}

/// Special values met in a step.
struct Specials {
  bool nan = false;
  bool plus_infinity = false;
  bool minus_infinity = false;

  NG_HD constexpr void infinity(bool negative) { (negative ? minus_infinity : plus_infinity) = true; }
  NG_HD constexpr void product(const AlignedNumber& a, const AlignedNumber& b) {
    const bool zero_a = a.significand == 0 && !a.infinite;
    const bool zero_b = b.significand == 0 && !b.infinite;
    if (a.nan || b.nan || (a.infinite && zero_b) || (b.infinite && zero_a))
      nan = true;
    else if (a.infinite || b.infinite)
      infinity(a.negative != b.negative);
  }
};

/// A term of a step: significand * 2^(exponent - fraction bits of the step's terms).
struct Term {
  std::int64_t significand = 0;
  int exponent = 0;
};

NG_HD constexpr Term product_term(const AccumulatorSpec& spec, const AlignedNumber& a, const AlignedNumber& b,
                                  int scale_exponent) {
  const std::uint64_t product = static_cast<std::uint64_t>(a.significand) * b.significand;
  if (product == 0) return {0, spec.zero_exponent};
  const std::int64_t value = static_cast<std::int64_t>(product);
  return {a.negative != b.negative ? -value : value, a.exponent + b.exponent + scale_exponent};
}

NG_HD constexpr std::int64_t aligned_term(const Term& term, int fraction, int grid) {
  const std::uint64_t magnitude =
      static_cast<std::uint64_t>(term.significand < 0 ? -term.significand : term.significand);
  const std::int64_t value = cut(magnitude, term.exponent - fraction - grid);
  return term.significand < 0 ? -value : value;
}

/// Smallest exponent that an operand counts with: its format's, or FP16's where it is turned into FP16 first.
NG_HD constexpr int operand_exponent(const AccumulatorSpec& spec, int of_format) {
  return spec.order == StepOrder::low_then_high_pairs && of_format > -14 ? -14 : of_format;
}

/// Which k of an instruction is term t of its step s.
NG_HD constexpr int term_index(const AccumulatorSpec& spec, int s, int t) {
  return spec.order == StepOrder::consecutive ? s * spec.terms + t : (t / 2) * 4 + s * 2 + (t & 1);
}

/// One term of a `groups` step: 16 E2M1 products and a pair of scales, exact, 8 fraction bits. Zero exponent when all
/// products or a scale are zero; products that cancel keep the scales' exponent.
NG_HD Term group_term(const AccumulatorSpec& spec, const StepOperands& in, int k0, int k1, int scale_index,
                      Specials& specials) {
  const AlignedNumber sa = aligned_number(bits_of(in.scale_a[scale_index]), in.smallest_exponent_scale);
  const AlignedNumber sb = aligned_number(bits_of(in.scale_b[scale_index]), in.smallest_exponent_scale);
  if (sa.nan || sb.nan) specials.nan = true;
  std::int64_t sum = 0;
  bool all_zero = true;
  for (int k = k0; k < k1; ++k) {
    const AlignedNumber a = aligned_number(bits_of(in.a[k]), in.smallest_exponent_a);
    const AlignedNumber b = aligned_number(bits_of(in.b[k]), in.smallest_exponent_b);
    const Term term = product_term(spec, a, b, 0);
    if (term.significand == 0) continue;
    all_zero = false;
    sum += aligned_term(term, 46, -2);  // in quarters
  }
  if (all_zero || sa.significand == 0 || sb.significand == 0) return {0, spec.zero_exponent};
  // E4M3 significands have 3 fraction bits, UE8M0's are powers of two.
  return {sum * static_cast<std::int64_t>(sa.significand >> 20) * static_cast<std::int64_t>(sb.significand >> 20),
          sa.exponent + sb.exponent};
}

/// Step s of the instruction at k0, products up to k_end (there are none beyond), from accumulator c.
NG_HD std::uint32_t step(const AccumulatorSpec& spec, const StepOperands& in, std::int64_t k0, std::int64_t k_end,
                         int s, std::uint32_t c_bits, std::int64_t scale_k) {
  constexpr int kMostTerms = 32;
  Term terms[kMostTerms];
  Specials specials;
  const AlignedNumber c = aligned_number(c_bits, spec.result == StepResult::fp16_nearest_even ? -14 : -126);
  if (c.nan) specials.nan = true;
  if (c.infinite) specials.infinity(c.negative);
  int largest = c.significand == 0 ? spec.zero_exponent : c.exponent;
  int count = 0;
  int fraction = 46;
  if (spec.scales == StepScales::groups) {
    fraction = 8;
    for (std::int64_t k = k0 + s * spec.terms; k < k_end && count * kScaleGroup < spec.terms; k += kScaleGroup) {
      const std::int64_t end = k + kScaleGroup < k_end ? k + kScaleGroup : k_end;
      terms[count++] =
          group_term(spec, in, static_cast<int>(k), static_cast<int>(end), static_cast<int>(k / scale_k), specials);
    }
  } else {
    for (int t = 0; t < spec.terms; ++t) {
      const std::int64_t k = k0 + term_index(spec, s, t);
      if (k >= k_end) {  // the instruction is filled up with zeros
        terms[count++] = {0, spec.zero_exponent};
        continue;
      }
      int scale_exponent = 0;
      if (spec.scales == StepScales::step) {
        const std::uint32_t sa = bits_of(in.scale_a[k / scale_k]), sb = bits_of(in.scale_b[k / scale_k]);
        if (is_nan_bits(sa) || is_nan_bits(sb))
          specials.nan = true;
        else
          scale_exponent = exponent_of_bits(sa) + exponent_of_bits(sb);
      }
      const AlignedNumber a = aligned_number(bits_of(in.a[k]), operand_exponent(spec, in.smallest_exponent_a));
      const AlignedNumber b = aligned_number(bits_of(in.b[k]), operand_exponent(spec, in.smallest_exponent_b));
      specials.product(a, b);
      terms[count++] = product_term(spec, a, b, scale_exponent);
    }
  }
  if (specials.nan || (specials.plus_infinity && specials.minus_infinity)) return kTensorCoreNanBits;
  if (specials.plus_infinity) return kInfinityBits;
  if (specials.minus_infinity) return kInfinityBits | kSignBit;
  for (int t = 0; t < count; ++t) largest = larger(largest, terms[t].exponent);
  const int grid = largest - spec.fraction_bits;
  const std::int64_t c_value =
      c.negative ? -static_cast<std::int64_t>(c.significand) : static_cast<std::int64_t>(c.significand);
  std::int64_t sum = aligned_term({c_value, c.exponent}, 23, grid);
  for (int t = 0; t < count; ++t) sum += aligned_term(terms[t], fraction, grid);
  return rounded_sum(sum, grid, spec.result, spec.significand_bits);
}

}  // namespace accumulator_detail

/// An FP32 number rounded to FP16, to nearest even; overflow becomes infinity. As FP32.
NG_HD constexpr float rounded_to_fp16(float value) {
  const std::uint32_t bits = bits_of(value);
  if (!is_finite_bits(bits)) return is_nan_bits(bits) ? float_of(kTensorCoreNanBits) : value;
  const AlignedNumber n = aligned_number(bits, -126);
  if (n.significand == 0) return value;
  const std::uint32_t magnitude =
      accumulator_detail::rounded_sum(n.significand, n.exponent - 23, StepResult::fp16_nearest_even, 11);
  return float_of(magnitude | (bits & kSignBit));
}

/// a + b in FP32, to nearest even, with the NaN that a GPU writes.
NG_HD float gpu_add(float a, float b) {
  const float sum = add_rn(a, b);
  return is_nan_bits(bits_of(sum)) ? float_of(kTensorCoreNanBits) : sum;
}

/// The accumulator after the products of k in [k_begin, k_end), instruction by instruction, from c. `scale_k`: values
/// of k per block scale (1 where there are none). c and the result are numbers of the accumulator's format.
NG_HD float accumulate(const AccumulatorSpec& spec, const StepOperands& in, std::int64_t k_begin, std::int64_t k_end,
                       float c, std::int64_t scale_k = 1) {
  for (std::int64_t k0 = k_begin; k0 < k_end; k0 += spec.instruction_k) {
    const std::int64_t end = k0 + spec.instruction_k < k_end ? k0 + spec.instruction_k : k_end;
    const bool late = spec.order == StepOrder::low_then_high_pairs;
    std::uint32_t chain = late ? 0u : bits_of(c);
    for (int s = 0; s < spec.instruction_k / spec.terms; ++s)
      if (late || k0 + s * spec.terms < end) chain = accumulator_detail::step(spec, in, k0, end, s, chain, scale_k);
    if (!late) {
      c = float_of(chain);
    } else {
      const float sum = gpu_add(float_of(chain), c);
      c = spec.result == StepResult::fp16_nearest_even ? rounded_to_fp16(sum) : sum;
    }
  }
  return c;
}

}  // namespace ng
