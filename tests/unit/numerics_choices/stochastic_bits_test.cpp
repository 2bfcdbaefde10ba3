// SPDX-License-Identifier: Apache-2.0
//
// Claim: with 16 bits, exactly floor(f * 2^16) of all 65536 draws round up, for every kind of f in every format, scalar
// and packed; with 32 bits the decision flips exactly at the draw 2^32 - floor(f * 2^32). So the mean over all draws is
// below |x| by less than step / 2^b, and equal to it where f * 2^b is an integer: no statistics, hence no false alarms.
// Alone: build/bin/estimator_vs_oracle --gtest_filter='StochasticBits*'
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/quantize/encode_span.hpp"
#include "oracle/formats.hpp"

namespace ng_test {
namespace {

ng::CastChoices stochastic(int bits) {
  ng::CastChoices choices;
  choices.rounding = ng::Rounding::stochastic;
  choices.random_bits = static_cast<std::uint8_t>(bits);
  return choices;
}

struct Interval {
  double low = 0, high = 0;
  std::uint32_t code = 0;  // of low
};

// Neighbours in the table; what lies above the largest value saturates and is not asked for.
Interval interval_of(const ng_oracle::Format& f, double magnitude) {
  const auto above = std::upper_bound(f.magnitudes.begin(), f.magnitudes.end(), magnitude);
  const std::size_t high = std::min(static_cast<std::size_t>(above - f.magnitudes.begin()), f.magnitudes.size() - 1);
  return {f.magnitudes[high - 1], f.magnitudes[high], f.magnitude_codes[high - 1]};
}

std::vector<float> inputs_of(const ng_oracle::Format& f, std::size_t places) {
  std::mt19937 engine(17);
  std::vector<float> inputs = {0x1p-149F, 0x1p-60F, static_cast<float>(f.magnitudes[1]) * 0x1.8p-20F,
                               static_cast<float>(f.magnitudes[1] * 0.3)};
  const std::size_t stride = std::max<std::size_t>(1, f.magnitudes.size() / places);
  for (std::size_t i = 0; i + 1 < f.magnitudes.size(); i += stride) {
    const double step = f.magnitudes[i + 1] - f.magnitudes[i];
    for (const double share : {0.0, 1.0 / 65536, 1.0 / 3, 0.5, 65535.0 / 65536, static_cast<double>(engine()) / 0x1p32})
      inputs.push_back(static_cast<float>(f.magnitudes[i] + step * share));
    inputs.push_back(std::nextafter(static_cast<float>(f.magnitudes[i + 1]), 0.0F));
  }
  return inputs;
}

bool usable(const ng::NamedFormat& f) {
  return f.id != ng::FormatId::fp32 && f.id != ng::FormatId::e8m0 && f.id != ng::FormatId::tf32;
}

TEST(StochasticBits, AllDrawsOfSixteenBits) {
  const ng::CastChoices choices = stochastic(16);
  std::size_t cases = 0;
  for (const ng::NamedFormat& named : ng::format_catalog()) {
    if (!usable(named)) continue;
    const ng_oracle::Format& f = ng_oracle::format(named.name);
    for (const float x : inputs_of(f, 8)) {
      const Interval in = interval_of(f, static_cast<double>(x));
      const double share = (static_cast<double>(x) - in.low) / (in.high - in.low);
      const std::uint32_t expected =
          static_cast<std::uint32_t>(std::floor(share * 65536));  // exact: steps are powers of two
      std::uint32_t ups = 0;
      for (std::uint32_t r = 0; r < 65536; ++r) {
        const std::uint32_t code = ng::encode(named.format, choices, x, r);
        const bool up = code == in.code + 1;
        ASSERT_TRUE(up || code == in.code) << named.name << " " << x;
        ASSERT_EQ(up, expected + r >= 65536) << named.name << " " << x << " draw " << r;
        ups += up ? 1 : 0;
      }
      ASSERT_EQ(ups, expected) << named.name << " " << x;
      const double bias = share - ups / 65536.0;  // in steps, toward zero
      ASSERT_GE(bias, 0);
      ASSERT_LT(bias, 1.0 / 65536);
      ++cases;
    }
  }
  std::printf("16 bits: %zu inputs, each with all 65536 draws\n", cases);
}

template <ng::FormatId kId>
__attribute__((noinline)) void encode_packed(const ng::SpecialCodes& special, const std::vector<float>& row,
                                             const std::vector<std::uint32_t>& draws,
                                             std::vector<std::uint8_t>& codes) {
  ng::encode_span<kId, ng::Rounding::stochastic, ng::Inputs::plain>(
      special, 16, row.data(), ng::encode_span_detail::OneFactor{1.0F}, draws.data(), codes.data(), row.size());
}

TEST(StochasticBits, PackedFormOfSixteenBitsForAllDraws) {
  std::vector<std::uint32_t> draws(65536);
  for (std::uint32_t r = 0; r < 65536; ++r) draws[r] = r;
  const auto judge = [&]<ng::FormatId kId>() {
    const ng::ElementFormat format = ng::format_of(kId);
    const ng::CastChoices choices = stochastic(16);
    const ng::SpecialCodes special = ng::special_codes(format, choices);
    std::vector<std::uint8_t> codes(65536);
    for (const float x : inputs_of(ng_oracle::format(ng::name_of(kId)), 6)) {
      const std::vector<float> row(65536, -x);
      encode_packed<kId>(special, row, draws, codes);
      for (std::uint32_t r = 0; r < 65536; ++r)
        ASSERT_EQ(codes[r], ng::encode(format, choices, -x, r)) << ng::name_of(kId) << " " << -x << " draw " << r;
    }
  };
  judge.operator()<ng::FormatId::e2m1>();
  judge.operator()<ng::FormatId::e4m3>();
  judge.operator()<ng::FormatId::e5m2>();
}

TEST(StochasticBits, ThirtyTwoBitsFlipAtOneDraw) {
  const ng::CastChoices choices = stochastic(32);
  for (const ng::NamedFormat& named : ng::format_catalog()) {
    if (!usable(named)) continue;
    const ng_oracle::Format& f = ng_oracle::format(named.name);
    std::mt19937 engine(23);
    for (const float x : inputs_of(f, 200)) {
      const Interval in = interval_of(f, static_cast<double>(x));
      const double share = (static_cast<double>(x) - in.low) / (in.high - in.low);
      const double up_draws = std::floor(std::ldexp(share, 32));
      const double threshold = 0x1p32 - up_draws;  // the first draw that rounds up; 2^32: none
      const auto up = [&](double r) {
        return ng::encode(named.format, choices, x, static_cast<std::uint32_t>(r)) == in.code + 1;
      };
      ASSERT_FALSE(up(threshold - 1)) << named.name << " " << x;  // f < 1: the draw 0 never rounds up
      ASSERT_FALSE(up(0)) << named.name << " " << x;
      if (threshold < 0x1p32) {
        ASSERT_TRUE(up(threshold)) << named.name << " " << x;
        ASSERT_TRUE(up(0xFFFFFFFFU)) << named.name << " " << x;
      }
      for (int i = 0; i < 20; ++i) {  // and nowhere else
        const double r = static_cast<double>(engine());
        ASSERT_EQ(up(r), r >= threshold) << named.name << " " << x << " draw " << r;
      }
      // Unbiased wherever the discarded fraction has at most 32 bits.
      const double bias = share - up_draws * 0x1p-32;
      ASSERT_GE(bias, 0);
      ASSERT_LT(bias, 0x1p-32);
      if (static_cast<double>(x) >= f.magnitudes[1] * 0x1p-9) {
        ASSERT_EQ(bias, 0) << named.name << " " << x;
      }
    }
  }
}

}  // namespace
}  // namespace ng_test
