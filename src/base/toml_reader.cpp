// SPDX-License-Identifier: Apache-2.0
//
// The strict reader: getters, marks of what was read, messages, overrides.
#include "narrowgauge/base/toml_reader.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "toml_node.hpp"

namespace ng {
namespace {

std::string join(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::string table_name(const std::string& path) {
  return path.empty() ? std::string("the top level") : fmt::format("[{}]", path);
}

void mark(TomlNode& table, std::string_view key) {
  if (std::find(table.asked.begin(), table.asked.end(), key) == table.asked.end()) table.asked.emplace_back(key);
}

std::string value_text(const TomlNode& node) {
  switch (node.kind) {
    case TomlKind::string:
      return fmt::format("\"{}\"", std::get<std::string>(node.value));
    case TomlKind::integer:
      return fmt::format("{}", std::get<std::int64_t>(node.value));
    case TomlKind::real:
      return fmt::format("{}", std::get<double>(node.value));
    case TomlKind::boolean:
      return std::get<bool>(node.value) ? "true" : "false";
    default:
      return std::string(article_of(node.kind));
  }
}

std::string bounds_text(std::int64_t least, std::int64_t most) {
  if (most == TomlTable::kIntMax) return fmt::format("{} or more", least);
  if (least == TomlTable::kIntMin) return fmt::format("{} or less", most);
  return fmt::format("{} to {}", least, most);
}

std::string bounds_text(double least, double most) {
  const bool open_above = most == TomlTable::kDoubleMax;
  const bool open_below = least == -TomlTable::kDoubleMax;
  if (open_above && open_below) return "a finite number";
  if (open_above) return fmt::format("{} or more", least);
  if (open_below) return fmt::format("{} or less", most);
  return fmt::format("{} to {}", least, most);
}

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t dot = path.find('.', begin);
    parts.emplace_back(path.substr(begin, dot == std::string_view::npos ? dot : dot - begin));
    if (dot == std::string_view::npos) return parts;
    begin = dot + 1;
  }
}

// Words that are meant as strings: a letter, then letters, digits and the marks of names, paths and specs.
bool is_bare_word(std::string_view text) {
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text[0])) == 0) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_-./:+*%@#~").find(c) != std::string_view::npos;
  });
}

}  // namespace

// ---- finding and failing

std::string TomlTable::path_of(std::string_view key) const {
  return join(path_, key);
}

std::shared_ptr<TomlNode> TomlTable::find(std::string_view key) const {
  mark(*node_, key);
  auto node = node_->find(key);
  if (node) node->read = true;
  return node;
}

TomlNode& TomlTable::demand(std::string_view key, std::string_view expected) const {
  const auto node = find(key);
  if (!node) {
    check_unread(key);
    throw UserError(fmt::format("{}: missing key '{}' in {}: expected {}", node_->place, path_of(key),
                                table_name(path_), expected));
  }
  return *node;
}

// A missing key is often a misspelt one: then the misspelt one is the better thing to complain about.
void TomlTable::check_unread(std::string_view missing_key) const {
  for (const auto& [name, member] : node_->members) {
    if (member->read) continue;
    const std::string wanted(missing_key);
    if (nearest_key(name, std::span(&wanted, 1))) {
      throw UserError(fmt::format("{}: unknown key '{}' in {}; did you mean '{}', which is missing?", member->place,
                                  path_of(name), table_name(path_), missing_key));
    }
  }
}

void TomlTable::fail_kind(std::string_view key, const TomlNode& found, std::string_view expected) const {
  throw UserError(fmt::format("{}: key '{}': expected {}, found {}", found.place, path_of(key), expected,
                              found.kind == TomlKind::array || found.kind == TomlKind::table
                                  ? std::string(article_of(found.kind))
                                  : fmt::format("{} ({})", article_of(found.kind), value_text(found))));
}

std::string TomlTable::where(std::string_view key) const {
  const auto node = node_->find(key);
  return node ? node->place : node_->place;
}

void TomlTable::fail(std::string_view key, std::string_view message) const {
  throw UserError(fmt::format("{}: key '{}': {}", where(key), path_of(key), message));
}

void TomlTable::accept(std::string_view key) const {
  const auto node = find(key);
  if (node == nullptr || node->kind != TomlKind::table) return;
  const TomlTable table(node, path_of(key));
  for (const auto& [name, member] : node->members) table.accept(name);
}

bool TomlTable::has(std::string_view key) const {
  mark(*node_, key);
  return node_->find(key) != nullptr;
}

std::vector<std::string> TomlTable::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, member] : node_->members) names.push_back(name);
  return names;
}

std::optional<TomlKind> TomlTable::kind(std::string_view key) const {
  mark(*node_, key);
  const auto node = node_->find(key);
  if (!node) return std::nullopt;
  return node->kind;
}

void TomlTable::finish() const {
  for (const auto& [name, member] : node_->members) {
    if (!member->read) {
      const std::string hint = suggestion(name, node_->asked);
      throw UserError(fmt::format("{}: unknown key '{}' in {}; {}", member->place, path_of(name), table_name(path_),
                                  hint.empty() ? "no key is valid here" : hint));
    }
    if (member->kind == TomlKind::table) {
      TomlTable(member, path_of(name)).finish();
    } else if (member->kind == TomlKind::array) {
      for (std::size_t i = 0; i < member->items.size(); ++i) {
        const auto& item = member->items[i];
        if (item->kind == TomlKind::table && item->read) {
          TomlTable(item, fmt::format("{}.{}", path_of(name), i)).finish();
        }
      }
    }
  }
}

// ---- typed getters

namespace {

template <class T>
std::optional<T> scalar(const TomlNode& node) {
  if (const T* value = std::get_if<T>(&node.value)) return *value;
  return std::nullopt;
}

std::optional<double> number(const TomlNode& node) {
  if (const auto* value = std::get_if<std::int64_t>(&node.value)) return static_cast<double>(*value);
  return scalar<double>(node);
}

}  // namespace

std::string TomlTable::get_string(std::string_view key) const {
  const TomlNode& node = demand(key, "a string");
  const auto value = scalar<std::string>(node);
  if (!value) fail_kind(key, node, "a string");
  return *value;
}

std::int64_t TomlTable::get_int(std::string_view key, std::int64_t least, std::int64_t most) const {
  const TomlNode& node = demand(key, "an integer");
  const auto value = scalar<std::int64_t>(node);
  if (!value) fail_kind(key, node, "an integer");
  if (*value < least || *value > most) {
    fail(key, fmt::format("{} is out of range; valid: {}", *value, bounds_text(least, most)));
  }
  return *value;
}

double TomlTable::get_double(std::string_view key, double least, double most) const {
  const TomlNode& node = demand(key, "a number");
  const auto value = number(node);
  if (!value) fail_kind(key, node, "a number");
  if (!std::isfinite(*value) || *value < least || *value > most) {
    fail(key, fmt::format("{} is out of range; valid: {}", *value, bounds_text(least, most)));
  }
  return *value;
}

bool TomlTable::get_bool(std::string_view key) const {
  const TomlNode& node = demand(key, "a boolean (true or false)");
  const auto value = scalar<bool>(node);
  if (!value) fail_kind(key, node, "a boolean (true or false)");
  return *value;
}

std::size_t TomlTable::get_choice(std::string_view key, std::span<const std::string> names) const {
  const std::string value = get_string(key);
  const auto found = std::find(names.begin(), names.end(), value);
  if (found == names.end()) fail(key, fmt::format("unknown value \"{}\"; {}", value, suggestion(value, names)));
  return static_cast<std::size_t>(found - names.begin());
}

std::vector<std::string> TomlTable::get_string_list(std::string_view key) const {
  const TomlNode& node = demand(key, "an array of strings");
  if (node.kind != TomlKind::array) fail_kind(key, node, "an array of strings");
  std::vector<std::string> list;
  for (const auto& item : node.items) {
    const auto value = scalar<std::string>(*item);
    if (!value) fail_kind(key, *item, "an array of strings");
    list.push_back(*value);
  }
  return list;
}

std::vector<std::int64_t> TomlTable::get_int_list(std::string_view key, std::int64_t least, std::int64_t most) const {
  const TomlNode& node = demand(key, "an array of integers");
  if (node.kind != TomlKind::array) fail_kind(key, node, "an array of integers");
  std::vector<std::int64_t> list;
  for (const auto& item : node.items) {
    const auto value = scalar<std::int64_t>(*item);
    if (!value) fail_kind(key, *item, "an array of integers");
    if (*value < least || *value > most) {
      fail(key, fmt::format("{} is out of range; valid: {}", *value, bounds_text(least, most)));
    }
    list.push_back(*value);
  }
  return list;
}

std::vector<double> TomlTable::get_double_list(std::string_view key, double least, double most) const {
  const TomlNode& node = demand(key, "an array of numbers");
  if (node.kind != TomlKind::array) fail_kind(key, node, "an array of numbers");
  std::vector<double> list;
  for (const auto& item : node.items) {
    const auto value = number(*item);
    if (!value) fail_kind(key, *item, "an array of numbers");
    if (!std::isfinite(*value) || *value < least || *value > most) {
      fail(key, fmt::format("{} is out of range; valid: {}", *value, bounds_text(least, most)));
    }
    list.push_back(*value);
  }
  return list;
}

TomlTable TomlTable::get_table(std::string_view key) const {
  const TomlNode& node = demand(key, "a table");
  if (node.kind != TomlKind::table) fail_kind(key, node, "a table");
  return {node_->find(key), path_of(key)};
}

std::vector<TomlTable> TomlTable::get_table_array(std::string_view key) const {
  const TomlNode& node = demand(key, "an array of tables");
  if (node.kind != TomlKind::array) fail_kind(key, node, "an array of tables");
  std::vector<TomlTable> list;
  for (const auto& item : node.items) {
    if (item->kind != TomlKind::table) fail_kind(key, *item, "an array of tables");
    item->read = true;
    list.push_back({item, fmt::format("{}.{}", path_of(key), list.size())});
  }
  return list;
}

// ---- optional getters: a missing key is marked as valid, a present one is read like a demanded one

std::optional<std::string> TomlTable::optional_string(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_string(key);
}

std::string TomlTable::optional_string(std::string_view key, std::string_view fallback) const {
  return has(key) ? get_string(key) : std::string(fallback);
}

std::optional<std::int64_t> TomlTable::optional_int(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_int(key);
}

std::int64_t TomlTable::optional_int(std::string_view key, std::int64_t fallback, std::int64_t least,
                                     std::int64_t most) const {
  return has(key) ? get_int(key, least, most) : fallback;
}

std::optional<double> TomlTable::optional_double(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_double(key);
}

double TomlTable::optional_double(std::string_view key, double fallback, double least, double most) const {
  return has(key) ? get_double(key, least, most) : fallback;
}

bool TomlTable::optional_bool(std::string_view key, bool fallback) const {
  return has(key) ? get_bool(key) : fallback;
}

std::size_t TomlTable::optional_choice(std::string_view key, std::span<const std::string> names,
                                       std::size_t fallback) const {
  return has(key) ? get_choice(key, names) : fallback;
}

std::vector<std::string> TomlTable::optional_string_list(std::string_view key) const {
  return has(key) ? get_string_list(key) : std::vector<std::string>();
}

std::vector<std::int64_t> TomlTable::optional_int_list(std::string_view key) const {
  return has(key) ? get_int_list(key) : std::vector<std::int64_t>();
}

std::vector<double> TomlTable::optional_double_list(std::string_view key) const {
  return has(key) ? get_double_list(key) : std::vector<double>();
}

std::optional<TomlTable> TomlTable::optional_table(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  return get_table(key);
}

std::vector<TomlTable> TomlTable::optional_table_array(std::string_view key) const {
  return has(key) ? get_table_array(key) : std::vector<TomlTable>();
}

// ---- the document

TomlDocument TomlDocument::from_file(const std::filesystem::path& path) {
  return from_text(path.string(), read_file(path));
}

TomlDocument TomlDocument::from_text(std::string name, std::string text) {
  TomlDocument document;
  document.root_ = parse_toml(name, text);
  document.root_->place = name;
  document.root_->read = true;
  document.name_ = std::move(name);
  document.text_ = std::move(text);
  return document;
}

void TomlDocument::set(std::string_view path, std::string_view value, std::string_view origin) {
  auto node = parse_toml_value(origin, value);
  if (!node) {
    if (!is_bare_word(value)) {
      throw UserError(fmt::format("{}: '{}' is not a TOML value; valid: 3, 0.1, true, \"text\", [1, 2], {{ a = 1 }}",
                                  origin, value));
    }
    node = std::make_shared<TomlNode>();
    node->kind = TomlKind::string;
    node->value = std::string(value);
    node->place = origin;
  }
  const std::vector<std::string> parts = split_path(path);
  if (std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty(); })) {
    throw UserError(fmt::format("{}: '{}' is not a path of keys such as model.layers", origin, path));
  }
  TomlNode* at = root_.get();
  std::string walked;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    const std::string& part = parts[i];
    std::shared_ptr<TomlNode>* slot = nullptr;
    if (at->kind == TomlKind::table) {
      const auto member =
          std::find_if(at->members.begin(), at->members.end(), [&](const auto& entry) { return entry.first == part; });
      if (member != at->members.end()) {
        slot = &member->second;
      } else {
        auto made = std::make_shared<TomlNode>();
        made->place = origin;
        slot = &at->members.emplace_back(part, std::move(made)).second;
      }
    } else if (at->kind == TomlKind::array) {
      const bool digits =
          part.size() < 9 && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
      const std::size_t index = digits ? static_cast<std::size_t>(std::stoul(part)) : at->items.size();
      if (index >= at->items.size()) {
        throw UserError(
            fmt::format("{}: '{}' has {} entries; '{}' is none of them", origin, walked, at->items.size(), part));
      }
      slot = &at->items[index];
    } else {
      throw UserError(fmt::format("{}: '{}' is {}, so it has no key '{}'", origin, walked, article_of(at->kind), part));
    }
    if (last) {
      *slot = node;
    } else {
      at = slot->get();
      walked = join(walked, part);
    }
  }
}

std::pair<std::string, std::string> split_setting(std::string_view setting, std::string_view origin) {
  const std::size_t equals = setting.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw UserError(fmt::format("{}: expected path=value, for example model.layers=4", origin));
  }
  return {std::string(setting.substr(0, equals)), std::string(setting.substr(equals + 1))};
}

}  // namespace ng
