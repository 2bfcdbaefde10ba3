// SPDX-License-Identifier: Apache-2.0
//
// Every parameter of every row of the accumulator catalogue, flipped before the oracle's dot product.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "flips.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "oracle/exact.hpp"
#include "oracle/tensor_core.hpp"
#include "oracle/transforms.hpp"

namespace ng_mutation {
namespace {

using ng::AccumulatorSpec;
using ng::FormatId;
using ng::StepResult;

struct Operands {
  FormatId element;
  FormatId scale;       ///< where there are scales
  std::size_t scale_k;  ///< 0: none
};

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

struct Dot {
  ng_oracle::DotOperands in;
  float c = 0;
};

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

/// Dot products of two instructions and a ragged third. Every third one is of tiny numbers without c, whose exponents
/// lie below that of a zero where the formats reach so far.
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

/// A zero's exponent acts only where every other term's lies below it.
bool zero_can_act(const ng::AccumulatorRow& row, int zero) {
  const Operands types = operands_of(row.types);
  const int products = 2 * ng::smallest_exponent(ng::format_of(types.element));
  const int scales = types.scale_k == 0 ? 0 : 2 * ng::smallest_exponent(ng::format_of(types.scale));
  // Groups align by their scales alone.
  const bool groups = row.spec.scales == ng::StepScales::groups;
  // Nothing is cut where the smallest product is a multiple of the grid.
  const int smallest_product = products - 2 * ng::format_of(types.element).mantissa_bits + scales;
  return (groups ? scales : products + scales) < zero && (groups || smallest_product < zero - row.spec.fraction_bits);
}

struct Candidate {
  std::string choice, from, to;
  AccumulatorSpec spec;
  bool equivalent = false;
};

std::vector<Candidate> candidates(const ng::AccumulatorRow& row) {
  const AccumulatorSpec& s = row.spec;
  std::vector<Candidate> all;
  const auto add = [&](const char* choice, int from, int to, auto change, bool equivalent = false) {
    Candidate c{choice, std::to_string(from), std::to_string(to), s, equivalent};
    change(c.spec);
    all.push_back(c);
  };
  const auto terms = [&](int to) {
    add("terms of a step", s.terms, to, [&](AccumulatorSpec& f) {
      f.terms = static_cast<std::int16_t>(to);
      f.instruction_k = std::max(f.instruction_k, f.terms);
    });
  };
  const bool pairs = s.order == ng::StepOrder::low_then_high_pairs;
  if (!pairs) {  // the order of pairs is defined for two steps an instruction
    terms(s.terms / 2);
    if (s.terms < 32 || s.scales == ng::StepScales::groups) terms(s.terms * 2);
  }
  // Steps follow each other in the same way however many make an instruction.
  add(
      "products of an instruction", s.instruction_k, 2 * s.instruction_k,
      [](AccumulatorSpec& f) { f.instruction_k = static_cast<std::int16_t>(2 * f.instruction_k); }, !pairs);
  for (const int by : {-1, 1})
    add("fraction bits", s.fraction_bits, s.fraction_bits + by,
        [&](AccumulatorSpec& f) { f.fraction_bits = static_cast<std::int8_t>(f.fraction_bits + by); });
  const bool fp16 = s.result == StepResult::fp16_nearest_even;
  for (const int by : {-1, 1}) {
    if (s.significand_bits + by > 24) continue;  // FP32 has no more
    add(
        "significand bits", s.significand_bits, s.significand_bits + by,
        [&](AccumulatorSpec& f) { f.significand_bits = static_cast<std::int8_t>(f.significand_bits + by); }, fp16);
  }
  Candidate result{"step result", fp16 ? "fp16_nearest_even" : "fp32_toward_zero",
                   fp16 ? "fp32_toward_zero" : "fp16_nearest_even", s, false};
  result.spec.result = fp16 ? StepResult::fp32_toward_zero : StepResult::fp16_nearest_even;
  all.push_back(result);
  if (!pairs && s.instruction_k == 2 * s.terms) {
    Candidate order{"step order", "consecutive", "low_then_high_pairs", s, false};
    order.spec.order = ng::StepOrder::low_then_high_pairs;
    all.push_back(order);
  } else if (pairs) {
    Candidate order{"step order", "low_then_high_pairs", "consecutive", s, false};
    order.spec.order = ng::StepOrder::consecutive;
    all.push_back(order);
  }
  const char* const scales[] = {"none", "step", "groups"};
  for (int to = 0; s.scales != ng::StepScales::none && to < 3; ++to) {
    if (to == static_cast<int>(s.scales)) continue;
    if (row.types == ng::OperandTypes::nvfp4 && to == 1) continue;          // a step's scales are powers of two
    if (row.types == ng::OperandTypes::mxfp8_fp6_fp4 && to == 2) continue;  // groups are of E2M1
    Candidate c{"step scales", scales[static_cast<int>(s.scales)], scales[to], s, false};
    c.spec.scales = static_cast<ng::StepScales>(to);
    if (c.spec.scales != ng::StepScales::groups) c.spec.terms = std::min<std::int16_t>(c.spec.terms, 32);
    all.push_back(c);
  }
  for (const int by : {-2, 2})
    add(
        "zero exponent", s.zero_exponent, s.zero_exponent + by,
        [&](AccumulatorSpec& f) { f.zero_exponent = static_cast<std::int16_t>(f.zero_exponent + by); },
        !zero_can_act(row, std::max<int>(s.zero_exponent, s.zero_exponent + by)));
  return all;
}

const char* name_of(ng::OperandTypes types) {
  static const char* const names[] = {"fp16", "bf16", "tf32", "fp8", "fp8_fp6_fp4", "mxfp8_fp6_fp4", "mxfp4", "nvfp4"};
  return names[static_cast<int>(types)];
}

}  // namespace

std::vector<Flip> accumulator_flips() {
  std::vector<Flip> flips;
  for (const ng::AccumulatorRow& row : ng::accumulator_catalog()) {
    const std::string name = std::string(row.arithmetic) + " " + name_of(row.types) +
                             (row.spec.result == StepResult::fp16_nearest_even ? " fp16" : "");
    const std::vector<Dot> dots = dots_of(row);
    std::vector<std::uint32_t> expected;
    std::size_t wrong = 0;
    for (const Dot& d : dots) {
      expected.push_back(ng_oracle::bits_of(ng_oracle::dot(oracle_accumulator(row.spec), d.in, d.c)));
      wrong += ng::bits_of(program_dot(row.spec, d)) != expected.back();
    }
    EXPECT_EQ(wrong, 0u) << name << ": the program and its judge differ unflipped";
    for (const Candidate& c : candidates(row)) {
      Flip flip{
          c.choice, c.from, c.to, "oracle " + name, dots.size(), 0, c.equivalent ? Outcome::equivalent : Outcome::seen};
      for (std::size_t i = 0; i < dots.size(); ++i)
        flip.differ += ng::bits_of(program_dot(c.spec, dots[i])) != expected[i];
      flips.push_back(flip);
    }
  }
  return flips;
}

}  // namespace ng_mutation
