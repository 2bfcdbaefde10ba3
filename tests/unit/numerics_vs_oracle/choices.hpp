// SPDX-License-Identifier: Apache-2.0
//
// The oracle's choices in the program's words, and the inputs on which conversions are compared: all BF16 values, every
// value and every midpoint of the format with their FP32 neighbours, random FP32 bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/rounding.hpp"
#include "oracle/formats.hpp"

namespace ng_test {

// Enumerators of both sides stand in the order of numerics.md.
inline ng::Rounding program(ng_oracle::Rounding r) {
  return static_cast<ng::Rounding>(static_cast<int>(r));
}
inline ng::Overflow program(ng_oracle::Overflow o) {
  return static_cast<ng::Overflow>(static_cast<int>(o));
}
inline ng::NanChoice program(ng_oracle::NanRule n) {
  return static_cast<ng::NanChoice>(static_cast<int>(n));
}
inline ng::ZeroSign program(ng_oracle::ZeroSign z) {
  return static_cast<ng::ZeroSign>(static_cast<int>(z));
}
static_assert(static_cast<int>(ng_oracle::Rounding::half_up) == static_cast<int>(ng::Rounding::half_up));
static_assert(static_cast<int>(ng_oracle::Rounding::stochastic) == static_cast<int>(ng::Rounding::stochastic));
static_assert(static_cast<int>(ng_oracle::Overflow::nonfinite) == static_cast<int>(ng::Overflow::nonfinite));
static_assert(static_cast<int>(ng_oracle::NanRule::error) == static_cast<int>(ng::NanChoice::error));
static_assert(static_cast<int>(ng_oracle::NanRule::negated_zero) == static_cast<int>(ng::NanChoice::negated_zero));
static_assert(static_cast<int>(ng_oracle::ZeroSign::positive) == static_cast<int>(ng::ZeroSign::positive));

inline ng::CastChoices program(const ng_oracle::EncodeChoices& c) {
  ng::CastChoices choices;
  choices.rounding = program(c.rounding);
  choices.random_bits =
      c.rounding == ng_oracle::Rounding::stochastic ? static_cast<std::uint8_t>(c.stochastic_bits) : std::uint8_t{0};
  choices.overflow = program(c.overflow);
  choices.nan = program(c.nan);
  choices.zero_sign = program(c.zero_sign);
  return choices;
}

inline std::string text_of(const ng_oracle::EncodeChoices& c) {
  static const char* const roundings[] = {"nearest_even", "nearest_away", "toward_zero", "half_up", "stochastic"};
  static const char* const overflows[] = {"saturate", "nonfinite"};
  static const char* const nans[] = {"quiet", "cuda", "error", "largest", "zero", "negated_zero"};
  static const char* const zeros[] = {"keep", "exact_positive", "positive"};
  char buffer[160];
  std::snprintf(buffer, sizeof buffer, "rounding=%s:%d random=%08x overflow=%s nan=%s zero_sign=%s",
                roundings[static_cast<int>(c.rounding)], c.stochastic_bits, c.random,
                overflows[static_cast<int>(c.overflow)], nans[static_cast<int>(c.nan)],
                zeros[static_cast<int>(c.zero_sign)]);
  return buffer;
}

inline void push_around(std::vector<float>& inputs, double value) {
  const float f = static_cast<float>(value);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float x : {f, std::nextafter(f, infinity), std::nextafter(f, -infinity)}) {
    inputs.push_back(x);
    inputs.push_back(-x);
  }
}

/// Values, midpoints and the edge beyond the largest value, each with both FP32 neighbours and both signs; at most
/// about 2 x 3000 places for the wide formats.
inline std::vector<float> boundary_inputs(const ng_oracle::Format& f) {
  std::vector<float> inputs;
  const std::size_t stride = f.magnitudes.size() / 3000 + 1;
  for (std::size_t i = 0; i < f.magnitudes.size(); i += stride) {
    const double lo = f.magnitudes[i];
    const double hi = i + 1 < f.magnitudes.size() ? f.magnitudes[i + 1] : f.beyond;
    push_around(inputs, lo);
    push_around(inputs, (lo + hi) / 2);
  }
  push_around(inputs, f.largest);
  push_around(inputs, (f.largest + f.beyond) / 2);
  push_around(inputs, f.beyond);
  return inputs;
}

inline std::vector<float> every_bf16() {
  std::vector<float> inputs;
  for (std::uint32_t i = 0; i < 65536; ++i) inputs.push_back(ng_oracle::float_of(i << 16));
  return inputs;
}

/// Uniform over FP32 bit patterns: all exponents, subnormals, NaN payloads.
inline std::vector<float> random_bits_inputs(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> inputs;
  for (std::size_t i = 0; i < count; ++i) inputs.push_back(ng_oracle::float_of(static_cast<std::uint32_t>(engine())));
  return inputs;
}

}  // namespace ng_test
