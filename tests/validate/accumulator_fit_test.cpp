// SPDX-License-Identifier: Apache-2.0
//
// Claim: the fit finds every accumulator of the catalogue, with and without promotion, from nothing but the results of
// its probes; what it cannot tell apart it lists, and a machine outside the family is not taken for one inside.
// Alone: build/bin/validate_fit
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <set>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/validate/accumulator_fit.hpp"
#include "narrowgauge/validate/product_spec.hpp"

namespace ng::validate {
namespace {

ProbeTypes types_of(const AccumulatorRow& row) {
  ProbeTypes types;
  types.output = row.spec.result == StepResult::fp16_nearest_even ? ProductOutput::f16 : ProductOutput::f32;
  switch (row.types) {
    case OperandTypes::fp16:
      types.a = types.b = FormatId::fp16;
      break;
    case OperandTypes::bf16:
      types.a = types.b = FormatId::bf16;
      break;
    case OperandTypes::tf32:
      types.a = types.b = FormatId::tf32;
      break;
    case OperandTypes::fp8:
    case OperandTypes::fp8_fp6_fp4:
      types.b = FormatId::e5m2;  // E4M3 with itself reaches no FP16 subnormal
      break;
    case OperandTypes::mxfp8_fp6_fp4:
      types.scales = OperandScales::e8m0_per_32;
      break;
    case OperandTypes::mxfp4:
    case OperandTypes::nvfp4:
      types.a = types.b = FormatId::e2m1;
      types.scales = row.types == OperandTypes::mxfp4 ? OperandScales::e8m0_per_32 : OperandScales::e4m3_per_16;
  }
  return types;
}

TEST(AccumulatorFit, EveryRowOfTheCatalogue) {
  std::set<std::string> done;
  for (const AccumulatorRow& row : accumulator_catalog()) {
    const ProbeTypes types = types_of(row);
    const ProbeSet probes = make_probes(types);
    for (const int promotion : {0, 128}) {
      if (promotion != 0 && row.spec.result == StepResult::fp16_nearest_even) continue;
      const Machine truth{row.spec, promotion};
      const std::string name = std::string(row.arithmetic) + " " + name_of(types.a) + " " +
                               std::string(name_of(types.output)) + ": " + text_of(truth);
      if (!done.insert(name).second) continue;
      const Fit fit = fit_accumulator(probes, answers(probes, truth));
      bool found = false;
      std::set<int> terms, fraction, bits, results, promotions, orders;
      for (const Machine& m : fit.machines) {
        found = found || (m.promotion == promotion && m.accumulator.terms == row.spec.terms &&
                          m.accumulator.fraction_bits == row.spec.fraction_bits &&
                          m.accumulator.significand_bits == row.spec.significand_bits &&
                          m.accumulator.result == row.spec.result && m.accumulator.order == row.spec.order);
        terms.insert(m.accumulator.terms);
        fraction.insert(m.accumulator.fraction_bits);
        bits.insert(m.accumulator.significand_bits);
        results.insert(static_cast<int>(m.accumulator.result));
        orders.insert(static_cast<int>(m.accumulator.order));
        promotions.insert(m.promotion);
      }
      EXPECT_TRUE(found) << name << "\n" << fit.text(types);
      EXPECT_EQ(terms.size(), 1u) << name << "\n" << fit.text(types);
      EXPECT_EQ(fraction.size(), 1u) << name << "\n" << fit.text(types);
      EXPECT_EQ(bits.size(), 1u) << name << "\n" << fit.text(types);
      EXPECT_EQ(results.size(), 1u) << name << "\n" << fit.text(types);
      EXPECT_EQ(orders.size(), 1u) << name << "\n" << fit.text(types);
      EXPECT_EQ(promotions.size(), 1u) << name << "\n" << fit.text(types);
      EXPECT_NE(fit.text(types).find(row.arithmetic), std::string::npos) << name << "\n" << fit.text(types);
    }
  }
  std::cout << done.size() << " accumulators fitted\n";
}

TEST(AccumulatorFit, NothingIsInvented) {
  const ProbeSet probes = make_probes(ProbeTypes{});
  const AccumulatorRow* row = find_accumulator("hopper", FormatId::e4m3, FormatId::e4m3, StepResult::fp32_toward_zero);
  std::vector<std::uint32_t> results = answers(probes, {row->spec, 128});
  results[results.size() / 2] ^= 0x00800000u;  // one wrong answer: no machine fits, and the text says which probe
  const Fit wrong = fit_accumulator(probes, results);
  EXPECT_TRUE(wrong.machines.empty() && wrong.also.empty());
  EXPECT_EQ(wrong.missed, 1u);
  EXPECT_EQ(wrong.nearest.promotion, 128);
  EXPECT_EQ(wrong.first_missed, probes.names[results.size() / 2]);
  EXPECT_NE(wrong.text(probes.types).find(wrong.first_missed), std::string::npos);
}

// An FP32 fma chain is named, and is a machine of one product a step that rounds to nearest.
TEST(AccumulatorFit, Fp32Chains) {
  const ProbeSet probes = make_probes(ProbeTypes{});
  std::vector<std::uint32_t> results;
  for (std::int64_t i = 0; i < probes.count; ++i) {
    float sum = 0.0f;
    for (std::int64_t k = 0; k < probes.k; ++k) {
      const auto at = static_cast<std::size_t>(i * probes.k + k);
      sum = fma_rn(probes.a[at], probes.b[at], sum);
    }
    results.push_back(bits_of(sum));
  }
  const Fit fit = fit_accumulator(probes, results);
  EXPECT_EQ(fit.also, std::vector<std::string>{"ieee"});
  for (const Machine& m : fit.machines) {
    EXPECT_EQ(m.accumulator.terms, 1);
    EXPECT_EQ(m.accumulator.result, StepResult::fp32_nearest_even);
    EXPECT_EQ(m.accumulator.significand_bits, 24);
  }
}

TEST(AccumulatorFit, RefusesWhatDoesNotFit) {
  const auto message = [](const auto& act) {
    try {
      act();
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message([] { (void)probe_types("e4m3,int8", "none", "f32"); }).find("no tensor core multiplies"),
            std::string::npos);
  EXPECT_NE(message([] { (void)probe_types("e4m4", "none", "f32"); }).find("did you mean 'e4m3'"), std::string::npos);
  EXPECT_NE(message([] { (void)probe_types("fp16,fp16", "e8m0", "f32"); }).find("with e8m0 scales"), std::string::npos);
  const ProbeSet probes = make_probes(ProbeTypes{});
  EXPECT_NE(message([&] {
              (void)probe_results(probes, Array::from<float>({2, 2}, std::vector<float>(4)));
            }).find("shape [2, 2]"),
            std::string::npos);
}

}  // namespace
}  // namespace ng::validate
