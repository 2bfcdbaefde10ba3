// SPDX-License-Identifier: Apache-2.0
//
// Claim: no kernel of ours flushes subnormals, approximates:
// the PTX of every file under cuda/ has no .ftz and no .approx. cuda/subjects, the things under test, are left out.
// Needs nvcc, no GPU. Alone: build/release/bin/hygiene_ptx
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>

#include "hygiene/source_tree.hpp"
#include "narrowgauge/base/canonical_json.hpp"

namespace ng::hygiene {
namespace {

// The compilation as it is, with PTX instead of an object as its result.
std::string ptx_command(std::string command, const std::string& output) {
  const std::size_t compile = command.rfind(" -c ");
  const std::size_t result = command.rfind(" -o ");
  if (compile == std::string::npos || result == std::string::npos || result < compile) return "";
  command.resize(result);
  command.replace(compile, 4, " -ptx ");
  return command + " -o '" + output + "'";
}

TEST(Ptx, NeitherFlushesNorApproximates) {
  const std::string path = std::string(NG_BINARY_DIR) + "/compile_commands.json";
  const Json commands = Json::parse(read_text(path), path);
  const std::string output = testing::TempDir() + "hygiene_ptx_" + std::to_string(::getpid()) + ".ptx";
  std::size_t files = 0;
  for (const Json& entry : commands.as_array()) {
    const std::string& file = entry.at("file").as_string();
    const std::string relative = std::filesystem::path(file).lexically_relative(checkout()).generic_string();
    if (!relative.starts_with("cuda/") || !relative.ends_with(".cu") || relative.starts_with("cuda/subjects/")) continue;
    ++files;
    const std::string command = ptx_command(entry.at("command").as_string(), output);
    ASSERT_FALSE(command.empty()) << entry.at("command").as_string();
    ASSERT_EQ(std::system(("cd '" + entry.at("directory").as_string() + "' && " + command).c_str()), 0) << command;
    std::istringstream ptx(read_text(output));
    std::string function;
    for (std::string line; std::getline(ptx, line);) {
      if (line.find(".entry ") != std::string::npos || line.find(".func ") != std::string::npos) function = line;
      for (const char* flaw : {".ftz", ".approx"}) {
        EXPECT_EQ(line.find(flaw), std::string::npos) << relative << ": " << line << "\n  in " << function;
      }
    }
  }
  std::filesystem::remove(output);
  EXPECT_GT(files, 0u);
}

}  // namespace
}  // namespace ng::hygiene
