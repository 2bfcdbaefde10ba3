// SPDX-License-Identifier: Apache-2.0
//
// Claim: every file is compiled without contraction and without fast-math, and what was compiled does not contract.
// Alone: build/release/bin/hygiene_build --gtest_filter='Flags.*'
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "hygiene/contraction.hpp"
#include "hygiene/source_tree.hpp"
#include "narrowgauge/base/canonical_json.hpp"

namespace ng::hygiene {
namespace {

constexpr std::string_view kForbidden[] = {
    " -ffast-math",         "-Ofast",          "use_fast_math", "unsafe-math",  "finite-math",   "associative-math",
    "reciprocal-math",      "-ftz=true",       "-prec-div=f",   "-prec-sqrt=f", "-fmad=true",    "fp-contract=fast",
    "-fp-contract=on",      "-fcx-limited",    "-mrecip",
};

TEST(Flags, EveryCompilationRoundsAsWritten) {
  const std::string path = std::string(NG_BINARY_DIR) + "/compile_commands.json";
  const Json commands = Json::parse(read_text(path), path);
  std::size_t host = 0;
  std::size_t device = 0;
  for (const Json& entry : commands.as_array()) {
    const std::string& file = entry.at("file").as_string();
    const std::string command = " " + entry.at("command").as_string();
    EXPECT_NE(command.find("-ffp-contract=off"), std::string::npos) << file << ": " << command;
    if (command.find("nvcc") != std::string::npos) {  // plain kernels are compiled for the host too
      EXPECT_NE(command.find("-fmad=false"), std::string::npos) << file << ": " << command;
      ++device;
    } else {
      ++host;
    }
    for (const std::string_view flag : kForbidden) {
      EXPECT_EQ(command.find(flag), std::string::npos) << file << " is compiled with " << flag;
    }
  }
  EXPECT_GT(host, 10u);
#ifdef NG_HAVE_CUDA
  EXPECT_GT(device, 10u);
#else
  EXPECT_EQ(device, 0u);
#endif
}

// (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24; the product rounded alone loses the last term, a fused one keeps it.
TEST(Flags, ProductAndSumAreRoundedApart) {
  const float a = 1.0f + 0x1p-12f;
  const float c = -(1.0f + 0x1p-11f);
  EXPECT_EQ(baseline::product_plus(a, a, c), 0.0f);
#ifdef NG_HAVE_X86_64_V3
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    EXPECT_EQ(x86_64_v3::product_plus(a, a, c), 0.0f);
  }
#endif
}

}  // namespace
}  // namespace ng::hygiene
