// SPDX-License-Identifier: Apache-2.0
//
// toml++'s tree into ours. The only user of toml++'s interface.
#include <fmt/core.h>
#include <toml++/toml.h>

#include <algorithm>
#include <optional>

#include "narrowgauge/base/error.hpp"
#include "toml_node.hpp"

namespace ng {
namespace {

class Converter {
 public:
  Converter(std::string_view name, bool with_positions) : name_(name), with_positions_(with_positions) {}

  std::shared_ptr<TomlNode> convert(const toml::node& from, const toml::source_position& position) const {
    auto to = std::make_shared<TomlNode>();
    to->place = place(position);
    if (const auto* table = from.as_table()) {
      to->kind = TomlKind::table;
      struct Entry {
        toml::source_position position;
        std::string key;
        const toml::node* node;
      };
      std::vector<Entry> entries;  // toml++ sorts by key
      for (const auto& [key, node] : *table) {
        entries.push_back({key.source().begin, std::string(key.str()), &node});
      }
      std::stable_sort(entries.begin(), entries.end(),
                       [](const Entry& a, const Entry& b) { return a.position < b.position; });
      for (const Entry& entry : entries) {
        to->members.emplace_back(entry.key, convert(*entry.node, entry.position));
      }
    } else if (const auto* array = from.as_array()) {
      to->kind = TomlKind::array;
      for (const toml::node& item : *array) to->items.push_back(convert(item, item.source().begin));
    } else if (const auto* text = from.as_string()) {
      to->kind = TomlKind::string;
      to->value = text->get();
    } else if (const auto* integer = from.as_integer()) {
      to->kind = TomlKind::integer;
      to->value = integer->get();
    } else if (const auto* real = from.as_floating_point()) {
      to->kind = TomlKind::real;
      to->value = real->get();
    } else if (const auto* boolean = from.as_boolean()) {
      to->kind = TomlKind::boolean;
      to->value = boolean->get();
    } else {
      to->kind = TomlKind::date;
    }
    return to;
  }

 private:
  [[nodiscard]] std::string place(const toml::source_position& position) const {
    if (!with_positions_) return std::string(name_);
    return fmt::format("{}:{}:{}", name_, position.line, position.column);
  }

  std::string_view name_;
  bool with_positions_;
};

// Bytes of the string that `text` begins with, quotes included; an unfinished one ends with its line or the text.
std::size_t string_length(std::string_view text) {
  const char quote = text[0];
  const bool triple = text.substr(0, 3) == std::string(3, quote);
  for (std::size_t i = triple ? 3 : 1; i < text.size(); ++i) {
    if (text[i] == '\\' && quote == '"') {
      ++i;
    } else if (!triple && (text[i] == quote || text[i] == '\n')) {
      return text[i] == quote ? i + 1 : i;
    } else if (triple && text.substr(i, 3) == std::string(3, quote)) {
      i += 3;
      for (int more = 0; more < 2 && i < text.size() && text[i] == quote; ++more) ++i;  // the last two may be content
      return i;
    }
  }
  return text.size();
}

struct Misplaced {
  toml::source_position at;
  const char* what;
};

// The first place that toml++ 3.3 must not see. It looks for white space after a character that is not ASCII, outside
// of strings or while it scans a word that is no string, and reaches undefined behaviour there (its
// is_non_ascii_horizontal_whitespace). TOML allows neither: so both are refused here.
std::optional<Misplaced> misplaced(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  toml::source_position at{1, 1};
  std::string open;  // brackets around a value
  bool value = false, word = false;
  std::size_t i = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  while (i < text.size()) {
    const std::string_view rest = text.substr(i);
    const char c = rest[0];
    std::size_t step = 1;
    if (c == '#') {
      step = std::min(rest.find('\n'), rest.size());
      word = false;
    } else if (c == '"' || c == '\'') {
      if (word) return Misplaced{at, "a quote inside of a word"};
      step = string_length(rest);
    } else if (static_cast<unsigned char>(c) > 127) {
      return Misplaced{at, "a character that is not ASCII outside of a string or comment"};
    } else if (c == ' ' || (c >= '\t' && c <= '\r')) {
      word = false;
      if (c == '\n' && open.empty()) value = false;
    } else if (c == ',') {
      word = false;
      value = !open.empty() && open.back() == '[';
    } else if (c == ']' || c == '}') {
      word = false;
      if (!open.empty()) open.pop_back();
    } else if (!value && (c == '=' || c == '.' || c == '[')) {  // of a key or a table's head
      word = false;
      value = c == '=';
    } else if (value && !word && (c == '[' || c == '{')) {
      open += c;
      value = c == '[';
    } else {
      word = true;
    }
    if ((c == ']' || c == '}') && !open.empty()) value = true;
    for (const char passed : rest.substr(0, step)) {
      if (passed == '\n') {
        at = {at.line + 1, 1};
      } else if ((static_cast<unsigned char>(passed) & 0xC0) != 0x80) {  // not the rest of a character
        ++at.column;
      }
    }
    i += step;
  }
  return std::nullopt;
}

}  // namespace

std::shared_ptr<TomlNode> TomlNode::find(std::string_view key) const {
  for (const auto& [name, node] : members) {
    if (name == key) return node;
  }
  return nullptr;
}

std::shared_ptr<TomlNode> parse_toml(std::string_view name, std::string_view text) {
  if (const auto wrong = misplaced(text))
    throw UserError(fmt::format("{}:{}:{}: {}", name, wrong->at.line, wrong->at.column, wrong->what));
  const toml::parse_result result = toml::parse(text, name);
  if (!result) {
    const toml::parse_error& error = result.error();
    const toml::source_position at = error.source().begin;
    throw UserError(fmt::format("{}:{}:{}: {}", name, at.line, at.column, error.description()));
  }
  return Converter(name, true).convert(result.table(), {1, 1});
}

std::shared_ptr<TomlNode> parse_toml_value(std::string_view origin, std::string_view text) {
  if (text.find('\n') != std::string_view::npos || misplaced(fmt::format("value = {}", text))) return nullptr;
  const toml::parse_result result = toml::parse(fmt::format("value = {}", text), origin);
  if (!result || result.table().size() != 1) return nullptr;
  const toml::node* value = result.table().get("value");
  return value == nullptr ? nullptr : Converter(origin, false).convert(*value, {1, 1});
}

std::string_view article_of(TomlKind kind) {
  switch (kind) {
    case TomlKind::string:
      return "a string";
    case TomlKind::integer:
      return "an integer";
    case TomlKind::real:
      return "a number with a fraction";
    case TomlKind::boolean:
      return "a boolean";
    case TomlKind::date:
      return "a date or time";
    case TomlKind::array:
      return "an array";
    case TomlKind::table:
      return "a table";
  }
  return "nothing";
}

}  // namespace ng
