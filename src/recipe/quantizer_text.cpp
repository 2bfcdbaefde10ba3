// SPDX-License-Identifier: Apache-2.0
//
// Text and JSON of a quantizer. One row of kKeys per choice: how it is read, how it is printed, what the help says.
#include "narrowgauge/recipe/quantizer_text.hpp"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recipe/enum_names.hpp"

namespace ng {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end == std::string_view::npos ? end : end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || last != end || text.empty()) return std::nullopt;
  return value;
}

float positive_float(std::string_view key, std::string_view text) {
  const std::optional<float> value = number<float>(text);
  if (!value || !(*value >= 0.0f) || *value > std::numeric_limits<float>::max())
    throw UserError(fmt::format("{}={} is not a number of at least 0, for example {}=1e-10", key, text, key));
  return *value;
}

void set_element(QuantizerSpec& spec, std::string_view text) {
  const std::optional<FormatId> id = find_format(text);
  if (!id) throw_unknown_name("element", text, element_format_names());
  spec.element_id = *id;
  spec.element = format_of(*id);
}

void set_tile(QuantizerSpec& spec, std::string_view text) {
  const std::vector<std::string> parts = split(text, 'x');
  const auto extent = [&](std::size_t i) -> std::optional<std::int32_t> {
    const std::optional<std::int32_t> value = number<std::int32_t>(parts[i]);
    return value && *value >= 0 && *value <= 65536 ? value : std::nullopt;
  };
  if (parts.size() != 2 || !extent(0) || !extent(1))
    throw UserError(
        fmt::format("tile={} is not ROWSxCOLS with extents 0 (whole) to 65536, for example tile=1x32", text));
  spec.tile_rows = *extent(0);
  spec.tile_cols = *extent(1);
}

void set_rule(QuantizerSpec& spec, std::string_view text) {
  const std::vector<std::string> parts = split(text, ':');
  const ScaleRule rule = parse_enum<ScaleRule>("rule", parts[0]);
  if (rule == ScaleRule::four_over_six) {
    const std::string_view valid =
        "four_over_six:ERROR:E4M3_MAX with ERROR mae or mse, for example four_over_six:mae:448";
    if (parts.size() != 3) throw UserError(fmt::format("rule={} lacks arguments: {}", text, valid));
    spec.four_over_six_error = parse_enum<FourOverSixError>("error of rule four_over_six", parts[1]);
    const std::optional<float> largest = number<float>(parts[2]);
    if (!largest || !(*largest > 0.0f) || *largest > 448.0f)
      throw UserError(fmt::format("rule={}: E4M3_MAX lies above 0 and at most at 448: {}", text, valid));
    spec.four_over_six_e4m3_max = *largest;
  } else if (parts.size() != 1) {
    throw UserError(fmt::format("rule={}: only four_over_six takes arguments", text));
  } else {
    spec.four_over_six_error = FourOverSixError::mae;
    spec.four_over_six_e4m3_max = 448.0f;
  }
  spec.rule = rule;
}

std::string rule_text(const QuantizerSpec& spec) {
  if (spec.rule != ScaleRule::four_over_six) return std::string(name_of(spec.rule));
  return fmt::format("four_over_six:{}:{}", name_of(spec.four_over_six_error), spec.four_over_six_e4m3_max);
}

void set_rounding(QuantizerSpec& spec, std::string_view text) {
  const std::vector<std::string> parts = split(text, ':');
  const Rounding rounding = parse_enum<Rounding>("rounding", parts[0]);
  std::uint8_t bits = 0;
  if (rounding == Rounding::stochastic) {
    const std::optional<int> wanted = parts.size() == 2 ? number<int>(parts[1]) : std::nullopt;
    if (!wanted || (*wanted != 8 && *wanted != 16 && *wanted != 32))
      throw UserError(
          fmt::format("rounding={}: name the bits of a draw: stochastic:8, stochastic:16 or stochastic:32", text));
    bits = static_cast<std::uint8_t>(*wanted);
  } else if (parts.size() != 1) {
    throw UserError(fmt::format("rounding={}: only stochastic takes an argument", text));
  }
  spec.cast.rounding = rounding;
  spec.cast.random_bits = bits;
}

std::string rounding_text(const QuantizerSpec& spec) {
  if (spec.cast.rounding != Rounding::stochastic) return std::string(name_of(spec.cast.rounding));
  return fmt::format("stochastic:{}", spec.cast.random_bits);
}

void set_infinite_scale(QuantizerSpec& spec, std::string_view text) {
  if (text == "0xFF" || text == "0xff") {
    spec.infinite_scale_code = 0xff;
  } else if (text == "0xFE" || text == "0xfe") {
    spec.infinite_scale_code = 0xfe;
  } else {
    throw UserError(
        fmt::format("inf_scale={} is unknown; valid: 0xFF (the block is NaN), 0xFE (Transformer Engine)", text));
  }
}

void set_outlier(QuantizerSpec& spec, std::string_view text) {
  spec.outlier = OutlierSpec{};
  if (text == "none") return;
  const std::vector<std::string> parts = split(text, ':');
  const std::optional<double> quantile = number<double>(parts[0]);
  if (parts.size() < 2 || parts.size() > 3 || !quantile || !(*quantile > 0.5) || !(*quantile < 1.0))
    throw UserError(
        fmt::format("outlier={} is not QUANTILE:SCOPE[:RESIDUAL] with a quantile above 0.5 and below 1, for example "
                    "outlier=0.99:row",
                    text));
  spec.outlier.quantile = *quantile;
  spec.outlier.scope = parse_enum<OutlierScope>("outlier scope", parts[1]);
  if (parts.size() == 3) spec.outlier.residual = parse_enum<OutlierResidual>("outlier residual", parts[2]);
}

std::string outlier_text(const QuantizerSpec& spec) {
  const OutlierSpec& outlier = spec.outlier;
  if (outlier.quantile == 0.0) return "none";
  std::string text = fmt::format("{}:{}", outlier.quantile, name_of(outlier.scope));
  if (outlier.residual != OutlierSpec{}.residual) text += fmt::format(":{}", name_of(outlier.residual));
  return text;
}

template <NamedEnum E>
std::string joined() {
  return fmt::format("{}", fmt::join(names_of<E>(), "|"));
}

struct KeyRow {
  std::string name;
  void (*set)(QuantizerSpec&, std::string_view);
  std::string (*text)(const QuantizerSpec&);
  std::string values;
  std::string meaning;
};

// A choice that is one enum field.
#define NG_ENUM_KEY(key, type, field, meaning)                                                        \
  KeyRow {                                                                                            \
    key, [](QuantizerSpec& s, std::string_view t) { s.field = parse_enum<type>(key, t); },            \
        [](const QuantizerSpec& s) { return std::string(name_of(s.field)); }, joined<type>(), meaning \
  }

const std::vector<KeyRow>& key_rows() {
  static const std::vector<KeyRow> rows = {
      {"element", set_element, [](const QuantizerSpec& s) { return std::string(name_of(s.element_id)); },
       fmt::format("{}", fmt::join(element_format_names(), "|")), "number format of an element"},
      {"tile", set_tile, tile_text, "ROWSxCOLS",
       "elements that share a scale, columns along the contraction axis; 0 = whole extent"},
      NG_ENUM_KEY("scale", ScaleFormat, scale_format, "format of a tile's scale"),
      {"rule", set_rule, rule_text, joined<ScaleRule>(), "how a scale follows from amax; four_over_six:mae:448"},
      {"rounding", set_rounding, rounding_text, joined<Rounding>(),
       "how an element is rounded; stochastic:8, :16 or :32 bits"},
      NG_ENUM_KEY("overflow", Overflow, cast.overflow, "what a magnitude above the largest becomes"),
      NG_ENUM_KEY("nan", NanChoice, cast.nan, "what NaN becomes"),
      NG_ENUM_KEY("zero_sign", ZeroSign, cast.zero_sign, "sign of a zero result"),
      NG_ENUM_KEY("application", ScaleApplication, application, "multiply by the encode factor or divide by the scale"),
      {"floor", [](QuantizerSpec& s, std::string_view t) { s.amax_floor = positive_float("floor", t); },
       [](const QuantizerSpec& s) { return fmt::format("{}", s.amax_floor); }, "NUMBER", "absmax rules: least amax"},
      {"inf_scale", set_infinite_scale,
       [](const QuantizerSpec& s) { return fmt::format("0x{:02X}", s.infinite_scale_code); }, "0xFF|0xFE",
       "e8m0 byte of a tile whose amax is not finite"},
      NG_ENUM_KEY("tensor_scope", TensorScope, tensor_scope, "experts: a tensor scale each, or one for all"),
      {"hadamard", [](QuantizerSpec& s, std::string_view t) { s.hadamard = parse_hadamard(t); },
       [](const QuantizerSpec& s) { return to_text(s.hadamard); }, "SIZE:SIGNS:RESULT",
       "transform before quantizing, for example 16:te_fixed:bf16"},
      {"outlier", set_outlier, outlier_text, "QUANTILE:SCOPE[:RESIDUAL]",
       "clamp what lies beyond quantiles, keep the rest sparse; 0.99:row, 0.999:tensor:e4m3, 0.99:row:none"},
      NG_ENUM_KEY("decode", DecodeOrder, decode,
                  "order of the products of a decoded value: code * scale first, or (te) scale * tensor amax first"),
  };
  return rows;
}

#undef NG_ENUM_KEY

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const KeyRow& row : key_rows()) names.push_back(row.name);
  return names;
}

// A bare element as text: NaN is an error where the format has none, so that none is lost in silence.
QuantizerSpec bare_element(FormatId id) {
  QuantizerSpec spec = bare_cast(id);
  if (spec.element.nan == NanCodes::none) spec.cast.nan = NanChoice::error;
  return spec;
}

QuantizerSpec parse_head(const std::string& head, const QuantizerLookup& lookup) {
  if (const std::size_t hash = head.find('#'); hash != std::string::npos) {
    if (!lookup) throw UserError(fmt::format("'{}': quantizers of a recipe file cannot be named here", head));
    return lookup(head.substr(0, hash), head.substr(hash + 1));
  }
  for (const NamedQuantizer& preset : quantizer_presets())
    if (preset.name == head) return preset.spec;
  if (const std::optional<FormatId> id = find_format(head)) return bare_element(*id);
  std::vector<std::string> valid = preset_names();
  for (std::string& name : element_format_names()) valid.push_back(std::move(name));
  if (head.find('=') != std::string::npos)
    throw UserError(
        fmt::format("begins with '{}'; the first part is a preset, an element format or FILE.toml#QUANTIZER; {}", head,
                    suggestion(head.substr(0, head.find('=')), valid)));
  throw_unknown_name("preset or element", head, valid);
}

}  // namespace

const std::vector<QuantizerKey>& quantizer_keys() {
  static const std::vector<QuantizerKey> keys = [] {
    std::vector<QuantizerKey> all;
    for (const KeyRow& row : key_rows()) all.push_back({row.name, row.values, row.meaning});
    return all;
  }();
  return keys;
}

std::string tile_text(const QuantizerSpec& spec) {
  return fmt::format("{}x{}", spec.tile_rows, spec.tile_cols);
}

HadamardSpec parse_hadamard(std::string_view text) {
  HadamardSpec spec;
  if (text == "none") return spec;
  const std::vector<std::string> parts = split(text, ':');
  const std::optional<int> size = number<int>(parts[0]);
  if (parts.size() < 3 || parts.size() > 4 || !size || *size < 1 || *size > kLargestHadamard)
    throw UserError(fmt::format("hadamard={} is not SIZE:SIGNS:RESULT, for example hadamard=16:te_fixed:bf16", text));
  spec.size = static_cast<std::int16_t>(*size);
  spec.signs = parse_enum<HadamardSigns>("hadamard signs", parts[1]);
  spec.result = parse_enum<HadamardResult>("hadamard result", parts[2]);
  if (parts.size() == 4) spec.order = parse_enum<HadamardOrder>("hadamard order", parts[3]);
  check_hadamard(spec);
  return spec;
}

std::string to_text(const HadamardSpec& spec) {
  if (spec.size == 0) return "none";
  std::string text = fmt::format("{}:{}:{}", spec.size, name_of(spec.signs), name_of(spec.result));
  if (spec.order != HadamardSpec{}.order) text += fmt::format(":{}", name_of(spec.order));
  return text;
}

void set_choice(QuantizerSpec& spec, std::string_view key, std::string_view value) {
  for (const KeyRow& row : key_rows())
    if (row.name == key) return row.set(spec, value);
  throw_unknown_name("key", key, key_names());
}

QuantizerSpec parse_quantizer(std::string_view text, const QuantizerLookup& lookup) {
  try {
    const std::vector<std::string> parts = split(text, ',');
    QuantizerSpec spec = parse_head(parts[0], lookup);
    std::vector<std::string> given;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const std::size_t equals = parts[i].find('=');
      if (equals == std::string::npos)
        throw UserError(fmt::format("'{}' is not key=value; {}", parts[i], suggestion(parts[i], key_names())));
      const std::string key = parts[i].substr(0, equals);
      for (const std::string& before : given)
        if (before == key) throw UserError(fmt::format("key '{}' is given twice", key));
      given.push_back(key);
      set_choice(spec, key, std::string_view(parts[i]).substr(equals + 1));
    }
    check_quantizer(spec);
    return spec;
  } catch (const UserError& error) {
    throw UserError(fmt::format("quantizer '{}': {}", text, error.what()));
  }
}

std::string to_text(const QuantizerSpec& spec) {
  const auto changes = [&](const QuantizerSpec& base) {
    std::vector<std::string> list;
    for (const KeyRow& row : key_rows())
      if (row.text(spec) != row.text(base)) list.push_back(row.name + "=" + row.text(spec));
    return list;
  };
  std::string head = name_of(spec.element_id);
  std::vector<std::string> fewest = changes(bare_element(spec.element_id));
  if (spec.scale_format != ScaleFormat::none) {
    for (const NamedQuantizer& preset : quantizer_presets()) {
      std::vector<std::string> list = changes(preset.spec);
      if (list.size() < fewest.size()) {
        head = preset.name;
        fewest = std::move(list);
      }
    }
  }
  for (const std::string& change : fewest) head += "," + change;
  return head;
}

Json to_json(const QuantizerSpec& spec) {
  Json json = Json::object();
  for (const KeyRow& row : key_rows()) json[row.name] = row.text(spec);
  return json;
}

QuantizerSpec quantizer_from_json(const Json& json, std::string_view name) {
  try {
    if (!json.is_object()) throw UserError("is not a JSON object");
    QuantizerSpec spec;
    for (const auto& [key, value] : json.as_object()) {
      if (!value.is_string()) throw UserError(fmt::format("key '{}' is not a string", key));
      set_choice(spec, key, value.as_string());
    }
    for (const KeyRow& row : key_rows())
      if (json.find(row.name) == nullptr) throw UserError(fmt::format("key '{}' is missing", row.name));
    check_quantizer(spec);
    return spec;
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: quantizer: {}", name, error.what()));
  }
}

}  // namespace ng
