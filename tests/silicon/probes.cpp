// SPDX-License-Identifier: Apache-2.0
//
// probes.hpp: each group a function that appends. Powers of two are split over both operands so that every format holds
// them; a probe whose numbers a format cannot hold is left out.
#include "probes.hpp"

#include <cmath>
#include <optional>

#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"

namespace ng_silicon {

using namespace ng;

namespace {

std::uint32_t encoded(FormatId format, float value) {
  return format == FormatId::tf32 ? bits_of(value) : encode(format_of(format), CastChoices{}, value);
}
float decoded(FormatId format, std::uint32_t code) {
  return format == FormatId::tf32 ? float_of(code) : decode(format_of(format), code);
}
std::optional<std::uint32_t> held(FormatId format, double value) {
  const float narrow = static_cast<float>(value);
  const std::uint32_t code = encoded(format, narrow);
  const bool exact =
      static_cast<double>(decoded(format, code)) == value && (code & (format == FormatId::tf32 ? 0x1fffu : 0u)) == 0;
  return exact ? std::optional(code) : std::nullopt;
}
std::string power(int exponent) {
  return "2^" + std::to_string(exponent);
}

class Builder {
 public:
  explicit Builder(const cuda::Instruction& instruction) : i_(instruction) {}

  struct Value {
    int k;
    double a, b;
  };

  /// Appends unless a number does not fit. c is a number, or bits with `c_bits`.
  void add(const std::string& name, const std::vector<Value>& values, double c, int chain = 1) {
    const FormatId result = i_.result == StepResult::fp32_toward_zero ? FormatId::fp32 : FormatId::fp16;
    const std::uint32_t bits =
        result == FormatId::fp32 ? bits_of(static_cast<float>(c)) : encoded(FormatId::fp16, static_cast<float>(c));
    if (static_cast<double>(decoded(result, bits)) != c) return;
    add_bits(name, values, bits, chain);
  }
  void add_bits(const std::string& name, const std::vector<Value>& values, std::uint32_t c, int chain = 1) {
    Probe probe{name, {}, c, chain};
    for (const Value& v : values) {
      const auto a = held(i_.a, v.a), b = held(i_.b, v.b);
      if (!a || !b || v.k >= chain * i_.k) return;
      probe.terms.push_back({v.k, *a | sign_if(i_.a, v.a), *b | sign_if(i_.b, v.b)});
    }
    all.push_back(std::move(probe));
  }
  void add_codes(const std::string& name, const std::vector<ProbeTerm>& terms, std::uint32_t c, int chain = 1) {
    all.push_back({name, terms, c, chain});
  }
  /// Factors of 2^exponent that both formats hold, the first negated for `sign` -1; none: false.
  bool split(int exponent, double sign, int k, std::vector<Value>& to) const {
    for (int low = 0; low <= 300; ++low)
      for (const int first : {exponent / 2 + low, exponent / 2 - low}) {
        const double a = std::ldexp(1.0, first), b = std::ldexp(1.0, exponent - first);
        if (held(i_.a, a) && held(i_.b, b)) {
          to.push_back({k, sign * a, b});
          return true;
        }
      }
    return false;
  }

  const cuda::Instruction& i_;
  std::vector<Probe> all;

 private:
  static std::uint32_t sign_if(FormatId format, double value) {
    if (value != 0.0 || !std::signbit(value)) return 0;
    return format == FormatId::tf32 ? kSignBit : sign_mask(format_of(format));
  }
};

bool fp16_result(const Builder& b) {
  return b.i_.result == StepResult::fp16_nearest_even;
}

std::vector<std::uint32_t> nan_bits_of_c(const Builder& b) {
  if (fp16_result(b)) return {0x7c01u, 0x7e00u, 0x7fffu, 0xfc01u, 0xfe00u, 0xffffu};
  return {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffc00000u, 0xffffffffu};
}
std::uint32_t infinity_of_c(const Builder& b, bool negative) {
  return fp16_result(b) ? (negative ? 0xfc00u : 0x7c00u) : kInfinityBits | (negative ? kSignBit : 0u);
}
std::uint32_t one_of_c(const Builder& b) {
  return fp16_result(b) ? 0x3c00u : 0x3f800000u;
}
std::uint32_t minus_zero_of_c(const Builder& b) {
  return fp16_result(b) ? 0x8000u : kSignBit;
}

void special_values(Builder& b) {
  const FormatId fa = b.i_.a, fb = b.i_.b;
  const int last = b.i_.k - 1;
  for (const NamedCode& x : special_codes(fa))
    for (const NamedCode& y : special_codes(fb))
      b.add_codes("special: " + x.name + " * " + y.name, {{0, x.code, y.code}}, 0);
  for (const NamedCode& x : special_codes(fa))
    b.add_codes("special: " + x.name + " * 1 at the last k, c = 1", {{last, x.code, code_of(fb, 1)}}, one_of_c(b));
  for (const std::uint32_t c : nan_bits_of_c(b)) {
    b.add_bits("special: NaN in c alone", {}, c);
    b.add_bits("special: NaN in c, product 1", {{0, 1, 1}}, c);
    b.add_bits("special: NaN in c, two instructions", {}, c, 2);
  }
  for (const bool negative : {false, true}) {
    b.add_bits("special: infinite c alone", {}, infinity_of_c(b, negative));
    b.add_bits("special: infinite c, product 1", {{0, 1, 1}}, infinity_of_c(b, negative));
  }
  const auto infinity = [&](FormatId f) { return infinity_code(format_of(f)) << (f == FormatId::tf32 ? 13 : 0); };
  if (format_of(fa).infinity == Infinity::none) return;
  const std::uint32_t plus = infinity(fa);
  const std::uint32_t minus = plus | (fa == FormatId::tf32 ? kSignBit : sign_mask(format_of(fa)));
  const std::uint32_t one = code_of(fb, 1);
  for (const int k : {1, 2, last})
    b.add_codes("special: inf at 0, -inf at " + std::to_string(k), {{0, plus, one}, {k, minus, one}}, 0);
  for (const bool negative : {false, true})
    b.add_codes(std::string("special: inf product, c = ") + (negative ? "-inf" : "inf"), {{0, plus, one}},
                infinity_of_c(b, negative));
  b.add_codes("special: inf, then -inf in the next instruction", {{0, plus, one}, {b.i_.k, minus, one}}, 0, 2);
  b.add_codes("special: inf, then finite", {{0, plus, one}, {b.i_.k, one == 0 ? 0 : code_of(fa, 1), one}}, 0, 2);
}

void zeros(Builder& b) {
  std::vector<Builder::Value> all, one_side;
  for (int k = 0; k < b.i_.k; ++k) {
    all.push_back({k, -0.0, 0.0});
    one_side.push_back({k, -1.0, 0.0});
  }
  const std::uint32_t minus = minus_zero_of_c(b);
  for (const std::uint32_t c : {0u, minus}) {
    const std::string of = c == 0 ? ", c = +0" : ", c = -0";
    b.add_bits("zero: all +0" + of, {}, c);
    b.add_bits("zero: all products -0" + of, all, c);
    b.add_bits("zero: all products -1 * 0" + of, one_side, c);
    b.add_bits("zero: one product -0" + of, {{0, -0.0, 0.0}}, c);
    b.add_bits("zero: 1 - 1" + of, {{0, 1, 1}, {1, -1, 1}}, c);
    b.add_bits("zero: -1 + 1" + of, {{0, -1, 1}, {1, 1, 1}}, c);
    b.add_bits("zero: all products -0, two instructions" + of, all, c, 2);
  }
  b.add("zero: product 1, c = -1", {{0, 1, 1}}, -1.0);
  b.add("zero: product -1, c = 1", {{0, -1, 1}}, 1.0);
  // Negative terms that are cut away.
  for (const int s : {16, 28}) {
    std::vector<Builder::Value> v;
    if (b.split(16, 1, 0, v) && b.split(16, -1, 1, v) && b.split(16 - s, -1, 2, v))
      b.add("zero: 2^16 - 2^16 - 2^" + std::to_string(16 - s), v, 0.0);
  }
  for (const int exponent : {-149, -126, -24, -14})
    b.add("zero: 1 - 1, c = -2^" + std::to_string(exponent), {{0, 1, 1}, {1, -1, 1}}, -std::ldexp(1.0, exponent));
  for (const int exponent : {-30, -150, -200, -260})
    for (const double sign : {1.0, -1.0}) {
      std::vector<Builder::Value> v;
      if (b.split(exponent, sign, 0, v))
        b.add("zero: product " + std::string(sign < 0 ? "-" : "") + power(exponent), v, 0.0);
    }
}

void overflow(Builder& b) {
  using V = std::vector<Builder::Value>;
  const auto sum = [&](const std::string& name, const std::vector<int>& exponents, double c, double sign) {
    V v;
    for (const int e : exponents)
      if (!b.split(e, sign, static_cast<int>(v.size()), v)) return;
    b.add(name, v, sign * c);
  };
  const double most = static_cast<double>(float_of(0x7f7fffffu));
  for (const double sign : {1.0, -1.0}) {
    const std::string s = sign < 0 ? " negative" : "";
    if (!fp16_result(b)) {
      b.add("overflow: c = FLT_MAX alone" + s, {}, sign * most);
      for (const int e : {0, 14, 30, 102, 103, 104, 105, 120, 127, 200, 250})
        sum("overflow: FLT_MAX + 2^" + std::to_string(e) + s, {e}, most, sign);
      for (const int e : {103, 104, 127, 128, 140, 254})
        sum("overflow: product 2^" + std::to_string(e) + s, {e}, 0, sign);
      sum("overflow: 2^127 + 2^127" + s, {127, 127}, 0, sign);
      sum("overflow: 2^127 + 2^126 + 2^125" + s, {127, 126, 125}, 0, sign);
      for (const int e : {128, 200}) {
        V v;
        if (b.split(e, sign, 0, v) && b.split(e, -sign, 1, v) && b.split(3, sign, 2, v))
          b.add("overflow: 2^e - 2^e + 8, e = " + std::to_string(e) + s, v, 0);
        V w;
        if (b.split(e, sign, 0, w) && b.split(e - 1, -sign, 1, w))
          b.add("overflow: 2^e - 2^(e-1), e = " + std::to_string(e) + s, w, 0);
      }
    } else {
      b.add("overflow: c = 65504 alone" + s, {}, sign * 65504);
      for (const int e : {2, 3, 4, 5, 10, 15, 16})
        sum("overflow: 65504 + 2^" + std::to_string(e) + s, {e}, 65504, sign);
      b.add("overflow: 65504 + 15" + s, {{0, sign * 7.5, 2}}, sign * 65504);
      for (const int e : {15, 16, 17, 30}) sum("overflow: product 2^" + std::to_string(e) + s, {e}, 0, sign);
      V v;
      if (b.split(16, sign, 0, v) && b.split(8, -sign, 1, v)) b.add("overflow: 2^16 - 2^8" + s, v, 0);
      sum("overflow: 2^15 + 2^15" + s, {15, 15}, 0, sign);
      sum("overflow: 2^15 + 2^14 + ... + 2^5" + s, {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5}, 0, sign);
      sum("overflow: 2^15 + 2^14 + ... + 2^4" + s, {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4}, 0, sign);
      V w;
      if (b.split(16, sign, 0, w)) {
        w.push_back({b.i_.k, -sign * 16, 16});
        b.add("overflow: 2^16, then -2^8 in the next instruction" + s, w, 0, 2);
      }
    }
  }
}

void subnormals(Builder& b) {
  const std::vector<int> exponents = fp16_result(b) ? std::vector<int>{-14, -15, -18, -23, -24, -25, -26, -27, -30}
                                                    : std::vector<int>{-126, -127, -130, -148, -149, -150, -151, -152};
  const int lowest = fp16_result(b) ? -24 : -149;
  for (const double sign : {1.0, -1.0}) {
    const std::string s = sign < 0 ? " negative" : "";
    for (const int e : exponents)
      for (const int extra : {0, -1}) {
        std::vector<Builder::Value> v;
        if (!b.split(e, sign, 0, v)) continue;
        if (extra != 0 && !b.split(e - 1, sign, 1, v)) continue;
        b.add("subnormal: " + std::string(extra != 0 ? "1.5 * " : "") + power(e) + s, v, 0);
        b.add("subnormal: c = 3 steps, product " + std::string(extra != 0 ? "1.5 * " : "") + power(e) + s, v,
              sign * std::ldexp(3.0, lowest));
      }
    for (const int e : {lowest, lowest + 1, lowest + 9}) {
      b.add("subnormal: c alone " + power(e) + s, {}, sign * std::ldexp(1.0, e));
      b.add("subnormal: c alone 1.5 * " + power(e + 1) + s, {}, sign * std::ldexp(1.5, e + 1));
      b.add("subnormal: c = " + power(e) + ", product 1" + s, {{0, 1, 1}}, sign * std::ldexp(1.0, e));
    }
  }
  // Which exponent zero terms count with: tiny terms whose sum crosses one step of the subnormal grid only if none is
  // cut.
  if (!fp16_result(b)) {
    const auto crossing = [&](double first, int first_exponent, int s) {
      std::vector<Builder::Value> v = {{0, std::ldexp(first, first_exponent + 80), std::ldexp(1.0, -80)}};
      for (int k = 1; k < b.i_.k; ++k)
        if (!b.split(-s, 1, k, v)) return;
      b.add("zero exponent: " + std::to_string(static_cast<int>(first)) + " * " + power(first_exponent) +
                " and the others 2^-" + std::to_string(s),
            v, 0);
    };
    for (int s = 150; s <= 157; ++s) crossing(15, -153, s);
    for (int s = 155; s <= 162; ++s) crossing(255, -157, s);
  } else {
    for (int s = 26; s <= 48; ++s) {
      std::vector<Builder::Value> v;
      if (b.split(-25, 1, 0, v) && b.split(-s, 1, 1, v)) b.add("zero exponent: 2^-25 + 2^-" + std::to_string(s), v, 0);
    }
  }
}

void alignment(Builder& b) {
  for (int s = 10; s <= 28; ++s) {
    std::vector<Builder::Value> pair, small;
    if (!b.split(16, 1, 0, pair) || !b.split(16, -1, 1, pair) || !b.split(16 - s, 1, 2, small)) continue;
    std::vector<Builder::Value> three = pair;
    three.push_back(small[0]);
    if (b.i_.k > 2) b.add("alignment: 2^16 - 2^16 + 2^(16-s), s = " + std::to_string(s), three, 0);
    b.add("alignment: 2^16 - 2^16, c = 2^(16-s), s = " + std::to_string(s), pair, std::ldexp(1.0, 16 - s));
    std::vector<Builder::Value> at_next = pair;
    at_next.push_back({b.i_.k, small[0].a, small[0].b});
    b.add("alignment: 2^16 - 2^16, next instruction 2^(16-s), s = " + std::to_string(s), at_next, 0, 2);
    std::vector<Builder::Value> beside;
    if (b.split(-s, 1, 0, beside)) {
      b.add("alignment: c = 1, product 2^-s, s = " + std::to_string(s), beside, 1.0);
      b.add("alignment: c = -1, product 2^-s, s = " + std::to_string(s), beside, -1.0);
    }
    b.add("alignment: product 1, c = 2^-s, s = " + std::to_string(s), {{0, 1, 1}}, std::ldexp(1.0, -s));
  }
  for (const int s : {16, 27})
    for (int k = 2; k < b.i_.k; ++k) {
      std::vector<Builder::Value> v;
      if (b.split(16, 1, 0, v) && b.split(16, -1, 1, v) && b.split(16 - s, 1, k, v))
        b.add("terms: 2^16 at 0, -2^16 at 1, 2^(16-" + std::to_string(s) + ") at " + std::to_string(k), v, 0);
    }
  if (fp16_result(b)) return;
  for (const std::uint32_t c :
       {0x3fffffffu, 0xbfffffffu, 0x3f800001u, 0x3f800400u, 0x3f800200u, 0x3f8003ffu, 0x3f8007ffu, 0x4b7fffffu}) {
    b.add_bits("significand of c: alone", {}, c);
    b.add_bits("significand of c: product 2^-14", {{0, std::ldexp(1.0, -7), std::ldexp(1.0, -7)}}, c);
    b.add_bits("significand of c: product 1", {{0, 1, 1}}, c);
  }
}

void low_bits_of_tf32(Builder& b) {
  if (b.i_.a != FormatId::tf32) return;
  const std::uint32_t one = 0x3f800000u;
  for (const std::uint32_t x : {0x3f801fffu, 0x3f801000u, 0x3f801001u, 0x3f803000u, 0x3f802000u, 0xbf801fffu,
                                0x00001fffu, 0x00000001u, 0x7f7fffffu}) {
    b.add_codes("tf32 low bits of a", {{0, x, one}}, 0);
    b.add_codes("tf32 low bits of b", {{0, one, x}}, 0);
  }
}

}  // namespace

std::uint32_t code_of(FormatId format, double value) {
  return encoded(format, static_cast<float>(value));
}

std::vector<NamedCode> special_codes(FormatId id) {
  const ElementFormat format = format_of(id);
  const bool tf32 = id == FormatId::tf32;
  const int shift = tf32 ? 13 : 0;
  const std::uint32_t sign = sign_mask(format) << shift;
  std::vector<NamedCode> codes;
  const auto both = [&](const std::string& name, std::uint32_t code) {
    codes.push_back({name, code});
    codes.push_back({"-" + name, code | sign});
  };
  both("0", 0);
  both("1", code_of(id, 1));
  both("largest", largest_code(format) << shift);
  both("smallest", 1u << shift);
  if (format.infinity != Infinity::none) both("inf", infinity_code(format) << shift);
  if (format.nan == NanCodes::all_ones) {
    both("nan", magnitude_mask(format));
  } else {
    const std::uint32_t inf = infinity_code(format);
    both("signaling nan", (inf + 1) << shift);
    both("quiet nan", (inf | (1u << (format.mantissa_bits - 1))) << shift);
    both("nan of ones", magnitude_mask(format) << shift | (tf32 ? 0x1fffu : 0u));
    if (tf32) both("nan in the low bits", kInfinityBits | 1u);
  }
  return codes;
}

std::vector<Probe> probes_of(const cuda::Instruction& instruction) {
  Builder b(instruction);
  special_values(b);
  zeros(b);
  overflow(b);
  subnormals(b);
  alignment(b);
  low_bits_of_tf32(b);
  return b.all;
}

}  // namespace ng_silicon
