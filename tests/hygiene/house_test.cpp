// SPDX-License-Identifier: Apache-2.0
//
// Claim: every folder explains itself, every source file names its licence and its purpose first, and device code
// branches in one place only.
// Alone: build/release/bin/hygiene_sources --gtest_filter='House.*'
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "hygiene/source_tree.hpp"

namespace ng::hygiene {
namespace {

const std::vector<std::string> kFolders = {"include", "src", "cuda", "tests", "studies", "data", "notebooks"};

// The headers of a layer are explained by the README of its sources; header-only layers have their own.
bool is_explained(const std::string& folder) {
  const std::filesystem::path root = checkout();
  if (std::filesystem::exists(root / folder / "README.md")) return true;
  constexpr std::string_view kHeaders = "include/narrowgauge/";
  return folder.starts_with(kHeaders) &&
         std::filesystem::exists(root / "src" / folder.substr(kHeaders.size()) / "README.md");
}

TEST(House, EveryFolderHasAReadme) {
  const auto folders = folders_with_files(kFolders);
  EXPECT_GT(folders.size(), 5u);
  for (const std::string& folder : folders) EXPECT_TRUE(is_explained(folder)) << folder << " has no README.md";
}

TEST(House, SourcesBeginWithLicenceAndPurpose) {
  for (const SourceFile& file : source_files(kFolders)) {
    const std::string mark = file.is_cxx() ? "//" : "#";
    ASSERT_FALSE(file.lines.empty()) << file.path;
    EXPECT_EQ(file.lines[0], mark + " SPDX-License-Identifier: Apache-2.0") << file.path;
    if (!file.is_cxx()) continue;
    ASSERT_GE(file.lines.size(), 3u) << file.path;
    const std::string& purpose = file.lines[1] == mark ? file.lines[2] : file.lines[1];
    EXPECT_TRUE(purpose.starts_with("// ") && purpose.size() > 10) << file.path << " does not say what it is";
  }
  for (const char* script : {"ng", ".ci/run"}) {
    const std::string text = read_text(checkout() / script);
    const std::size_t second = text.find('\n') + 1;
    EXPECT_TRUE(text.compare(second, 37, "# SPDX-License-Identifier: Apache-2.0") == 0) << script;
  }
}

TEST(House, DeviceBranchesAreInOnePlace) {
  for (const SourceFile& file : source_files({"include", "src", "cuda"})) {
    if (file.path == "include/narrowgauge/numerics/ieee_rn.hpp" ||
        file.path == "include/narrowgauge/numerics/host_device.hpp" ||
        file.path == "cuda/runtime/for_each.hpp" || file.path == "cuda/runtime/for_each_block.hpp" ||
        file.path == "cuda/fast/packed_codes.hpp") {
      // launches, barriers and integer maxima, no arithmetic; conversions by instruction, each with its twin
      continue;
    }
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      EXPECT_EQ(file.lines[i].find("__CUDA_ARCH__"), std::string::npos)
          << file.path << ":" << i + 1 << ": arithmetic branches on the device only in numerics/ieee_rn.hpp";
    }
  }
}

TEST(House, NoEnvironmentVariableChangesAResult) {
  // The status line may ask for TERM; nothing else reads the environment.
  for (const SourceFile& file : source_files({"include", "src", "cuda"})) {
    if (!file.is_cxx()) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      if (file.lines[i].find("getenv(") == std::string::npos) continue;
      EXPECT_EQ(file.path, "src/base/progress.cpp") << file.path << ":" << i + 1 << " reads the environment";
    }
  }
}

}  // namespace
}  // namespace ng::hygiene
