// SPDX-License-Identifier: Apache-2.0
//
// Names that are not of an enum table, and the error for an unknown one.
#include "narrowgauge/recipe/enum_names.hpp"

#include <fmt/format.h>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"

namespace ng {

void throw_unknown_name(std::string_view what, std::string_view name, const std::vector<std::string>& valid) {
  throw UserError(fmt::format("{} '{}' is unknown; {}", what, name, suggestion(name, valid)));
}

std::optional<FormatId> find_format(std::string_view name) {
  for (const NamedFormat& format : format_catalog())
    if (format.name == name) return format.id;
  return std::nullopt;
}

std::vector<std::string> element_format_names() {
  std::vector<std::string> names;
  for (const NamedFormat& format : format_catalog())
    if (format.id != FormatId::e8m0 && bit_count(format.format) <= 16) names.emplace_back(format.name);
  return names;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const NamedQuantizer& preset : quantizer_presets()) names.emplace_back(preset.name);
  return names;
}

}  // namespace ng
