// SPDX-License-Identifier: Apache-2.0
//
// Random and directed dot products.
#include "dots.hpp"

#include <algorithm>
#include <cmath>

#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "oracle/transforms.hpp"

namespace ng_mutation {

using ng::AccumulatorSpec;
using ng::FormatId;
using ng::StepResult;

Operands operands_of(ng::OperandTypes types) {
  switch (types) {
    case ng::OperandTypes::fp16:
      return {FormatId::fp16, FormatId::e8m0, 0};
    case ng::OperandTypes::bf16:
      return {FormatId::bf16, FormatId::e8m0, 0};
    case ng::OperandTypes::tf32:
      return {FormatId::tf32, FormatId::e8m0, 0};
    case ng::OperandTypes::fp8:
    case ng::OperandTypes::fp8_fp6_fp4:
      return {FormatId::e5m2, FormatId::e8m0, 0};
    case ng::OperandTypes::mxfp8_fp6_fp4:
      return {FormatId::e4m3, FormatId::e8m0, 32};
    case ng::OperandTypes::mxfp4:
      return {FormatId::e2m1, FormatId::e8m0, 32};
    case ng::OperandTypes::nvfp4:
      return {FormatId::e2m1, FormatId::e4m3, 16};
  }
  return {};
}

namespace {

/// Two or three powers of two as products of the first places, the rest zero; empty where the format cannot say one.
/// `exponents` are of the terms, scales included.
std::vector<Dot> directed_dot(const ng::AccumulatorRow& row, const std::vector<int>& exponents, bool last_is_minus) {
  const Operands types = operands_of(row.types);
  const ng::ElementFormat f = ng::format_of(types.element);
  const int smallest = ng::smallest_exponent(f), least = smallest - f.mantissa_bits;
  const auto instruction = static_cast<std::size_t>(row.spec.instruction_k);
  Dot d;
  d.in.smallest_a = d.in.smallest_b = smallest;
  d.in.smallest_scale = ng::smallest_exponent(ng::format_of(types.scale));
  d.in.a.assign(instruction, 0.0F);
  d.in.b.assign(instruction, 0.0F);
  const bool groups = row.spec.scales == ng::StepScales::groups;
  if (types.scale_k != 0) {
    d.in.scale_k = types.scale_k;
    d.in.scale_a.assign(instruction / types.scale_k, 0x1p-73F);
    d.in.scale_b = d.in.scale_a;
  }
  for (std::size_t i = 0; i < exponents.size(); ++i) {
    const bool minus = last_is_minus && i + 1 == exponents.size();
    // All in the first step: of pairs, places 0, 1 and 4.
    std::size_t at = row.spec.order == ng::StepOrder::low_then_high_pairs && i == 2 ? 4 : i;
    int left = exponents[i];
    if (groups) {  // each in a group of its own, with scales of its own
      const bool e8m0 = types.scale == FormatId::e8m0;
      at = i * 32;
      const auto scale = [&](int exponent) { return e8m0 ? exponent : std::clamp(exponent, -9, 8); };
      const int sa = scale(left / 2), sb = scale(left - left / 2);
      d.in.scale_a[at / types.scale_k] = std::ldexp(1.0F, sa);
      d.in.scale_b[at / types.scale_k] = std::ldexp(1.0F, sb);
      left -= sa + sb;
    } else if (types.scale_k != 0) {
      left += 146;
    }
    const int first = std::max(left / 2, least), second = left - first;
    if (second < least || second > ng::largest_exponent(f)) return {};
    d.in.a[at] = std::ldexp(minus ? -1.0F : 1.0F, first);
    d.in.b[at] = std::ldexp(1.0F, second);
  }
  return {d};
}

/// What random numbers do not meet: the last place of the grid beside a tie of the result, and the grid of a zero's
/// exponent below the smallest result.
std::vector<Dot> directed_dots(const ng::AccumulatorRow& row) {
  const int f = row.spec.fraction_bits, zero = row.spec.zero_exponent;
  const bool fp16 = row.spec.result == StepResult::fp16_nearest_even;
  std::vector<Dot> all;
  const auto add = [&](const std::vector<int>& exponents, bool last_is_minus) {
    for (const Dot& d : directed_dot(row, exponents, last_is_minus)) all.push_back(d);
  };
  if (row.spec.scales == ng::StepScales::none) {
    for (const int last : {f, f + 1}) add({0, fp16 ? -11 : -12, -last}, !fp16);
  } else if (row.spec.scales == ng::StepScales::groups) {
    for (const int last : {f, f + 1}) add({16, 16 - last}, true);
  }
  for (const int last : {zero - f, zero - f - 2}) add({fp16 ? -25 : -149, last}, !fp16);
  return all;
}

}  // namespace

std::vector<Dot> dots_of(const ng::AccumulatorRow& row) {
  const Operands types = operands_of(row.types);
  const ng::ElementFormat f = ng::format_of(types.element), scale = ng::format_of(types.scale);
  const auto instruction = static_cast<std::size_t>(row.spec.instruction_k);
  std::uint32_t count = 0;
  const auto word = [&] { return ng_oracle::element_draw(11, 5, 1, 0, count++, 32); };
  const auto number = [&](int low, int high) {  // 2^low to 2^high, as the format has it
    const int exponent = low + static_cast<int>(word() % static_cast<unsigned>(high - low + 1));
    const float x = std::ldexp(1.0F + static_cast<float>(word() >> 9) * 0x1p-23F, exponent);
    const ng::CastChoices down{ng::Rounding::toward_zero, 0, ng::Overflow::saturate, ng::NanChoice::quiet,
                               ng::ZeroSign::keep};
    return ng::decode(f, ng::encode(f, down, word() % 2 == 0 ? x : -x));
  };
  const int smallest = ng::smallest_exponent(f),
            most = std::min(ng::largest_exponent(f), row.spec.result == StepResult::fp16_nearest_even ? 3 : 12);
  std::vector<Dot> dots;
  for (int i = 0; i < 600; ++i) {
    Dot d;
    d.in.smallest_a = d.in.smallest_b = smallest;
    d.in.smallest_scale = ng::smallest_exponent(scale);
    const bool tiny = i % 3 == 0;
    const int zero = row.spec.zero_exponent;
    const std::size_t k = tiny ? instruction : 2 * instruction + (i % 3 == 1 ? instruction / 4 + 1 : 0);
    const int spread = i % 2 == 0 ? 2 : 9;
    for (std::size_t j = 0; j < k; ++j) {
      // Products just below the exponent of a zero.
      const int middle = tiny ? std::max(zero / 2 - 3, smallest - 2) : 0;
      const int low = std::max(middle - (tiny ? 1 : spread), smallest - 2),
                high = std::min(middle + (tiny ? 1 : spread), most);
      d.in.a.push_back(word() % 16 == 0 ? 0.0F : number(low, std::max(low, high)));
      d.in.b.push_back(number(low, std::max(low, high)));
    }
    if (types.scale_k != 0) {
      d.in.scale_k = types.scale_k;
      for (std::size_t j = 0; j * types.scale_k < k; ++j) {
        const std::uint32_t a = word(), b = word();
        const bool e8m0 = types.scale == FormatId::e8m0;
        // Tiny: products of scales near 2^-140.
        const std::uint32_t base = tiny ? 56 : 124;
        d.in.scale_a.push_back(ng::decode(scale, e8m0 ? base + a % 4 : 1 + a % 126));
        d.in.scale_b.push_back(ng::decode(scale, e8m0 ? base + b % 4 : 1 + b % 126));
      }
    }
    if (!tiny && i % 4 != 0) d.c = std::ldexp(static_cast<float>(static_cast<int>(word() >> 8) - (1 << 23)), -20);
    if (row.spec.result == StepResult::fp16_nearest_even) d.c = ng::rounded_to_fp16(d.c);
    dots.push_back(d);
  }
  for (const Dot& d : directed_dots(row)) dots.push_back(d);
  return dots;
}

float program_dot(const AccumulatorSpec& spec, const Dot& d) {
  const bool scaled = !d.in.scale_a.empty();
  const ng::StepOperands in{d.in.a.data(),
                            d.in.b.data(),
                            scaled ? d.in.scale_a.data() : nullptr,
                            scaled ? d.in.scale_b.data() : nullptr,
                            d.in.smallest_a,
                            d.in.smallest_b,
                            d.in.smallest_scale};
  return ng::accumulate(spec, in, 0, static_cast<std::int64_t>(d.in.a.size()), d.c,
                        static_cast<std::int64_t>(d.in.scale_k));
}

ng_oracle::Accumulator oracle_accumulator(const AccumulatorSpec& spec) {
  ng_oracle::Accumulator a;
  a.terms = spec.terms;
  a.instruction_k = spec.instruction_k;
  a.fraction_bits = spec.fraction_bits;
  a.significand_bits = spec.significand_bits;
  a.fp16 = spec.result == StepResult::fp16_nearest_even;
  a.scales = static_cast<ng_oracle::StepScales>(static_cast<int>(spec.scales));
  a.interleaved = spec.order == ng::StepOrder::low_then_high_pairs;
  a.zero_exponent = spec.zero_exponent;
  return a;
}

}  // namespace ng_mutation
