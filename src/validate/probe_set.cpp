// SPDX-License-Identifier: Apache-2.0
//
// accumulator_fit.hpp: the operands. Each kind of probe places a few powers of two; what a format cannot hold is left
// out. Random rows at the end catch what no kind asked for.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "narrowgauge/validate/accumulator_fit.hpp"
#include "narrowgauge/validate/product_spec.hpp"
#include "narrowgauge/validate/reference_product.hpp"

namespace ng::validate {
namespace {

constexpr std::int64_t kDepth = 1024;
constexpr int kRandomRows = 48;

bool holds(FormatId format, double value) {
  const float narrow = static_cast<float>(value);
  return static_cast<double>(narrow) == value &&
         static_cast<double>(decode(format_of(format), encode(format_of(format), CastChoices{}, narrow))) == value;
}

/// sign * 2^exponent at k.
struct Place {
  std::int64_t k;
  int exponent;
  int sign = 1;
};

class Maker {
 public:
  explicit Maker(const ProbeTypes& types) {
    set.types = types;
    set.k = kDepth;
    group_ = types.scales == OperandScales::none ? 0 : block_scale_k(types.scales);
  }

  /// Appends a row, unless a format cannot hold it.
  void add(const std::string& name, const std::vector<Place>& places) {
    std::vector<float> a(kDepth, 0.0f), b(kDepth, 0.0f);
    const std::size_t groups = group_ == 0 ? 0 : static_cast<std::size_t>(kDepth / group_);
    std::vector<float> sa(groups, 1.0f), sb(groups, 1.0f);
    std::vector<bool> scaled(groups, false);
    for (const Place& p : places) {
      int exponent = p.exponent;
      if (group_ != 0) {  // the first number of a group sets its scales
        const auto g = static_cast<std::size_t>(p.k / group_);
        const FormatId scale = block_scale_format(set.types.scales);
        if (!scaled[g]) {
          scaled[g] = true;
          // Elements of E2M1 add 2^-2 to 2^4, so scales do most of it.
          const int wanted = element_is_tiny() ? std::clamp(exponent, -18, 16) : 0;
          sa[g] = std::ldexp(1.0f, wanted / 2), sb[g] = std::ldexp(1.0f, wanted - wanted / 2);
          if (scale != FormatId::e8m0 && (!holds(scale, sa[g]) || !holds(scale, sb[g]))) return;
        }
        exponent -= std::ilogb(sa[g]) + std::ilogb(sb[g]);
      }
      if (!split(exponent, p.sign, a[static_cast<std::size_t>(p.k)], b[static_cast<std::size_t>(p.k)])) return;
    }
    append(name, a, b, sa, sb);
  }

  void random_rows() {
    std::uint64_t state = 0x9E3779B97F4A7C15ull;
    const auto next = [&] {
      std::uint64_t z = state += 0x9E3779B97F4A7C15ull;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
      return z ^ (z >> 31);
    };
    const auto number = [&](FormatId format, int spread) {
      const double value = (static_cast<double>(next() >> 11) * 0x1p-52 - 1.0) *
                           std::ldexp(1.0, static_cast<int>(next() % 16) % spread - spread / 2);
      return decode(format_of(format), encode(format_of(format), CastChoices{}, static_cast<float>(value)));
    };
    for (int row = 0; row < kRandomRows; ++row) {
      const int spread = row % 2 == 0 ? 2 : 8;
      std::vector<float> a(kDepth), b(kDepth);
      for (float& x : a) x = number(set.types.a, spread);
      for (float& x : b) x = number(set.types.b, spread);
      if (row % 3 == 0)  // sums that cancel
        for (std::size_t k = 1; k < a.size(); k += 2) a[k] = a[k - 1], b[k] = next() % 4 == 0 ? b[k] : -b[k - 1];
      const std::size_t groups = group_ == 0 ? 0 : static_cast<std::size_t>(kDepth / group_);
      std::vector<float> sa(groups), sb(groups);
      for (float& s : sa) s = std::ldexp(1.0f, static_cast<int>(next() % 5) - 2);
      for (float& s : sb) s = std::ldexp(1.0f, static_cast<int>(next() % 5) - 2);
      append(fmt::format("random row {}", row), a, b, sa, sb);
    }
  }

  void pad() {
    while (set.names.size() % 16 != 0)
      append("nothing", std::vector<float>(kDepth, 0.0f), std::vector<float>(kDepth, 0.0f),
             std::vector<float>(set.scale_a.size() / set.names.size(), 1.0f),
             std::vector<float>(set.scale_b.size() / set.names.size(), 1.0f));
    set.count = static_cast<std::int64_t>(set.names.size());
  }

  ProbeSet set;

 private:
  bool element_is_tiny() const { return set.types.a == FormatId::e2m1 || set.types.b == FormatId::e2m1; }

  bool split(int exponent, int sign, float& a, float& b) const {
    for (int away = 0; away <= 300; ++away)
      for (const int first : {exponent / 2 + away, exponent / 2 - away}) {
        const double x = std::ldexp(static_cast<double>(sign), first), y = std::ldexp(1.0, exponent - first);
        if (!holds(set.types.a, x) || !holds(set.types.b, y)) continue;
        a = static_cast<float>(x), b = static_cast<float>(y);
        return true;
      }
    return false;
  }

  void append(const std::string& name, const std::vector<float>& a, const std::vector<float>& b,
              const std::vector<float>& sa, const std::vector<float>& sb) {
    set.names.push_back(name);
    set.a.insert(set.a.end(), a.begin(), a.end());
    set.b.insert(set.b.end(), b.begin(), b.end());
    set.scale_a.insert(set.scale_a.end(), sa.begin(), sa.end());
    set.scale_b.insert(set.scale_b.end(), sb.begin(), sb.end());
  }

  std::int64_t group_ = 0;
};

}  // namespace

ProbeTypes probe_types(const std::string& types, const std::string& scales, const std::string& output) {
  ProbeTypes result;
  const std::size_t comma = types.find(',');
  std::vector<std::string> names;
  for (const NamedFormat& f : format_catalog()) names.emplace_back(f.name);
  const auto format = [&](const std::string& name) {
    const std::optional<FormatId> id = find_format(name);
    if (!id) throw UserError(fmt::format("--types: format '{}' is unknown; {}", name, suggestion(name, names)));
    return *id;
  };
  result.a = format(types.substr(0, comma));
  result.b = comma == std::string::npos ? result.a : format(types.substr(comma + 1));
  if (scales == "e8m0") result.scales = OperandScales::e8m0_per_32;
  if (scales == "e4m3") result.scales = OperandScales::e4m3_per_16;
  result.output = parse_enum<ProductOutput>("output type", output);
  bool known = result.a == FormatId::fp32 && result.b == FormatId::fp32 && result.scales == OperandScales::none;
  for (const AccumulatorRow& row : accumulator_catalog())
    known = known || is_of_types(row.types, result.a, result.b, result.scales);
  if (!known)
    throw UserError(fmt::format("--types {}: no tensor core multiplies {} and {}{}", types, name_of(result.a),
                                name_of(result.b),
                                scales == "none" || scales.empty() ? "" : " with " + scales + " scales"));
  return result;
}

ProbeSet make_probes(const ProbeTypes& types) {
  Maker maker(types);
  const int top = types.output == ProductOutput::f16 ? 8 : 16;
  // Positions: within one step of every machine; where exponents come from block scales, in different blocks.
  const bool far = types.a == FormatId::e2m1 || types.b == FormatId::e2m1;
  const std::int64_t second = far ? 16 : 1;
  const auto power = [](int e) { return fmt::format("2^{}", e); };
  // Fraction bits: two products cancel, a third is left if the grid holds it.
  for (const std::int64_t third : far ? std::vector<std::int64_t>{32, 48} : std::vector<std::int64_t>{1 + second, 4})
    for (int s = 6; s <= 44; ++s)
      maker.add(fmt::format("{} - {} + {} at k = {}", power(top), power(top), power(top - s), third),
                {{0, top}, {second, top, -1}, {third, top - s}});
  // Terms of a step, and which k share it: the smallest product at every k.
  for (std::int64_t k = far ? 32 : 2; k <= 72; ++k)
    for (const int s : {38, 36, 34, 32, 30, 28, 27, 24}) {
      const std::size_t before = maker.set.names.size();
      maker.add(fmt::format("{} - {} + {} at k = {}", power(top), power(top), power(top - s), k),
                {{0, top}, {second, top, -1}, {k, top - s}});
      if (maker.set.names.size() != before) break;
    }
  // From here on around 2^base, so that every format reaches 25 bits below it.
  const int base = far ? 14 : 8;
  const auto around = [base](int exponent) { return base + exponent; };
  // Significand and rounding of results; within a step, then with the accumulator in the next instruction.
  for (const std::int64_t k : far ? std::vector<std::int64_t>{32, 96} : std::vector<std::int64_t>{second, 80})
    for (int s = 1; s <= 30; ++s)
      for (const int sign : {1, -1}) {
        const std::int64_t beside = far ? 16 : 1;
        const char* const plus = sign < 0 ? "-" : "+";
        const std::string unit = power(base);
        maker.add(fmt::format("{0} (1 {1} {2} at k = {3})", unit, plus, power(-s), k),
                  {{0, around(0)}, {k, around(-s), sign}});
        maker.add(fmt::format("{0} (1 {1} 1.5 * {2} at k = {3})", unit, plus, power(-s), k),
                  {{0, around(0)}, {k, around(-s), sign}, {k + beside, around(-s - 1), sign}});
        if (s > 2)
          maker.add(fmt::format("{0} (-1 - {1} {2} {3} at k = {4})", unit, power(1 - s), plus, power(-s), k),
                    {{0, around(0), -1}, {k, around(1 - s), -1}, {k + beside, around(-s), sign}});
      }
  // FP16 accumulators lose below their subnormals what 11 bits keep.
  maker.add("2^-16, four times 2^-25", {{0, -16}, {1, -25}, {80, -25}, {160, -25}, {240, -25}});
  // Where chains end: a product that a chain loses and an FP32 sum keeps, or rounds otherwise.
  for (std::int64_t k = 32; k < kDepth - 32; k += 16) {
    const std::int64_t beside = far ? 16 : 1;
    const std::string at = fmt::format("at k = {}, from {}", k, power(base));
    maker.add("2^-15 " + at, {{0, around(0)}, {k, around(-15)}});
    maker.add("2^-15 " + at + ", -1 at the end", {{0, around(0)}, {k, around(-15)}, {kDepth - 1, around(0), -1}});
    maker.add("1.5 * 2^-24 " + at, {{0, around(0)}, {k, around(-24)}, {k + beside, around(-25)}});
    maker.add("1.5 * 2^-24 " + at + ", -1 at the end",
              {{0, around(0)}, {k, around(-24)}, {k + beside, around(-25)}, {kDepth - 1, around(0), -1}});
    maker.add("2^-12 " + at + " and 16 later", {{0, around(0)}, {k, around(-12)}, {k + 16, around(-12)}});
  }
  maker.random_rows();
  maker.pad();
  return maker.set;
}

Array ProbeSet::codes(bool of_b) const {
  const FormatId id = of_b ? types.b : types.a;
  const std::vector<float>& values = of_b ? b : a;
  if (id == FormatId::tf32 || id == FormatId::fp32) return Array::from<float>({count, k}, values);
  const bool wide = bit_count(format_of(id)) > 8;
  std::vector<std::uint8_t> narrow;
  std::vector<std::uint16_t> codes16;
  for (const float value : values) {
    const std::uint32_t code = encode(format_of(id), CastChoices{}, value);
    if (wide)
      codes16.push_back(static_cast<std::uint16_t>(code));
    else
      narrow.push_back(static_cast<std::uint8_t>(code));
  }
  return wide ? Array::from<std::uint16_t>({count, k}, codes16) : Array::from<std::uint8_t>({count, k}, narrow);
}

Array ProbeSet::scale_codes(bool of_b) const {
  const ElementFormat format = format_of(block_scale_format(types.scales));
  const bool e8m0 = types.scales == OperandScales::e8m0_per_32;
  std::vector<std::uint8_t> codes;
  for (const float value : of_b ? scale_b : scale_a)
    codes.push_back(static_cast<std::uint8_t>(e8m0 ? cast_to_e8m0(value) : encode(format, CastChoices{}, value)));
  return Array::from<std::uint8_t>({count, static_cast<std::int64_t>(codes.size()) / count}, codes);
}

}  // namespace ng::validate
