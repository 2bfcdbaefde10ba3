// SPDX-License-Identifier: Apache-2.0
//
// Tables of formats.hpp from field layouts, and the search that encodes.
#include "formats.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <stdexcept>

namespace ng_oracle {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double value_of_code(const Format& f, std::uint32_t code) {
  if (f.specials == Specials::exponent) {
    return code == 0xFF ? kNan : std::ldexp(1.0, static_cast<int>(code) - f.bias);
  }
  if (f.specials == Specials::integer) {
    const int k = code < 128 ? static_cast<int>(code) : static_cast<int>(code) - 256;
    return static_cast<double>(k) / std::ldexp(1.0, f.mantissa_bits);
  }
  const std::uint32_t mantissas = 1U << f.mantissa_bits;
  const std::uint32_t exponents = 1U << f.exponent_bits;
  const std::uint32_t mantissa = code % mantissas;
  const std::uint32_t exponent = code / mantissas % exponents;
  const bool negative = f.has_sign && code / mantissas / exponents != 0;
  if (f.specials == Specials::fnuz && negative && exponent == 0 && mantissa == 0) return kNan;
  if (f.specials == Specials::ieee && exponent == exponents - 1) {
    return mantissa != 0 ? kNan : (negative ? -kInfinity : kInfinity);
  }
  if (f.specials == Specials::one_nan && exponent == exponents - 1 && mantissa == mantissas - 1) return kNan;
  const double fraction = static_cast<double>(mantissa) / static_cast<double>(mantissas);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - f.bias)
                                         : std::ldexp(1.0 + fraction, static_cast<int>(exponent) - f.bias);
  return negative ? -magnitude : magnitude;
}

Format make(std::string name, int exponent_bits, int mantissa_bits, int bias, Specials specials) {
  Format f;
  f.name = std::move(name);
  f.exponent_bits = exponent_bits;
  f.mantissa_bits = mantissa_bits;
  f.bias = bias;
  f.specials = specials;
  f.has_sign = specials != Specials::exponent;
  f.code_bits = specials == Specials::integer ? 8 : exponent_bits + mantissa_bits + (f.has_sign ? 1 : 0);
  f.sign_mask = f.has_sign && specials != Specials::integer ? 1U << (f.code_bits - 1) : 0U;
  f.has_nan = specials != Specials::finite && specials != Specials::integer;
  f.has_infinity = specials == Specials::ieee;
  f.has_negative_zero = specials == Specials::ieee || specials == Specials::one_nan || specials == Specials::finite;

  const std::uint32_t codes = 1U << f.code_bits;
  f.values.reserve(codes);
  for (std::uint32_t code = 0; code < codes; ++code) f.values.push_back(value_of_code(f, code));
  for (std::uint32_t code = 0; code < codes; ++code) {
    const double v = f.values[code];
    if (std::isfinite(v) && !std::signbit(v)) {
      f.magnitudes.push_back(v);
      f.magnitude_codes.push_back(code);
    }
  }
  if (!std::is_sorted(f.magnitudes.begin(), f.magnitudes.end()))
    throw std::logic_error(f.name + ": codes out of order");
  f.largest = f.magnitudes.back();
  f.largest_exponent = static_cast<int>(std::floor(std::log2(f.largest)));
  // With an unbounded exponent the grid goes on by the step of the top binade (one binade has 2^mantissa steps).
  f.beyond = f.largest + std::ldexp(1.0, f.largest_exponent - f.mantissa_bits);

  const std::uint32_t top_field = ((1U << exponent_bits) - 1U) << mantissa_bits;
  switch (specials) {
    case Specials::ieee:
      f.infinity_code = top_field;
      f.nan_code = top_field | (1U << (mantissa_bits - 1));
      break;
    case Specials::one_nan:
      f.nan_code = top_field | ((1U << mantissa_bits) - 1U);
      break;
    case Specials::fnuz:
      f.nan_code = f.sign_mask;
      break;
    case Specials::exponent:
      f.nan_code = 0xFF;
      break;
    case Specials::finite:
    case Specials::integer:
      break;
  }
  return f;
}

const std::deque<Format>& catalogue() {
  static const std::deque<Format> formats = [] {
    std::deque<Format> all;
    all.push_back(make("e2m1", 2, 1, 1, Specials::finite));
    all.push_back(make("e2m3", 2, 3, 1, Specials::finite));
    all.push_back(make("e3m2", 3, 2, 3, Specials::finite));
    all.push_back(make("e4m3", 4, 3, 7, Specials::one_nan));
    all.push_back(make("e5m2", 5, 2, 15, Specials::ieee));
    all.push_back(make("int8", 0, 6, 0, Specials::integer));
    all.push_back(make("e8m0", 8, 0, 127, Specials::exponent));
    all.push_back(make("bf16", 8, 7, 127, Specials::ieee));
    all.push_back(make("fp16", 5, 10, 15, Specials::ieee));
    all.push_back(make("tf32", 8, 10, 127, Specials::ieee));
    all.push_back(make("e1m2", 1, 2, 0, Specials::finite));
    all.push_back(make("e3m0", 3, 0, 3, Specials::finite));
    all.push_back(make("e5m6", 5, 6, 15, Specials::ieee));
    all.push_back(make("e3m4", 3, 4, 3, Specials::ieee));
    all.push_back(make("e4m3_ieee", 4, 3, 7, Specials::ieee));
    all.push_back(make("e4m3fnuz", 4, 3, 8, Specials::fnuz));
    all.push_back(make("e4m3b11fnuz", 4, 3, 11, Specials::fnuz));
    all.push_back(make("e5m2fnuz", 5, 2, 16, Specials::fnuz));
    return all;
  }();
  return formats;
}

/// ml_dtypes' cast: zero, negative, not finite, above 2^127 after rounding: NaN. Nearest power of two in value, ties
/// up; FP32 subnormals go to 2^-127 up to that value and to 2^-126 above.
std::uint32_t encode_e8m0(float x) {
  if (!(x > 0) || std::isinf(x)) return 0xFF;
  const double v = static_cast<double>(x);
  if (v < std::ldexp(1.0, -126)) return v <= std::ldexp(1.0, -127) ? 0 : 1;
  int exponent = 0;
  const double fraction = std::frexp(v, &exponent);  // v = fraction * 2^exponent, fraction in [1/2, 1)
  const int rounded = fraction >= 0.75 ? exponent : exponent - 1;
  return rounded > 127 ? 0xFFU : static_cast<std::uint32_t>(rounded + 127);
}

std::uint32_t signed_code(const Format& f, std::uint32_t magnitude_code, bool negative) {
  if (!negative) return magnitude_code;
  if (f.specials == Specials::integer) return (256U - magnitude_code) & 0xFFU;
  if (magnitude_code == 0 && !f.has_negative_zero) return 0;
  return magnitude_code | f.sign_mask;
}

/// Whether the exact |x| between neighbours lo < hi goes to hi. `lo_odd`: the lower code's last bit.
bool goes_up(double x, double lo, double hi, bool lo_odd, bool negative, const EncodeChoices& choices) {
  if (x == lo) return false;
  if (choices.rounding == Rounding::toward_zero) return false;
  if (choices.rounding == Rounding::stochastic) {
    const double scaled =
        std::ldexp((x - lo) / (hi - lo), choices.stochastic_bits);  // hi - lo is a power of two: exact
    const auto share = static_cast<std::uint64_t>(std::floor(scaled));
    return share + choices.random >= (std::uint64_t{1} << choices.stochastic_bits);
  }
  const double twice = 2 * x;
  const double sum = lo + hi;  // both exact: at most 25 significant bits
  if (twice != sum) return twice > sum;
  switch (choices.rounding) {
    case Rounding::nearest_even:
      return lo_odd;
    case Rounding::nearest_away:
      return true;
    case Rounding::half_up:
      return !negative;
    case Rounding::toward_zero:
    case Rounding::stochastic:
      break;
  }
  throw std::logic_error("unknown rounding");
}

std::optional<std::uint32_t> encode_nan(const Format& f, bool negative, NanRule rule) {
  if (f.has_nan) {
    if (f.specials == Specials::fnuz) return f.nan_code;
    if (rule == NanRule::cuda && (f.name == "e4m3" || f.name == "e5m2")) return 0x7FU;
    return f.nan_code | (negative ? f.sign_mask : 0U);
  }
  switch (rule) {
    case NanRule::cuda:
    case NanRule::largest:
      return f.magnitude_codes.back();
    case NanRule::zero:
      return 0U;
    case NanRule::negated_zero:
      return signed_code(f, 0, !negative && f.has_negative_zero);
    case NanRule::quiet:
    case NanRule::error:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

const Format& format(std::string_view name) {
  for (const Format& f : catalogue()) {
    if (f.name == name) return f;
  }
  throw std::out_of_range("oracle knows no format " + std::string(name));
}

const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Format& f : catalogue()) all.push_back(f.name);
    return all;
  }();
  return names;
}

double decode(const Format& f, std::uint32_t code) {
  return f.values.at(code);
}

std::uint32_t decode_f32_bits(const Format& f, std::uint32_t code) {
  const double v = decode(f, code);
  if (std::isnan(v)) {
    const bool negative = f.sign_mask != 0 && (code & f.sign_mask) != 0;
    return 0x7FC00000U | (negative ? 0x80000000U : 0U);
  }
  return bits_of(static_cast<float>(v));  // every catalogue value is an FP32 value
}

std::optional<std::uint32_t> encode(const Format& f, float input, const EncodeChoices& choices) {
  if (f.specials == Specials::exponent) return encode_e8m0(input);
  const bool negative = std::signbit(input);
  if (std::isnan(input)) return encode_nan(f, negative, choices.nan);

  const double x = std::fabs(static_cast<double>(input));
  bool over = false;
  std::size_t index = 0;  // into magnitudes
  if (x >= f.beyond) {
    over = true;
  } else {
    index =
        static_cast<std::size_t>(std::upper_bound(f.magnitudes.begin(), f.magnitudes.end(), x) - f.magnitudes.begin()) -
        1;
    const bool top = index + 1 == f.magnitudes.size();
    const double hi = top ? f.beyond : f.magnitudes[index + 1];
    if (goes_up(x, f.magnitudes[index], hi, (f.magnitude_codes[index] & 1U) != 0, negative, choices)) {
      over = top;
      if (!top) ++index;
    }
  }
  if (over) {
    if (choices.overflow == Overflow::nonfinite && f.has_infinity) {
      return f.infinity_code | (negative ? f.sign_mask : 0U);
    }
    if (choices.overflow == Overflow::nonfinite && f.has_nan) {
      return f.specials == Specials::fnuz ? f.nan_code : f.nan_code | (negative ? f.sign_mask : 0U);
    }
    return signed_code(f, f.magnitude_codes.back(), negative);
  }
  bool keep_sign = negative;
  if (index == 0) {
    if (choices.zero_sign == ZeroSign::positive) keep_sign = false;
    if (choices.zero_sign == ZeroSign::exact_positive && x == 0) keep_sign = false;
  }
  return signed_code(f, f.magnitude_codes[index], keep_sign);
}

}  // namespace ng_oracle
