// SPDX-License-Identifier: Apache-2.0
//
// Reading through nlohmann-json's event parser, writing by hand: the canonical text is ours to define.
#include "narrowgauge/base/canonical_json.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/sha256.hpp"

namespace ng {
namespace {

constexpr double kWholeLimit = 9007199254740992.0;  // 2^53

bool is_whole(double value) { return std::abs(value) < kWholeLimit && value == std::floor(value); }

template <class T>
void append_number(std::string& out, T value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  NG_CHECK(error == std::errc(), "a number of more than 32 characters");
  out.append(text, end);
}

void append_double(std::string& out, double value) {
  NG_CHECK(std::isfinite(value), "JSON has no number for ", value);
  if (value == 0.0) {
    out += std::signbit(value) ? "-0.0" : "0";
  } else if (is_whole(value)) {
    append_number(out, static_cast<std::int64_t>(value));
  } else {
    append_number(out, value);
  }
}

void append_string(std::string& out, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          out += kDigits[static_cast<unsigned char>(c) >> 4];
          out += kDigits[c & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// indent < 0: canonical. Otherwise the column of the enclosing bracket.
void append_json(std::string& out, const Json& value, int indent) {
  const bool pretty = indent >= 0;
  const auto new_line = [&](int column) {
    if (!pretty) return;
    out += '\n';
    out.append(static_cast<std::size_t>(column), ' ');
  };
  const int inner = pretty ? indent + 2 : -1;
  if (value.is_null()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.as_bool() ? "true" : "false";
  } else if (value.is_string()) {
    append_string(out, value.as_string());
  } else if (value.is_array()) {
    out += '[';
    bool first = true;
    for (const Json& item : value.as_array()) {
      if (!first) out += ',';
      first = false;
      new_line(inner);
      append_json(out, item, inner);
    }
    if (!first) new_line(indent);
    out += ']';
  } else if (value.is_object()) {
    out += '{';
    bool first = true;
    for (const auto& [key, member] : value.as_object()) {
      if (!first) out += ',';
      first = false;
      new_line(inner);
      append_string(out, key);
      out += pretty ? ": " : ":";
      append_json(out, member, inner);
    }
    if (!first) new_line(indent);
    out += '}';
  } else if (!value.is_integer()) {
    append_double(out, value.as_double());
  } else if (value.as_double() < 0) {
    append_number(out, value.as_int());
  } else {
    append_number(out, value.as_uint());
  }
}

std::string place_in(std::string_view name, std::string_view text, std::size_t position) {
  std::size_t line = 1;
  std::size_t column = 1;
  for (std::size_t i = 0; i + 1 < position && i < text.size(); ++i) {
    ++column;
    if (text[i] == '\n') {
      ++line;
      column = 1;
    }
  }
  return std::string(name) + ":" + std::to_string(line) + ":" + std::to_string(column) + ": ";
}

// Builds a Json from nlohmann's events, so that duplicate keys are seen.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(std::string_view text, std::string_view name) : text_(text), name_(name) {}
  Json take() { return std::move(root_); }

  bool null() override { return put(Json()); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_array() override { return close(); }
  bool end_object() override { return close(); }
  bool key(string_t& value) override {
    if (stack_.back().value.find(value) != nullptr) {
      throw UserError(std::string(name_) + ": duplicate key '" + value + "'");
    }
    stack_.back().key = std::move(value);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string what = error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    if (const auto colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    throw UserError(place_in(name_, text_, position) + "not valid JSON: " + what);
  }

 private:
  struct Open {
    Json value;
    std::string key;
  };
  static constexpr std::size_t kMaxDepth = 200;

  bool open(Json value) {
    if (stack_.size() >= kMaxDepth) throw UserError(std::string(name_) + ": JSON nested deeper than 200 levels");
    stack_.push_back({std::move(value), {}});
    return true;
  }
  bool close() {
    Json value = std::move(stack_.back().value);
    stack_.pop_back();
    return put(std::move(value));
  }
  bool put(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (stack_.back().value.is_array()) {
      stack_.back().value.push_back(std::move(value));
    } else {
      stack_.back().value[stack_.back().key] = std::move(value);
    }
    return true;
  }

  std::string_view text_;
  std::string_view name_;
  Json root_;
  std::vector<Open> stack_;
};

}  // namespace

Json Json::parse(std::string_view text, std::string_view name) {
  Builder builder(text, name);
  nlohmann::json::sax_parse(text, &builder);
  return builder.take();
}

std::string Json::canonical() const {
  std::string out;
  append_json(out, *this, -1);
  return out;
}

std::string Json::pretty() const {
  std::string out;
  append_json(out, *this, 0);
  return out;
}

bool Json::is_integer() const {
  return std::holds_alternative<std::int64_t>(value_) || std::holds_alternative<std::uint64_t>(value_);
}

bool Json::as_bool() const {
  NG_CHECK(is_bool(), "JSON value is no bool: ", canonical());
  return std::get<bool>(value_);
}

std::int64_t Json::as_int() const {
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return *value;
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) {
    NG_CHECK(*value <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}, "JSON integer too large");
    return static_cast<std::int64_t>(*value);
  }
  const auto* value = std::get_if<double>(&value_);
  NG_CHECK(value != nullptr && is_whole(*value), "JSON value is no integer: ", canonical());
  return static_cast<std::int64_t>(*value);
}

std::uint64_t Json::as_uint() const {
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return *value;
  const std::int64_t value = as_int();
  NG_CHECK_GE(value, 0, "JSON integer");
  return static_cast<std::uint64_t>(value);
}

double Json::as_double() const {
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*value);
  NG_CHECK(std::holds_alternative<double>(value_), "JSON value is no number: ", canonical());
  return std::get<double>(value_);
}

const std::string& Json::as_string() const {
  NG_CHECK(is_string(), "JSON value is no string: ", canonical());
  return std::get<std::string>(value_);
}

const Json::Array& Json::as_array() const {
  NG_CHECK(is_array(), "JSON value is no array: ", canonical());
  return std::get<Array>(value_);
}

const Json::Object& Json::as_object() const {
  NG_CHECK(is_object(), "JSON value is no object: ", canonical());
  return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<Object>(&value_);
  if (members == nullptr) return nullptr;
  const auto member = members->find(std::string(key));
  return member == members->end() ? nullptr : &member->second;
}

const Json& Json::at(std::string_view key) const {
  const Json* member = find(key);
  NG_CHECK(member != nullptr, "JSON value has no member '", key, "': ", canonical());
  return *member;
}

Json& Json::operator[](std::string_view key) {
  if (is_null()) value_ = Object();
  NG_CHECK(is_object(), "JSON value is no object: ", canonical());
  return std::get<Object>(value_)[std::string(key)];
}

void Json::push_back(Json item) {
  if (is_null()) value_ = Array();
  NG_CHECK(is_array(), "JSON value is no array: ", canonical());
  std::get<Array>(value_).push_back(std::move(item));
}

std::string digest_of(const Json& value) { return sha256_hex(value.canonical()); }

}  // namespace ng
