// SPDX-License-Identifier: Apache-2.0
//
// Every command, in the order of the help.
#include "commands.hpp"

namespace ng::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      train_command(),    study_command(),    compare_command(),   inspect_command(), capture_command(),
      export_command(),   quantize_command(), transpose_command(), recode_command(),  matmul_command(),
      validate_command(), vectors_command(),  bench_command(),     formats_command(), recipes_command(),
      models_command(),   devices_command(),
  };
  return table;
}

}  // namespace ng::cli
