// SPDX-License-Identifier: Apache-2.0
//
// specs.hpp: JSON begins with '{', everything else is text.
#include "narrowgauge/validate/specs.hpp"

#include <fmt/format.h>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng::validate {
namespace {

bool is_json(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{';
}

std::string member(const Json& json, std::string_view key, std::string_view what) {
  const Json* value = json.find(key);
  if (value == nullptr) return "";
  if (!value->is_string()) throw UserError(fmt::format("{}: member '{}' is not a string", what, key));
  return value->as_string();
}

std::string_view without(std::string_view text, std::string_view prefix) {
  return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

}  // namespace

QuantizerSpec quantizer_of(std::string_view spec) {
  if (!is_json(spec)) return parse_quantizer(without(spec, "as="));
  const Json json = Json::parse(spec, "spec");
  if (const std::string text = member(json, "as", "spec"); !text.empty()) return parse_quantizer(text);
  return quantizer_from_json(json, "spec");
}

TransposeSpec transpose_of(std::string_view spec) {
  std::string method, as;
  if (is_json(spec)) {
    const Json json = Json::parse(spec, "spec");
    method = member(json, "method", "spec");
    as = member(json, "as", "spec");
  } else {
    const std::size_t comma = spec.find(',');
    method = without(spec.substr(0, comma), "method=");
    if (comma != std::string_view::npos) {
      const std::string_view rest = spec.substr(comma + 1);
      if (!rest.starts_with("as="))
        throw UserError(fmt::format("transpose spec '{}': after the method only as=QUANTIZER may follow", spec));
      as = without(rest, "as=");
    }
  }
  TransposeSpec result;
  result.via = parse_enum<TransposeVia>("transpose method", method);
  if ((result.via == TransposeVia::requantize) != !as.empty())
    throw UserError(fmt::format("transpose spec '{}': method requantize, and no other, needs as=QUANTIZER", spec));
  if (!as.empty()) result.quantizer = parse_quantizer(as);
  return result;
}

HadamardSpec hadamard_of(std::string_view spec) {
  if (!is_json(spec)) return parse_hadamard(without(spec, "hadamard="));
  return parse_hadamard(member(Json::parse(spec, "spec"), "hadamard", "spec"));
}

}  // namespace ng::validate
