// SPDX-License-Identifier: Apache-2.0
//
// Checks of promises that the program makes to itself. They stay on in every build and throw ng::LogicError
// (exit code 3, "please report it") with the expression, both values where there are two, and the place.
// For mistakes of the user throw ng::UserError instead.
//
//   NG_CHECK(rows > 0, "tensor ", name)
//   NG_CHECK_EQ(a.cols(), b.cols(), "operands of ", site)
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

namespace ng {

/// Text of a value in a failed check: numbers in full precision, enums as their number, text in quotes.
[[nodiscard]] std::string check_text(long long value);
[[nodiscard]] std::string check_text(unsigned long long value);
[[nodiscard]] std::string check_text(double value);

/// Throws LogicError; `values` may be empty.
[[noreturn]] void check_failed(const char* file, int line, const char* expression, const std::string& values,
                               const std::string& message);

namespace detail {

template <class T>
std::string check_value(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_enum_v<T>) {
    return check_text(static_cast<long long>(value));
  } else if constexpr (std::is_floating_point_v<T>) {
    return check_text(static_cast<double>(value));
  } else if constexpr (std::is_integral_v<T> && std::is_unsigned_v<T>) {
    return check_text(static_cast<unsigned long long>(value));
  } else if constexpr (std::is_integral_v<T>) {
    return check_text(static_cast<long long>(value));
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return "'" + std::string(std::string_view(value)) + "'";
  } else if constexpr (requires { { value.text() } -> std::convertible_to<std::string>; }) {
    return value.text();
  } else if constexpr (requires { { to_string(value) } -> std::convertible_to<std::string>; }) {
    return std::string(to_string(value));
  } else {
    return "(a value without text form)";
  }
}

// Text in a message stands as it is, without quotes.
template <class T>
std::string check_part(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return std::string(std::string_view(value));
  } else {
    return check_value(value);
  }
}

template <class... Parts>
std::string check_message(const Parts&... parts) {
  return (std::string() + ... + check_part(parts));
}

}  // namespace detail
}  // namespace ng

/// Throws LogicError unless `condition`; the rest are pieces of a message.
#define NG_CHECK(condition, ...)                                                                          \
  do {                                                                                                    \
    if (!(condition)) [[unlikely]] {                                                                      \
      ::ng::check_failed(__FILE__, __LINE__, #condition, std::string(), ::ng::detail::check_message(__VA_ARGS__)); \
    }                                                                                                     \
  } while (false)

#define NG_CHECK_COMPARE_(left, op, right, ...)                                                          \
  do {                                                                                                   \
    const auto& ng_check_left_ = (left);                                                                 \
    const auto& ng_check_right_ = (right);                                                               \
    if (!(ng_check_left_ op ng_check_right_)) [[unlikely]] {                                             \
      ::ng::check_failed(__FILE__, __LINE__, #left " " #op " " #right,                                   \
                         ::ng::detail::check_value(ng_check_left_) + " against " +                       \
                             ::ng::detail::check_value(ng_check_right_),                                 \
                         ::ng::detail::check_message(__VA_ARGS__));                                      \
    }                                                                                                    \
  } while (false)

/// Comparisons that print both expressions and both values.
#define NG_CHECK_EQ(left, right, ...) NG_CHECK_COMPARE_(left, ==, right __VA_OPT__(, ) __VA_ARGS__)
#define NG_CHECK_NE(left, right, ...) NG_CHECK_COMPARE_(left, !=, right __VA_OPT__(, ) __VA_ARGS__)
#define NG_CHECK_LE(left, right, ...) NG_CHECK_COMPARE_(left, <=, right __VA_OPT__(, ) __VA_ARGS__)
#define NG_CHECK_LT(left, right, ...) NG_CHECK_COMPARE_(left, <, right __VA_OPT__(, ) __VA_ARGS__)
#define NG_CHECK_GE(left, right, ...) NG_CHECK_COMPARE_(left, >=, right __VA_OPT__(, ) __VA_ARGS__)
#define NG_CHECK_GT(left, right, ...) NG_CHECK_COMPARE_(left, >, right __VA_OPT__(, ) __VA_ARGS__)
