// SPDX-License-Identifier: Apache-2.0
//
// The failing side of check.hpp, out of line so that a check costs its caller one branch.
#include "narrowgauge/base/check.hpp"

#include <fmt/core.h>

#include "narrowgauge/base/error.hpp"

namespace ng {

std::string check_text(long long value) { return fmt::format("{}", value); }
std::string check_text(unsigned long long value) { return fmt::format("{}", value); }
std::string check_text(double value) { return fmt::format("{}", value); }

void check_failed(const char* file, int line, const char* expression, const std::string& values,
                  const std::string& message) {
  std::string_view place = file;
  if (const auto root = place.rfind("/src/"); root != std::string_view::npos) {
    place.remove_prefix(root + 1);
  } else if (const auto include = place.rfind("/include/"); include != std::string_view::npos) {
    place.remove_prefix(include + 1);
  }
  std::string text = fmt::format("{}:{}: check failed: {}", place, line, expression);
  if (!values.empty()) text += fmt::format(" ({})", values);
  if (!message.empty()) text += fmt::format(": {}", message);
  throw LogicError(text);
}

}  // namespace ng
