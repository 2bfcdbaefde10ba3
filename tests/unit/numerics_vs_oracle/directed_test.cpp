// SPDX-License-Identifier: Apache-2.0
//
// Claim: single numbers that public bug reports, header files and definitions turn on give the published answer. The
// answers here are literals, not the oracle's.
// Alone: ctest -R numerics_vs_oracle.Directed
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "choices.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng_test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  float input;
  std::uint32_t saturate, nonfinite;
};

void expect_codes(ng::FormatId id, const std::vector<Case>& cases) {
  const ng::ElementFormat f = ng::format_of(id);
  for (const Case& c : cases) {
    ng::CastChoices choices;
    EXPECT_EQ(ng::encode(f, choices, c.input), c.saturate)
        << ng::name_of(id) << " saturate " << std::hexfloat << c.input;
    choices.overflow = ng::Overflow::nonfinite;
    EXPECT_EQ(ng::encode(f, choices, c.input), c.nonfinite)
        << ng::name_of(id) << " nonfinite " << std::hexfloat << c.input;
  }
}

TEST(Directed, E4m3) {
  const float past_tie = std::nextafter(464.0F, 1000.0F);
  expect_codes(ng::FormatId::e4m3, {{448, 0x7E, 0x7E},
                                    {464, 0x7E, 0x7E},  // the tie between 448 and 480 goes to the even code
                                    {past_tie, 0x7E, 0x7F},
                                    {465, 0x7E, 0x7F},
                                    {480, 0x7E, 0x7F},
                                    {1000, 0x7E, 0x7F},
                                    {kInfinity, 0x7E, 0x7F},
                                    {-kInfinity, 0xFE, 0xFF},
                                    {0x1p-10F, 0x00, 0x00},  // half of the smallest subnormal: to even
                                    {std::nextafter(0x1p-10F, 1.0F), 0x01, 0x01},
                                    {std::nextafter(0x1p-10F, 0.0F), 0x00, 0x00},
                                    {0.75F * 0x1p-9F, 0x01, 0x01},
                                    {-0.0F, 0x80, 0x80},
                                    {-0x1p-12F, 0x80, 0x80},
                                    {0x1p-149F, 0x00, 0x00},
                                    // Rounding through FP16 first gives the lower neighbour for these.
                                    {400.199585F, 0x7D, 0x7D},
                                    {272.156555F, 0x79, 0x79},
                                    {136.002075F, 0x71, 0x71},
                                    {1.0625001F, 0x39, 0x39},
                                    // A software path once wrote 448 for everything above 256.
                                    {257, 0x78, 0x78},
                                    {288, 0x79, 0x79},
                                    {447, 0x7E, 0x7E}});
}

TEST(Directed, E5m2) {
  expect_codes(ng::FormatId::e5m2, {{57344, 0x7B, 0x7B},
                                    {58000, 0x7B, 0x7B},  // above the largest, below the halfway point
                                    {61439.9F, 0x7B, 0x7B},
                                    {61440, 0x7B, 0x7C},
                                    {kInfinity, 0x7B, 0x7C},
                                    {-kInfinity, 0xFB, 0xFC},
                                    {9, 0x48, 0x48},
                                    {1.125F, 0x3C, 0x3C},
                                    {0x1p-17F, 0x00, 0x00},
                                    {std::nextafter(0x1p-17F, 1.0F), 0x01, 0x01}});
}

TEST(Directed, E2m1MidpointsUnderEachTieRule) {
  const ng::ElementFormat f = ng::format_of(ng::FormatId::e2m1);
  struct Tie {
    float x;
    std::uint32_t even, away, half_up_negative;  ///< half up equals away for positive x
  };
  const Tie ties[] = {{0.25F, 0, 1, 8}, {0.75F, 2, 2, 9}, {1.25F, 2, 3, 10}, {1.75F, 4, 4, 11},
                      {2.5F, 4, 5, 12}, {3.5F, 6, 6, 13}, {5.0F, 6, 7, 14}};
  for (const Tie& t : ties) {
    const auto code = [&](ng::Rounding rounding, float x) {
      ng::CastChoices choices;
      choices.rounding = rounding;
      return ng::encode(f, choices, x);
    };
    const float below = std::nextafter(t.x, 0.0F), above = std::nextafter(t.x, 10.0F);
    EXPECT_EQ(code(ng::Rounding::nearest_even, t.x), t.even) << t.x;
    EXPECT_EQ(code(ng::Rounding::nearest_even, -t.x), t.even | 8) << t.x;
    EXPECT_EQ(code(ng::Rounding::nearest_away, t.x), t.away) << t.x;
    EXPECT_EQ(code(ng::Rounding::nearest_away, -t.x), t.away | 8) << t.x;
    EXPECT_EQ(code(ng::Rounding::half_up, t.x), t.away) << t.x;
    EXPECT_EQ(code(ng::Rounding::half_up, -t.x), t.half_up_negative) << t.x;
    for (const ng::Rounding r : {ng::Rounding::nearest_even, ng::Rounding::nearest_away, ng::Rounding::half_up}) {
      EXPECT_EQ(code(r, below), t.away - 1) << below;
      EXPECT_EQ(code(r, above), t.away) << above;
      EXPECT_EQ(code(r, -below), (t.away - 1) | 8) << below;
      EXPECT_EQ(code(r, -above), t.away | 8) << above;
    }
    EXPECT_EQ(code(ng::Rounding::toward_zero, above), t.away - 1) << above;
  }
  EXPECT_EQ(ng::encode(f, {}, -0.1F), 8u);
  EXPECT_EQ(ng::encode(f, {}, kInfinity), 7u);
  EXPECT_EQ(ng::encode(f, {}, -kInfinity), 15u);
}

TEST(Directed, NanCodes) {
  const float nan = std::nanf("");
  const auto code = [](ng::FormatId id, ng::NanChoice rule, float x) {
    ng::CastChoices choices;
    choices.nan = rule;
    return ng::encode(ng::format_of(id), choices, x);
  };
  using ng::FormatId;
  using ng::NanChoice;
  EXPECT_EQ(code(FormatId::e5m2, NanChoice::quiet, nan), 0x7Eu);
  EXPECT_EQ(code(FormatId::e5m2, NanChoice::quiet, -nan), 0xFEu);
  EXPECT_EQ(code(FormatId::e5m2, NanChoice::cuda, -nan), 0x7Fu);
  EXPECT_EQ(code(FormatId::e4m3, NanChoice::quiet, -nan), 0xFFu);
  EXPECT_EQ(code(FormatId::e4m3, NanChoice::cuda, -nan), 0x7Fu);
  EXPECT_EQ(code(FormatId::bf16, NanChoice::quiet, nan), 0x7FC0u);
  EXPECT_EQ(code(FormatId::e2m1, NanChoice::largest, -nan), 0x7u);
  EXPECT_EQ(code(FormatId::e2m1, NanChoice::zero, nan), 0x0u);
  EXPECT_EQ(code(FormatId::e2m1, NanChoice::negated_zero, nan), 0x8u);
  EXPECT_EQ(code(FormatId::e2m1, NanChoice::negated_zero, -nan), 0x0u);
  EXPECT_EQ(code(FormatId::e3m2, NanChoice::largest, nan), 0x1Fu);
  EXPECT_EQ(code(FormatId::e2m3, NanChoice::largest, nan), 0x1Fu);
  EXPECT_EQ(code(FormatId::e4m3fnuz, NanChoice::quiet, nan), 0x80u);
}

TEST(Directed, E8m0Cast) {
  EXPECT_EQ(ng::cast_to_e8m0(0.0F), 0xFFu);
  EXPECT_EQ(ng::cast_to_e8m0(-1.0F), 0xFFu);
  EXPECT_EQ(ng::cast_to_e8m0(kInfinity), 0xFFu);
  EXPECT_EQ(ng::cast_to_e8m0(1.0F), 127u);
  EXPECT_EQ(ng::cast_to_e8m0(1.5F), 128u);  // ties up
  EXPECT_EQ(ng::cast_to_e8m0(2.5F), 128u);
  EXPECT_EQ(ng::cast_to_e8m0(0x1p-127F), 0u);
  EXPECT_EQ(ng::cast_to_e8m0(std::nextafter(0x1p-127F, 1.0F)), 1u);
  EXPECT_EQ(ng::cast_to_e8m0(0x1p127F), 254u);
  EXPECT_EQ(ng::cast_to_e8m0(std::numeric_limits<float>::max()), 0xFFu);
}

TEST(Directed, Ue4m3Subnormals) {
  for (std::uint32_t code = 0; code < 8; ++code) {  // eight codes that a public kernel once decoded as normals
    EXPECT_EQ(ng::decode(ng::format_of(ng::FormatId::e4m3), code), static_cast<float>(code) * 0x1p-9F);
  }
}

/// Decode scale of a tile under a rule: amax -> 2^k.
float scale_of(ng::FormatId id, ng::ScaleRule rule, float amax) {
  ng::QuantizerSpec spec = ng::bare_cast(id);
  spec.scale_format = ng::ScaleFormat::e8m0;
  spec.rule = rule;
  return ng::tile_scale(spec, ng::bits_of(amax), {}).decode;
}

TEST(Directed, ScaleRulesDifferWhereTheyShould) {
  using ng::FormatId;
  using ng::ScaleRule;
  struct Row {
    float amax, floor, ceil, even, rceil;
  };
  // E2M1: M = 6, largest exponent 2.
  for (const Row& r : {Row{3.0F, 0.5F, 1, 0.5F, 0.5F}, Row{3.2F, 0.5F, 1, 0.5F, 1}, Row{3.6F, 0.5F, 1, 1, 1},
                       Row{4.0F, 1, 1, 1, 1}, Row{6.0F, 1, 2, 1, 1}}) {
    EXPECT_EQ(scale_of(FormatId::e2m1, ScaleRule::floor, r.amax), r.floor) << r.amax;
    EXPECT_EQ(scale_of(FormatId::e2m1, ScaleRule::ceil, r.amax), r.ceil) << r.amax;
    EXPECT_EQ(scale_of(FormatId::e2m1, ScaleRule::even, r.amax), r.even) << r.amax;
    EXPECT_EQ(scale_of(FormatId::e2m1, ScaleRule::rceil, r.amax), r.rceil) << r.amax;
  }
  // E4M3: `even` steps at m = 1.9375, `rceil` above m = 1.75; 448 itself fits.
  EXPECT_EQ(scale_of(FormatId::e4m3, ScaleRule::rceil, 448), 1);
  EXPECT_EQ(scale_of(FormatId::e4m3, ScaleRule::rceil, std::nextafter(448.0F, 500.0F)), 2);
  EXPECT_EQ(scale_of(FormatId::e4m3, ScaleRule::even, 1.9375F * 256), 2);
  EXPECT_EQ(scale_of(FormatId::e4m3, ScaleRule::even, std::nextafter(1.9375F * 256, 0.0F)), 1);
  // A block whose largest value is 957 is clipped to 896 by `floor`, as users of microxcaling found.
  const ng::ElementFormat e4m3 = ng::format_of(FormatId::e4m3);
  const float s = scale_of(FormatId::e4m3, ScaleRule::floor, 957);
  EXPECT_EQ(s, 2);
  EXPECT_EQ(ng::decode(e4m3, ng::encode(e4m3, {}, 957 / s)) * s, 896);
  EXPECT_EQ(scale_of(FormatId::e4m3, ScaleRule::rceil, 957), 4);
  // amax 127.99999 in E5M2: exponent 6, not 7 (a float log2 rounds it up).
  EXPECT_EQ(scale_of(FormatId::e5m2, ScaleRule::floor, 127.99999F), 0x1p-9F);
  // An FP32-subnormal product under `rceil`: byte 1 above 2^-127, else 0.
  EXPECT_EQ(scale_of(FormatId::e2m1, ScaleRule::rceil, 6 * 0x1p-127F), 0x1p-127F);
  EXPECT_EQ(scale_of(FormatId::e2m1, ScaleRule::rceil, 6.01F * 0x1p-127F), 0x1p-126F);
}

}  // namespace
}  // namespace ng_test
