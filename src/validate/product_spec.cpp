// SPDX-License-Identifier: Apache-2.0
//
// product_spec.hpp: one row per key; parsing, printing and the search read the same rows.
#include "narrowgauge/validate/product_spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/numerics/accumulator_catalog.hpp"

namespace ng::validate {
namespace {

struct Row {
  const char* name;
  std::vector<std::string> (*values)();
  void (*set)(ProductSpec&, std::string_view name, std::string_view value);
  std::string (*get)(const ProductSpec&);
};

std::vector<std::string> arithmetics() {
  std::vector<std::string> names;
  for (const AccumulatorRow& row : accumulator_catalog())
    if (std::find(names.begin(), names.end(), row.arithmetic) == names.end()) names.emplace_back(row.arithmetic);
  names.insert(names.end(), {"ieee", "exact"});
  return names;
}
std::vector<std::string> formats() {
  std::vector<std::string> names;
  for (const NamedFormat& format : format_catalog()) names.emplace_back(format.name);
  return names;
}
std::vector<std::string> any_integer() {
  return {};
}

void set_name(std::string& to, const std::vector<std::string>& valid, std::string_view key, std::string_view value) {
  if (std::find(valid.begin(), valid.end(), value) == valid.end())
    throw UserError(fmt::format("product spec: {}={} is unknown; {}", key, value, suggestion(value, valid)));
  to = value;
}
std::int32_t integer(std::string_view key, std::string_view value, std::int32_t least) {
  std::int32_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least || number > 1 << 20)
    throw UserError(fmt::format("product spec: {}={} is no whole number from {} to {}", key, value, least, 1 << 20));
  return number;
}

template <auto kMember>
constexpr auto set_enum = [](ProductSpec& spec, std::string_view key, std::string_view value) {
  using E = std::remove_reference_t<decltype(spec.*kMember)>;
  const std::vector<std::string> valid = names_of<E>();
  std::string known;
  set_name(known, valid, key, value);
  spec.*kMember = parse_enum<E>(key, value);
};
template <auto kMember>
constexpr auto get_enum = [](const ProductSpec& spec) { return std::string(name_of(spec.*kMember)); };
template <auto kMember>
Row enum_row(const char* name) {
  using E = std::remove_cvref_t<decltype(std::declval<ProductSpec&>().*kMember)>;
  return {name, [] { return names_of<E>(); }, set_enum<kMember>, get_enum<kMember>};
}

const std::vector<Row>& rows() {
  using P = ProductSpec;
  static const std::vector<Row> all = {
      {"arithmetic", arithmetics,
       [](P& s, std::string_view key, std::string_view v) { set_name(s.arithmetic, arithmetics(), key, v); },
       [](const P& s) { return s.arithmetic; }},
      {"a_format", formats,
       [](P& s, std::string_view key, std::string_view v) { set_name(s.a_format, formats(), key, v); },
       [](const P& s) { return s.a_format; }},
      {"b_format", formats,
       [](P& s, std::string_view key, std::string_view v) { set_name(s.b_format, formats(), key, v); },
       [](const P& s) { return s.b_format; }},
      enum_row<&P::accumulate>("accumulate"),
      enum_row<&P::accumulator>("accumulator"),
      {"promotion", any_integer,
       [](P& s, std::string_view key, std::string_view v) { s.promotion = integer(key, v, 0); },
       [](const P& s) { return std::to_string(s.promotion); }},
      enum_row<&P::scale_mode>("scale_mode"),
      enum_row<&P::scale_order>("scale_order"),
      enum_row<&P::promotion_add>("promotion_add"),
      {"splits", any_integer, [](P& s, std::string_view key, std::string_view v) { s.splits = integer(key, v, 1); },
       [](const P& s) { return std::to_string(s.splits); }},
      enum_row<&P::carrier>("carrier"),
      enum_row<&P::out_format>("out_format"),
      enum_row<&P::rounding>("rounding"),
  };
  return all;
}

const Row& row_of(std::string_view key) {
  std::string name(key);
  std::replace(name.begin(), name.end(), '-', '_');
  std::vector<std::string> names;
  for (const Row& row : rows()) {
    if (name == row.name) return row;
    names.emplace_back(row.name);
  }
  throw UserError(fmt::format("product spec: unknown key '{}'; {}", key, suggestion(key, names)));
}

}  // namespace

void set_product_key(ProductSpec& spec, std::string_view key, std::string_view value) {
  row_of(key).set(spec, key, value);
}

std::string product_key(const ProductSpec& spec, std::string_view key) {
  return row_of(key).get(spec);
}

const std::vector<ProductKey>& product_keys() {
  static const std::vector<ProductKey> keys = [] {
    std::vector<ProductKey> all;
    for (const Row& row : rows()) all.push_back({row.name, row.values()});
    return all;
  }();
  return keys;
}

ProductSpec product_of(std::string_view spec) {
  ProductSpec product;
  const std::size_t first = spec.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return product;
  if (spec[first] == '{') {
    const Json json = Json::parse(spec, "product spec");
    for (const auto& [key, value] : json.as_object()) {
      if (!value.is_string() && !value.is_integer())
        throw UserError(fmt::format("product spec: member '{}' is neither text nor a whole number", key));
      set_product_key(product, key, value.is_string() ? value.as_string() : std::to_string(value.as_int()));
    }
    return product;
  }
  while (!spec.empty()) {
    const std::size_t comma = spec.find(',');
    const std::string_view item = spec.substr(0, comma);
    const std::size_t equal = item.find('=');
    if (equal == std::string_view::npos)
      throw UserError(
          fmt::format("product spec: '{}' is not key=value (as in arithmetic=hopper,accumulate=fast)", item));
    set_product_key(product, item.substr(0, equal), item.substr(equal + 1));
    spec = comma == std::string_view::npos ? std::string_view() : spec.substr(comma + 1);
  }
  return product;
}

std::string to_text(const ProductSpec& spec) {
  std::string text;
  for (const Row& row : rows()) {
    const std::string value = row.get(spec);
    if (value == row.get(ProductSpec{}) && std::string_view(row.name) != "arithmetic") continue;
    text += (text.empty() ? "" : ",") + std::string(row.name) + "=" + value;
  }
  return text;
}

}  // namespace ng::validate
