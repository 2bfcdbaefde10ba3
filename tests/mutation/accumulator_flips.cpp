// SPDX-License-Identifier: Apache-2.0
//
// Every parameter of every row of the accumulator catalogue, flipped before the oracle's dot product.
#include <gtest/gtest.h>

#include <algorithm>

#include "dots.hpp"
#include "flips.hpp"
#include "oracle/exact.hpp"

namespace ng_mutation {
namespace {

using ng::AccumulatorSpec;
using ng::StepResult;

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
