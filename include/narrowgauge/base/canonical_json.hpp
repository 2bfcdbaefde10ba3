// SPDX-License-Identifier: Apache-2.0
//
// A JSON value and its canonical text: the same value gives the same bytes on every machine, so its digest can be
// part of a run's identity. Canonical: keys sorted by byte, no spaces, whole doubles below 2^53 as integers, other
// doubles as the shortest text that reads back equal, strings escaped only where JSON demands it.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ng {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  template <std::integral T>
    requires(!std::same_as<T, bool> && !std::same_as<T, char>)
  Json(T value) : value_(integer(value)) {}
  Json(double value) : value_(value) {}
  Json(const char* text) : value_(std::string(text)) {}
  Json(std::string_view text) : value_(std::string(text)) {}
  Json(std::string text) : value_(std::move(text)) {}
  Json(Array items) : value_(std::move(items)) {}
  Json(Object members) : value_(std::move(members)) {}

  /// {{"a", 1}, {"b", "x"}}
  [[nodiscard]] static Json object(std::initializer_list<std::pair<const std::string, Json>> members = {}) {
    return Json(Object(members));
  }
  /// {1, 2, "x"}
  [[nodiscard]] static Json array(std::initializer_list<Json> items = {}) { return Json(Array(items)); }

  /// Parses RFC 8259 text. UserError "<name>:<line>:<column>: ..." on bad syntax, duplicate keys or numbers that
  /// fit neither 64 bits nor a double. `name` is what the message calls the text.
  [[nodiscard]] static Json parse(std::string_view text, std::string_view name);

  /// The canonical text. LogicError when a double is not finite (JSON has no such number).
  [[nodiscard]] std::string canonical() const;
  /// The same value for people: two spaces of indent, one member a line.
  [[nodiscard]] std::string pretty() const;

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(value_); }
  [[nodiscard]] bool is_integer() const;
  [[nodiscard]] bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  [[nodiscard]] bool is_string() const { return std::holds_alternative<std::string>(value_); }
  [[nodiscard]] bool is_array() const { return std::holds_alternative<Array>(value_); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<Object>(value_); }

  // The value as a type; LogicError when it is another one. Whole doubles read as integers and any number as double.
  [[nodiscard]] bool as_bool() const;
  [[nodiscard]] std::int64_t as_int() const;
  [[nodiscard]] std::uint64_t as_uint() const;
  [[nodiscard]] double as_double() const;
  [[nodiscard]] const std::string& as_string() const;
  [[nodiscard]] const Array& as_array() const;
  [[nodiscard]] const Object& as_object() const;

  /// Member of an object; LogicError when this is no object or has no such member.
  [[nodiscard]] const Json& at(std::string_view key) const;
  /// Member of an object, or nullptr.
  [[nodiscard]] const Json* find(std::string_view key) const;
  /// Member to assign; null becomes an object first.
  Json& operator[](std::string_view key);
  /// Appends; null becomes an array first.
  void push_back(Json item);

  /// Same canonical text.
  friend bool operator==(const Json& a, const Json& b) { return a.canonical() == b.canonical(); }

 private:
  template <std::integral T>
  static auto integer(T value) {
    if constexpr (std::signed_integral<T>) {
      return static_cast<std::int64_t>(value);
    } else {
      return static_cast<std::uint64_t>(value);
    }
  }

  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Array, Object> value_;
};

/// SHA-256 of the canonical text, in hexadecimal.
[[nodiscard]] std::string digest_of(const Json& value);

}  // namespace ng
