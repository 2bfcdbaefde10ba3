// SPDX-License-Identifier: Apache-2.0
//
// Claim: no named choice is a matter of taste to the tests. Each value of each choice, replaced in the program by each
// other value while the judge (oracle or golden file) stays, changes at least one compared number, is refused by the
// program, or is one of a few pairs that are two names of one thing. Every key of a quantizer and every table of names
// has its flips. The tables are tests/mutation/*_flips.tsv. Alone: build/bin/mutation
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "flips.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng_mutation {
namespace {

std::string text_of_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_all_seen(const std::vector<Flip>& flips) {
  for (const Flip& f : flips) {
    const std::string what = f.choice + ": " + f.from + " -> " + f.to + " before " + f.judge;
    if (f.outcome == Outcome::seen) {
      EXPECT_GT(f.differ, 0u) << what << ": nothing noticed";
    }
    if (f.outcome == Outcome::equivalent) {
      EXPECT_EQ(f.differ, 0u) << what << ": not equivalent";
      EXPECT_GT(f.compared, 0u) << what << ": never compared";
    }
  }
}

/// The committed lines of these choices are those that were found now.
void expect_committed(const std::vector<Flip>& flips, const std::string& section) {
  const std::string path = std::string(NG_SOURCE_DIR) + "/tests/mutation/" + section + ".tsv";
  const std::string now = table(flips);
  std::printf("%s", now.c_str());
  if (text_of_file(path) == now) return;
  const std::string fresh = std::string(NG_BINARY_DIR) + "/" + section + ".tsv";
  std::ofstream(fresh) << now;
  ADD_FAILURE() << path << " is not what was found; now: " << fresh;
}

TEST(Mutation, EveryChoiceOfAQuantizerBeforeTheOracle) {
  const std::vector<Flip> flips = quantizer_flips();
  expect_all_seen(flips);
  expect_committed(flips, "quantizer_flips");
}

TEST(Mutation, ChoicesThatGoldenFilesFix) {
  std::vector<Flip> flips = golden_flips();
  const std::vector<Flip> packing = packing_flips();
  flips.insert(flips.end(), packing.begin(), packing.end());
  expect_all_seen(flips);
  expect_committed(flips, "golden_flips");
}

TEST(Mutation, PowersOfTwoFromBothSidesAreEqual) {
  // ceil(log2(amax / M)) = -floor(log2(M / amax)), and no FP32 quotient rounds up to a power of two: M has at most 12
  // significant bits. So absmax_pow2 and msamp_pow2 are one rule; here for every BF16 amax with its FP32 neighbours.
  for (const std::string& name : ng::element_format_names()) {
    ng::QuantizerSpec one = ng::bare_cast(*ng::find_format(name));
    if (ng::bit_count(one.element) > 12) continue;
    one.scale_format = ng::ScaleFormat::f32;
    one.rule = ng::ScaleRule::absmax_pow2;
    ng::QuantizerSpec other = one;
    other.rule = ng::ScaleRule::msamp_pow2;
    for (std::uint32_t high = 1; high <= 0x7F80; ++high) {
      for (std::uint32_t amax = (high << 16) - 1; amax <= (high << 16) + 1; ++amax)
        ASSERT_EQ(ng::tile_scale(one, amax, {}).code, ng::tile_scale(other, amax, {}).code) << name << " " << amax;
    }
  }
}

TEST(Mutation, DrawsAndEstimatorBeforeTheOracle) {
  std::vector<Flip> flips = draw_flips();
  const std::vector<Flip> estimator = estimator_flips();
  flips.insert(flips.end(), estimator.begin(), estimator.end());
  expect_all_seen(flips);
  expect_committed(flips, "draw_flips");
}

TEST(Mutation, AccumulatorsBeforeTheOracle) {
  const std::vector<Flip> flips = accumulator_flips();
  expect_all_seen(flips);
  expect_committed(flips, "accumulator_flips");
}

TEST(Mutation, ProductsBeforeAnH100) {
  const std::vector<Flip> flips = product_flips();
  expect_all_seen(flips);
  expect_committed(flips, "product_flips");
}

TEST(Mutation, EveryTableOfNamesIsFlippedOrSaysWhyNot) {
  // What flips the values of each table; a table that is not named here is a choice without a mutation.
  const std::set<std::string> flipped = {
      "Rounding",      "Overflow",         "NanChoice",      "ZeroSign",     "ScaleFormat",     "ScaleRule",
      "TensorScope",   "FourOverSixError", "DecodeOrder",    "OutlierScope", "OutlierResidual", "ScaleApplication",
      "HadamardSigns", "HadamardOrder",    "HadamardResult", "Arithmetic",   "Accumulate"};
  // Names of places and of steps of a training step, judged by the tests of recipes, backends and gradients.
  const std::set<std::string> places = {
      "Gemm",      "Operand",    "Orientation",     "OperandKind", "FormSource",    "Carrier",
      "SavedKind", "Compensate", "DecodedResidual", "AmaxReduce",  "EstimatorKind", "EstimatorBeyond"};
  const std::string text = text_of_file(std::string(NG_SOURCE_DIR) + "/include/narrowgauge/recipe/enum_names.hpp");
  const std::regex row(R"(NG_ENUM_TABLE\((\w+), \{)");
  std::size_t tables = 0;
  for (std::sregex_iterator at(text.begin(), text.end(), row), end; at != end; ++at, ++tables) {
    const std::string name = (*at)[1];
    EXPECT_TRUE(flipped.count(name) + places.count(name) == 1) << name << ": no flip of its values, and no reason";
  }
  EXPECT_GE(tables, 20u) << "the tables were not found";
}

TEST(Mutation, EveryKeyOfAQuantizerIsFlipped) {
  std::set<std::string> flipped;
  for (const Axis& axis : quantizer_axes()) flipped.insert(axis.key);
  for (const ng::QuantizerKey& key : ng::quantizer_keys())
    EXPECT_EQ(flipped.count(key.name), 1u) << "no axis flips " << key.name;
}

}  // namespace
}  // namespace ng_mutation
