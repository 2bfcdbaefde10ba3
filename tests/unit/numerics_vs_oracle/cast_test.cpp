// SPDX-License-Identifier: Apache-2.0
//
// Claim: for every format of the catalogue, decoding every code and encoding (all BF16 values, all values and midpoints
// with their FP32 neighbours, 20,000 random FP32) under every rounding, overflow, NaN and zero-sign choice gives the
// oracle's answer.
// Alone: ctest -R numerics_vs_oracle.Cast
#include <gtest/gtest.h>

#include <set>

#include "choices.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;
using ng_oracle::EncodeChoices;
using ng_oracle::NanRule;
using ng_oracle::Overflow;
using ng_oracle::Rounding;
using ng_oracle::ZeroSign;

TEST(Cast, CatalogueIsTheOraclesPlusFp32) {
  std::set<std::string> ours;
  for (const ng::NamedFormat& f : ng::format_catalog()) ours.insert(f.name);
  std::set<std::string> oracle(ng_oracle::format_names().begin(), ng_oracle::format_names().end());
  oracle.insert("fp32");
  EXPECT_EQ(ours, oracle);
}

TEST(Cast, FormatFacts) {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id == ng::FormatId::fp32) continue;
    const ng_oracle::Format& o = ng_oracle::format(f.name);
    EXPECT_EQ(ng::bit_count(f.format), o.code_bits) << f.name;
    EXPECT_EQ(ng::largest_code(f.format), o.magnitude_codes.back()) << f.name;
    EXPECT_EQ(ng::largest_exponent(f.format), o.largest_exponent) << f.name;
    if (o.has_nan) {
      EXPECT_EQ(ng::nan_code(f.format), o.nan_code) << f.name;
    }
    if (o.has_infinity) {
      EXPECT_EQ(ng::infinity_code(f.format), o.infinity_code) << f.name;
    }
    EXPECT_EQ(f.format.negative_zero, o.has_negative_zero) << f.name;
  }
}

TEST(Cast, DecodesEveryCode) {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id == ng::FormatId::fp32) continue;
    const ng_oracle::Format& o = ng_oracle::format(f.name);
    std::size_t differences = 0;
    for (std::uint32_t code = 0; code < o.values.size(); ++code) {
      const std::uint32_t got = bits_of(ng::decode(f.format, code));
      const std::uint32_t expected = ng_oracle::decode_f32_bits(o, code);
      if (got != expected && ++differences <= 5) {
        ADD_FAILURE() << f.name << " code " << std::hex << code << ": got bits " << got << " expected " << expected;
      }
    }
    EXPECT_EQ(differences, 0u) << f.name;
  }
}

TEST(Cast, Fp32IsItself) {
  const ng::ElementFormat f = ng::format_of(ng::FormatId::fp32);
  for (const float x : random_bits_inputs(100000, 1)) {
    const std::uint32_t expected = std::isnan(x) ? (bits_of(x) & 0x80000000U) | 0x7FC00000U : bits_of(x);
    ASSERT_EQ(ng::encode(f, {}, x), expected);
    ASSERT_EQ(bits_of(ng::decode(f, expected)), expected);
  }
}

/// Compares one set of choices over the inputs; prints the first differences in full.
void compare(const ng::NamedFormat& f, const std::vector<float>& inputs, const EncodeChoices& choices) {
  const ng_oracle::Format& o = ng_oracle::format(f.name);
  const ng::CastChoices program_choices = program(choices);
  std::size_t differences = 0;
  for (const float x : inputs) {
    const auto expected = ng_oracle::encode(o, x, choices);
    const std::uint32_t got =
        f.id == ng::FormatId::e8m0 ? ng::cast_to_e8m0(x) : ng::encode(f.format, program_choices, x);
    if (expected && got != *expected && ++differences <= 5) {
      ADD_FAILURE() << f.name << " input " << std::hex << bits_of(x) << " (" << std::hexfloat << x << "): got " << got
                    << " expected " << *expected << "; " << text_of(choices);
    }
    if (!expected && got != 0 && ++differences <= 5) {
      ADD_FAILURE() << f.name << ": a refused NaN has code 0, got " << std::hex << got;
    }
  }
}

class CastTo : public testing::TestWithParam<ng::NamedFormat> {};

TEST_P(CastTo, EveryChoice) {
  const ng::NamedFormat f = GetParam();
  const ng_oracle::Format& o = ng_oracle::format(f.name);
  std::vector<float> inputs = boundary_inputs(o);
  for (const auto& more : {every_bf16(), random_bits_inputs(20000, 2)}) {
    inputs.insert(inputs.end(), more.begin(), more.end());
  }
  if (f.id == ng::FormatId::e8m0) {  // one cast rule, no choices
    compare(f, inputs, {});
    return;
  }
  for (const Rounding rounding :
       {Rounding::nearest_even, Rounding::nearest_away, Rounding::toward_zero, Rounding::half_up}) {
    for (const Overflow overflow : {Overflow::saturate, Overflow::nonfinite}) {
      for (const ZeroSign zero_sign : {ZeroSign::keep, ZeroSign::exact_positive, ZeroSign::positive}) {
        EncodeChoices choices;
        choices.rounding = rounding;
        choices.overflow = overflow;
        choices.zero_sign = zero_sign;
        choices.nan = o.has_nan ? NanRule::quiet : NanRule::error;
        compare(f, inputs, choices);
      }
    }
  }
}

TEST_P(CastTo, EveryNanRule) {
  const ng::NamedFormat f = GetParam();
  if (f.id == ng::FormatId::e8m0) return compare(f, {std::nanf(""), -std::nanf("")}, {});
  std::vector<float> inputs;
  for (std::uint32_t payload : {0x400000U, 0x400001U, 0x1U, 0x3FFFFFU, 0x7FFFFFU}) {
    for (const std::uint32_t sign : {0U, 0x80000000U})
      inputs.push_back(ng_oracle::float_of(sign | 0x7F800000U | payload));
  }
  const ng_oracle::Format& o = ng_oracle::format(f.name);
  std::vector<NanRule> rules = {NanRule::largest, NanRule::zero, NanRule::negated_zero, NanRule::error};
  if (o.has_nan) rules = {NanRule::quiet};
  if (o.name == "e4m3" || o.name == "e5m2") rules.push_back(NanRule::cuda);
  for (const NanRule rule : rules) {
    for (const Rounding rounding : {Rounding::nearest_even, Rounding::toward_zero}) {
      EncodeChoices choices;
      choices.nan = rule;
      choices.rounding = rounding;
      compare(f, inputs, choices);
      choices.zero_sign = ZeroSign::positive;  // a NaN is not a zero result
      if (rule != NanRule::negated_zero) compare(f, inputs, choices);
    }
  }
}

std::vector<ng::NamedFormat> narrow_formats() {
  std::vector<ng::NamedFormat> formats;
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id != ng::FormatId::fp32) formats.push_back(f);
  }
  return formats;
}

INSTANTIATE_TEST_SUITE_P(Cast, CastTo, testing::ValuesIn(narrow_formats()),
                         [](const auto& of) { return std::string(of.param.name); });

}  // namespace
}  // namespace ng_test
