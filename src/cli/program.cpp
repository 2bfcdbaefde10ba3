// SPDX-License-Identifier: Apache-2.0
//
// From the words of the command line to one command and one exit code. Results go to stdout, messages to stderr.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include "command.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/version.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    names.push_back(command.name);
  }
  throw UserError(fmt::format("command '{}' is unknown; {}", name, suggestion(name, names)));
}

bool asks_for_help(const std::string& word) {
  return word == "--help" || word == "-h";
}

int dispatch(const std::vector<std::string>& words) {
  if (words.empty()) {
    write_stderr(program_help());
    return kExitUser;
  }
  const std::string& first = words.front();
  if (asks_for_help(first) || first == "help") {
    write_stdout(fmt::format("{}", words.size() > 1 ? help_text(find_command(words[1])) : program_help()));
    return kExitDone;
  }
  if (first == "--version") {
    write_stdout(fmt::format("narrowgauge {} ({})\n", program_version(), git_revision()));
    return kExitDone;
  }
  if (first == "--help-markdown") {
    write_stdout(help_markdown());
    return kExitDone;
  }
  if (first.starts_with("-"))
    throw UserError(fmt::format("option '{}' is unknown; {}", first,
                                suggestion(first, std::vector<std::string>{"--help", "--version", "--help-markdown"})));
  const Command& command = find_command(first);
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (std::any_of(rest.begin(), rest.end(), asks_for_help)) {
    write_stdout(fmt::format("{}", help_text(command)));
    return kExitDone;
  }
  return command.run(Arguments(command, rest));
}

// A reader that went away (`| head`) wanted no more; anything else that cannot be written is the machine's failure.
int finish_output(int code) {
  const int error = flush_stdout();
  if (error == 0 || error == EPIPE) return code;
  write_stderr(fmt::format("narrowgauge: cannot write to standard output: {}\n", std::strerror(error)));
  return kExitMachine;
}

}  // namespace

int run_program(const std::vector<std::string>& words) {
  int code = kExitMachine;
  try {
    install_interrupt_handlers();
    code = dispatch(words);
  } catch (const std::exception& error) {
    write_stderr(fmt::format("narrowgauge: {}\n", message_of(error)));
    code = exit_code_of(error);
  }
  return finish_output(code);
}

}  // namespace ng::cli
