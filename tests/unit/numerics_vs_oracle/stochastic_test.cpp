// SPDX-License-Identifier: Apache-2.0
//
// Claim: stochastic rounding with b bits goes up for exactly floor(f * 2^b) of the 2^b draws, f the distance to the
// lower neighbour in steps: all 256 draws enumerated for b = 8, thresholds for b = 16 and 32, inputs far below the
// smallest step included. Draws are Philox's published blocks under the element rule. The bias that follows (at most
// s / 2^b toward zero) is measured.
// Alone: ctest -R numerics_vs_oracle.Stochastic
#include <gtest/gtest.h>

#include <algorithm>

#include "choices.hpp"
#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "oracle/transforms.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;
using ng_oracle::EncodeChoices;
using ng_oracle::Rounding;

EncodeChoices stochastic(int bits, std::uint32_t random = 0) {
  EncodeChoices choices;
  choices.rounding = Rounding::stochastic;
  choices.stochastic_bits = bits;
  choices.random = random;
  choices.nan = ng_oracle::NanRule::zero;
  return choices;
}

void expect_same(const ng::NamedFormat& f, float x, const EncodeChoices& choices) {
  const std::uint32_t expected = ng_oracle::encode(ng_oracle::format(f.name), x, choices).value();
  const std::uint32_t got = ng::encode(f.format, program(choices), x, choices.random);
  ASSERT_EQ(got, expected) << f.name << " input " << std::hex << bits_of(x) << "; " << text_of(choices);
}

TEST(Stochastic, E2m1GoesUpForExactlyJOf256Draws) {
  const ng::ElementFormat f = ng::format_of(ng::FormatId::e2m1);
  const ng::CastChoices choices = program(stochastic(8));
  const double values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (std::uint32_t code = 0; code < 7; ++code) {
    const double step = values[code + 1] - values[code];
    for (std::uint32_t j = 0; j < 256; ++j) {
      const float x = static_cast<float>(values[code] + step * j / 256);
      std::uint32_t ups = 0, negative_ups = 0;
      for (std::uint32_t r = 0; r < 256; ++r) {
        const std::uint32_t got = ng::encode(f, choices, x, r);
        ASSERT_TRUE(got == code || got == code + 1);
        ups += got == code + 1 ? 1 : 0;
        negative_ups += ng::encode(f, choices, -x, r) == (8 | (code + 1)) ? 1 : 0;
      }
      ASSERT_EQ(ups, j) << "between codes " << code << " and " << code + 1;
      ASSERT_EQ(negative_ups, j);
    }
  }
}

TEST(Stochastic, AllDrawsOfEightBitsInEveryFormat) {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id == ng::FormatId::fp32 || f.id == ng::FormatId::e8m0) continue;
    const ng_oracle::Format& o = ng_oracle::format(f.name);
    std::mt19937 engine(7);
    std::vector<float> inputs = {0x1p-149F, 0x1p-100F, -0x1p-40F, 0x1.8p-30F, 3e38F, -3e38F, 0.0F, -0.0F};
    const std::size_t stride = o.magnitudes.size() / 60 + 1;
    for (std::size_t i = 0; i < o.magnitudes.size(); i += stride) {
      const double lo = o.magnitudes[i];
      const double hi = i + 1 < o.magnitudes.size() ? o.magnitudes[i + 1] : o.beyond;
      const double share = static_cast<double>(engine()) / 0x1p32;
      for (const double at : {0.0, 1.0 / 256, 0.5, 255.0 / 256, share}) {
        const float x = static_cast<float>(lo + (hi - lo) * at);
        inputs.insert(inputs.end(), {x, -x, std::nextafter(x, 0.0F)});
      }
    }
    for (const float x : inputs) {
      for (std::uint32_t r = 0; r < 256; ++r) ASSERT_NO_FATAL_FAILURE(expect_same(f, x, stochastic(8, r)));
    }
  }
}

TEST(Stochastic, ThresholdsOfSixteenAndThirtyTwoBits) {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id == ng::FormatId::fp32 || f.id == ng::FormatId::e8m0) continue;
    const ng_oracle::Format& o = ng_oracle::format(f.name);
    const double step = o.magnitudes[1];
    std::vector<float> inputs = random_bits_inputs(3000, 11);
    for (int down = 0; down < 60; ++down) {  // far below the smallest step: the draw can only just reach it
      inputs.push_back(static_cast<float>(std::ldexp(step * 1.2345678, -down)));
      inputs.push_back(static_cast<float>(std::ldexp(-step, -down)));
    }
    for (const float x : inputs) {
      if (std::isnan(x)) continue;
      for (const int bits : {16, 32}) {
        const std::uint32_t last = bits == 32 ? 0xFFFFFFFFU : 0xFFFFU;
        std::vector<std::uint32_t> draws = {0, 1, last / 2, last / 2 + 1, last - 1, last};
        // The two draws on either side of the threshold 2^b - floor(f 2^b).
        const double magnitude = std::fabs(static_cast<double>(x));
        if (magnitude < o.beyond) {
          const auto above = std::upper_bound(o.magnitudes.begin(), o.magnitudes.end(), magnitude);
          const double lo = *(above - 1);
          const double hi = above == o.magnitudes.end() ? o.beyond : *above;
          const double share = std::floor(std::ldexp((magnitude - lo) / (hi - lo), bits));
          const double threshold = std::ldexp(1.0, bits) - share;
          for (const double r : {threshold - 1, threshold, threshold + 1}) {
            if (r >= 0 && r <= last) draws.push_back(static_cast<std::uint32_t>(r));
          }
        }
        for (const std::uint32_t r : draws) ASSERT_NO_FATAL_FAILURE(expect_same(f, x, stochastic(bits, r)));
      }
    }
  }
}

TEST(Stochastic, EightBitBiasIsTowardZeroAndBelowOneStepIn256) {
  // Over x uniform in [0.5, 1) the mean of all draws is below x by half of 1/256 step: the floor of the fraction.
  const ng::ElementFormat f = ng::format_of(ng::FormatId::e2m1);
  const int kPoints = 4096;
  double worst = 0, mean = 0;
  for (int i = 0; i < kPoints; ++i) {
    const float x = static_cast<float>(0.5 + 0.5 * i / kPoints);
    double sum = 0;
    for (std::uint32_t r = 0; r < 256; ++r) {
      sum += static_cast<double>(ng::decode(f, ng::encode(f, program(stochastic(8)), x, r)));
    }
    const double bias = (static_cast<double>(x) - sum / 256) / 0.5;  // in steps
    ASSERT_GE(bias, 0);
    worst = std::max(worst, bias);
    mean += bias / kPoints;
  }
  EXPECT_DOUBLE_EQ(worst, 15.0 / 4096);  // 16 points to each of the 256 shares
  EXPECT_DOUBLE_EQ(mean, (0 + 15.0) / 2 / 4096);
}

TEST(Draw, PhiloxKnownAnswers) {
  // Published with Random123 (kat_vectors, philox4x32 10).
  const auto block = [](std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d, std::uint32_t k0,
                        std::uint32_t k1) {
    const ng::PhiloxBlock out = ng::philox4x32_10({{a, b, c, d}}, k0, k1);
    return std::vector<std::uint32_t>(out.word, out.word + 4);
  };
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(block(0, 0, 0, 0, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xFFFFFFFF;
  EXPECT_EQ(block(ones, ones, ones, ones, ones, ones), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(ng_oracle::philox({0, 0, 0, 0}, {0, 0}),
            (ng_oracle::Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(ng_oracle::philox({ones, ones, ones, ones}, {ones, ones}),
            (ng_oracle::Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Draw, ElementRule) {
  std::mt19937_64 engine(3);
  for (int i = 0; i < 2000; ++i) {
    const auto word = [&] { return static_cast<std::uint32_t>(engine()); };
    const ng::RandomStream stream{word(), ng::RandomPurpose::stochastic_rounding, word(), word()};
    const std::uint64_t element = engine() >> (i % 60);  // small indices and indices above 2^32
    for (const int bits : {8, 16, 32}) {
      ASSERT_EQ(ng::random_draw(stream, element, bits),
                ng_oracle::element_draw(stream.seed, static_cast<std::uint32_t>(stream.purpose), stream.tensor_id,
                                        stream.step, element, bits))
          << "element " << element << " bits " << bits;
    }
  }
}

}  // namespace
}  // namespace ng_test
