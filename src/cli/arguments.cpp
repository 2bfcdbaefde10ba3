// SPDX-License-Identifier: Apache-2.0
//
// From words to checked options and operands, through Boost.Program_options with guessing off.
#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>

#include "command.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"

namespace po = boost::program_options;

namespace ng::cli {
namespace {

constexpr const char* kOperands = "operands";

std::vector<std::string> option_names(const Command& command) {
  std::vector<std::string> names;
  for (const Option& option : command.options) names.push_back("--" + option.name);
  names.emplace_back("--help");
  return names;
}

std::string without_value(const std::string& token) {
  return token.substr(0, token.find('='));
}

void check_choice(const Arguments& arguments, const std::string& what, const std::string& value,
                  const std::vector<std::string>& choices) {
  if (choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  arguments.fail(fmt::format("{} '{}' is unknown; {}", what, value, suggestion(value, choices)));
}

}  // namespace

void Arguments::fail(const std::string& message) const {
  throw UserError(fmt::format("{}: {} (narrowgauge {} --help explains it)", command_.name, message, command_.name));
}

Arguments::Arguments(const Command& command, const std::vector<std::string>& words) : command_(command) {
  po::options_description description;
  for (const Option& option : command.options) {
    if (option.value.empty()) {
      description.add_options()(option.name.c_str(), po::bool_switch());
    } else {
      description.add_options()(option.name.c_str(), po::value<std::vector<std::string>>());
    }
  }
  description.add_options()(kOperands, po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add(kOperands, -1);

  std::vector<std::string> given;
  try {
    namespace style = po::command_line_style;
    const po::parsed_options parsed =
        po::command_line_parser(words)
            .options(description)
            .positional(positional)
            .style(style::allow_long | style::long_allow_adjacent | style::long_allow_next)
            .run();
    for (const po::option& option : parsed.options) {
      if (option.position_key >= 0) {
        given.insert(given.end(), option.value.begin(), option.value.end());
      } else if (option.string_key == kOperands) {
        fail(fmt::format("option '--{}' is unknown; {}", kOperands, suggestion(kOperands, option_names(command))));
      } else {
        auto& values = options_[option.string_key];
        values.insert(values.end(), option.value.begin(), option.value.end());
        if (option.value.empty()) values.emplace_back();  // a flag
      }
    }
  } catch (const po::unknown_option& error) {
    const std::string name = without_value(error.get_option_name());
    fail(fmt::format("option '{}' is unknown; {}", name, suggestion(name, option_names(command))));
  } catch (const po::invalid_command_line_syntax& error) {
    const bool extra = error.kind() == po::invalid_command_line_syntax::extra_parameter;
    fail(fmt::format("option '{}' {}", without_value(error.get_option_name()),
                     extra ? "takes no value" : "needs a value"));
  } catch (const po::error& error) {
    fail(error.what());
  }

  for (const Option& option : command.options) {
    auto& values = options_[option.name];
    if (values.size() > 1 && option.occurs != Occurs::repeated)
      fail(fmt::format("option '--{}' is given {} times", option.name, values.size()));
    if (values.empty() && option.occurs == Occurs::required)
      fail(fmt::format("option '--{} {}' is missing: {}", option.name, option.value, option.help));
    if (values.empty() && !option.fallback.empty()) values.push_back(option.fallback);
    for (const std::string& value : values) check_choice(*this, "--" + option.name, value, option.choices);
  }

  auto next = given.begin();
  for (const Positional& operand : command.operands) {
    auto& values = operands_[operand.name];
    if (operand.occurs == Occurs::repeated) {
      values.assign(next, given.end());
      next = given.end();
    } else if (next != given.end()) {
      values.push_back(*next++);
    }
    if (values.empty() && operand.occurs != Occurs::optional)
      fail(fmt::format("{} is missing: {}", operand.name, operand.help));
    for (const std::string& value : values) check_choice(*this, operand.name, value, operand.choices);
  }
  if (next != given.end()) fail(fmt::format("'{}' is one word too many; usage: {}", *next, usage(command)));
}

bool Arguments::has(std::string_view option) const {
  const auto found = options_.find(option);
  NG_CHECK(found != options_.end(), "option ", option, " of ", command_.name);
  return !found->second.empty();
}

const std::string& Arguments::get(std::string_view option) const {
  NG_CHECK(has(option), "option ", option, " of ", command_.name);
  return options_.find(option)->second.front();
}

std::optional<std::string> Arguments::optional(std::string_view option) const {
  if (!has(option)) return std::nullopt;
  return get(option);
}

std::vector<std::string> Arguments::all(std::string_view option) const {
  return has(option) ? options_.find(option)->second : std::vector<std::string>{};
}

bool Arguments::flag(std::string_view option) const {
  return has(option);
}

std::int64_t Arguments::integer(std::string_view option, std::int64_t least, std::int64_t most) const {
  const std::string& text = get(option);
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || last != end || value < least || value > most) {
    const std::string bounds = most == std::numeric_limits<std::int64_t>::max()
                                   ? fmt::format("of at least {}", least)
                                   : fmt::format("from {} to {}", least, most);
    fail(fmt::format("--{} {} is not a whole number {}", option, text, bounds));
  }
  return value;
}

std::optional<std::string> Arguments::operand(std::string_view name) const {
  const auto found = operands_.find(name);
  NG_CHECK(found != operands_.end(), "operand ", name, " of ", command_.name);
  if (found->second.empty()) return std::nullopt;
  return found->second.front();
}

std::vector<std::string> Arguments::operands(std::string_view name) const {
  (void)operand(name);
  return operands_.find(name)->second;
}

}  // namespace ng::cli
