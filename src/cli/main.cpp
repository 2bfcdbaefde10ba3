// SPDX-License-Identifier: Apache-2.0
//
// The program narrowgauge: `narrowgauge --help` says what it does.
#include <string>
#include <vector>

#include "command.hpp"

int main(int argc, char** argv) {
  return ng::cli::run_program(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
