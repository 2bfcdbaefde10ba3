// SPDX-License-Identifier: Apache-2.0
//
// Help texts and the README's table, from the command table.
#include <fmt/format.h>

#include <algorithm>

#include "command.hpp"

namespace ng::cli {
namespace {

std::string option_text(const Option& option) {
  if (option.value.empty()) return "--" + option.name;
  const std::string value = option.choices.empty() ? option.value : fmt::format("{}", fmt::join(option.choices, "|"));
  return fmt::format("--{} {}", option.name, value);
}

std::string operand_text(const Positional& operand) {
  const std::string name = operand.choices.empty() ? operand.name : fmt::format("{}", fmt::join(operand.choices, "|"));
  if (operand.occurs == Occurs::optional) return "[" + name + "]";
  return operand.occurs == Occurs::repeated ? name + "..." : name;
}

std::string wrapped(const std::string& text, std::size_t indent) {
  constexpr std::size_t kWidth = 100;
  std::string out;
  std::size_t column = indent;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (column + word.size() > kWidth && column > indent) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    out += word + " ";
    column += word.size() + 1;
    begin = end + 1;
  }
  while (out.ends_with(' ')) out.pop_back();
  return out;
}

std::string rows_text(const std::vector<std::pair<std::string, std::string>>& rows) {
  constexpr std::size_t kLargestColumn = 34;
  std::size_t width = 0;
  for (const auto& [left, right] : rows)
    if (left.size() <= kLargestColumn) width = std::max(width, left.size());
  std::string out;
  for (const auto& [left, right] : rows) {
    out += "  " + left;
    if (left.size() > width) {
      out += "\n" + std::string(width + 4, ' ');
    } else {
      out += std::string(width + 2 - left.size(), ' ');
    }
    out += wrapped(right, width + 4) + "\n";
  }
  return out;
}

std::string escaped(std::string text) {
  for (std::size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) text.insert(at, 1, '\\');
  return text;
}

}  // namespace

std::string usage(const Command& command) {
  std::string text = command.name;
  for (const Positional& operand : command.operands) text += " " + operand_text(operand);
  for (const Option& option : command.options) {
    const std::string one = option_text(option);
    text += option.occurs == Occurs::required ? " " + one : " [" + one + "]";
    if (option.occurs == Occurs::repeated) text += "...";
  }
  return text;
}

std::string help_text(const Command& command) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Positional& operand : command.operands) rows.emplace_back(operand_text(operand), operand.help);
  for (const Option& option : command.options) {
    std::string help = option.help;
    if (option.occurs == Occurs::required) help += " (required)";
    if (option.occurs == Occurs::repeated) help += " (may be repeated)";
    if (!option.fallback.empty()) help += fmt::format(" (default: {})", option.fallback);
    rows.emplace_back(option_text(option), help);
  }
  rows.emplace_back("--help", "this text");
  std::string name = "narrowgauge " + command.name;
  return fmt::format("{}: {}\n\nusage: {}\n\n{}", name, command.summary,
                     wrapped("narrowgauge " + usage(command), 7 + name.size() + 1), rows_text(rows));
}

std::string program_help() {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Command& command : commands()) rows.emplace_back(command.name, command.summary);
  return "narrowgauge: what narrow number formats do to the training of mixture-of-experts models\n\n"
         "usage: narrowgauge COMMAND [options]\n\n" +
         rows_text(rows) +
         "\nnarrowgauge COMMAND --help explains a command; narrowgauge --version names this one.\n"
         "Exit codes: 0 done, 1 a difference was found, 2 wrong input, 3 the machine failed, 4 the run diverged, 130 "
         "interrupted.\n";
}

std::string help_markdown() {
  std::string text = "| command | does |\n|---|---|\n";
  for (const Command& command : commands())
    text += fmt::format("| `{}` | {} |\n", escaped(usage(command)), escaped(command.summary));
  return text;
}

}  // namespace ng::cli
