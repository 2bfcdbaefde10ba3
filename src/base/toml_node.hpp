// SPDX-License-Identifier: Apache-2.0
//
// Our own tree of a TOML text: values with their places and marks of what was read. Keeps toml++ out of the reader.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "narrowgauge/base/toml_reader.hpp"

namespace ng {

struct TomlNode {
  using Items = std::vector<std::shared_ptr<TomlNode>>;
  using Members = std::vector<std::pair<std::string, std::shared_ptr<TomlNode>>>;

  TomlKind kind = TomlKind::table;
  std::string place;                                            // "file:line:column" of the key, or of the value
  std::variant<std::monostate, std::string, std::int64_t, double, bool> value;
  Items items;                                                  // array
  Members members;                                              // table, in the order of the file
  bool read = false;                                            // somebody asked for it
  std::vector<std::string> asked;                               // table: every key asked for, once, in order

  [[nodiscard]] std::shared_ptr<TomlNode> find(std::string_view key) const;
};

/// Parses a text. UserError "name:line:column: ..." on bad syntax.
[[nodiscard]] std::shared_ptr<TomlNode> parse_toml(std::string_view name, std::string_view text);

/// Parses one value; every place in it is `origin`. nullptr when `text` is no TOML value.
[[nodiscard]] std::shared_ptr<TomlNode> parse_toml_value(std::string_view origin, std::string_view text);

/// "a string", "an integer", ...
[[nodiscard]] std::string_view article_of(TomlKind kind);

}  // namespace ng
