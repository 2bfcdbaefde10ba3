// SPDX-License-Identifier: Apache-2.0
//
// A subcommand as data: its options and operands make the parser, `--help` and the README's table. Adding a command is
// one file that returns a Command, and one row in command_table.cpp.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ng::cli {

enum class Occurs { optional, required, repeated };

/// `--name VALUE`; without a value name a flag.
struct Option {
  std::string name;   ///< without dashes
  std::string value;  ///< how the value is called in help, "" for a flag
  Occurs occurs = Occurs::optional;
  std::string fallback;  ///< value when it is not given, "" for none
  std::string help;
  std::vector<std::string> choices = {};  ///< the only values, when not empty
};

/// An operand without dashes.
struct Positional {
  std::string name;
  Occurs occurs = Occurs::required;  ///< repeated: one or more, last of its command
  std::string help;
  std::vector<std::string> choices = {};
};

class Arguments;

struct Command {
  std::string name;
  std::string summary;  ///< one line, lower case, no full stop
  std::vector<Positional> operands;
  std::vector<Option> options;
  int (*run)(const Arguments& arguments) = nullptr;  ///< returns an exit code or throws
};

/// Every command, in the order of the help.
[[nodiscard]] const std::vector<Command>& commands();

/// The words after the command's name, checked against its table.
class Arguments {
 public:
  /// UserError "narrowgauge <command>: ..." on an unknown, repeated, missing or valueless option or operand.
  Arguments(const Command& command, const std::vector<std::string>& words);

  /// Given, or has a fallback.
  [[nodiscard]] bool has(std::string_view option) const;
  [[nodiscard]] const std::string& get(std::string_view option) const;
  [[nodiscard]] std::optional<std::string> optional(std::string_view option) const;
  [[nodiscard]] std::vector<std::string> all(std::string_view option) const;  ///< of a repeated option
  [[nodiscard]] bool flag(std::string_view option) const;
  /// UserError when the value is no whole number or out of bounds.
  [[nodiscard]] std::int64_t integer(std::string_view option, std::int64_t least = 0,
                                     std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;

  [[nodiscard]] std::optional<std::string> operand(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> operands(std::string_view name) const;

  /// UserError with the command's name in front.
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const Command& command_;
  std::map<std::string, std::vector<std::string>, std::less<>> options_;
  std::map<std::string, std::vector<std::string>, std::less<>> operands_;
};

/// "train --model M.toml [--steps N]"
[[nodiscard]] std::string usage(const Command& command);
[[nodiscard]] std::string help_text(const Command& command);
[[nodiscard]] std::string program_help();
/// The table of commands in the README.
[[nodiscard]] std::string help_markdown();

/// Runs the program with the words after its own name; never throws. Returns the exit code.
int run_program(const std::vector<std::string>& words);

}  // namespace ng::cli
