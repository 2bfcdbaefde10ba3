// SPDX-License-Identifier: Apache-2.0
//
// The number formats of the oracle, each built from its field layout alone: a table of the exact value of every code.
// Encoding is a search in that table for the two neighbours of the input and an exact comparison with their middle.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exact.hpp"

namespace ng_oracle {

/// Which codes are not numbers.
enum class Specials {
  ieee,      ///< the top exponent field holds infinity (mantissa 0) and NaN
  one_nan,   ///< only all ones, with either sign, is NaN
  finite,    ///< every code is a number
  fnuz,      ///< the code of -0 is the only NaN; no infinity
  integer,   ///< two's complement over 2^mantissa_bits
  exponent,  ///< a bare biased exponent; all ones is NaN; no zero
};

enum class Rounding { nearest_even, nearest_away, toward_zero, half_up, stochastic };
enum class Overflow { saturate, nonfinite };
enum class NanRule { quiet, cuda, error, largest, zero, negated_zero };
enum class ZeroSign { keep, exact_positive, positive };

struct EncodeChoices {
  Rounding rounding = Rounding::nearest_even;
  Overflow overflow = Overflow::saturate;
  NanRule nan = NanRule::quiet;  ///< for formats without NaN use one of the last four
  ZeroSign zero_sign = ZeroSign::keep;
  int stochastic_bits = 8;
  std::uint32_t random = 0;  ///< in [0, 2^stochastic_bits)
};

/// A format as a table. `magnitudes` are the finite values >= 0 in order, `magnitude_codes` their codes.
struct Format {
  std::string name;
  int exponent_bits = 0;
  int mantissa_bits = 0;
  int bias = 0;
  bool has_sign = true;
  Specials specials = Specials::finite;

  int code_bits = 0;
  std::vector<double> values;  ///< by code; NaN and infinity included
  std::vector<double> magnitudes;
  std::vector<std::uint32_t> magnitude_codes;
  double largest = 0;        ///< M
  int largest_exponent = 0;  ///< E = floor(log2 M)
  double beyond = 0;         ///< the grid's next value above M, if the exponent were unbounded
  bool has_nan = false;
  bool has_infinity = false;
  bool has_negative_zero = false;
  std::uint32_t nan_code = 0;       ///< quiet NaN, sign clear
  std::uint32_t infinity_code = 0;  ///< sign clear
  std::uint32_t sign_mask = 0;
};

/// All formats of the catalogue except fp32, whose table would not fit. Throws std::out_of_range for another name.
const Format& format(std::string_view name);
const std::vector<std::string>& format_names();

/// Exact value of a code; throws std::out_of_range above the last code.
double decode(const Format& f, std::uint32_t code);

/// Code of one FP32 value; empty where the NaN rule is `error` and the input is NaN. `e8m0` has one cast rule and
/// ignores the choices.
std::optional<std::uint32_t> encode(const Format& f, float x, const EncodeChoices& choices = {});

/// FP32 bits of a code's value; NaN is 0x7FC00000 with the sign of the code where the format has a sign.
std::uint32_t decode_f32_bits(const Format& f, std::uint32_t code);

}  // namespace ng_oracle
