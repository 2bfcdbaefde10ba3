// SPDX-License-Identifier: Apache-2.0
//
// The checkout as the hygiene tests see it: files, folders, includes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ng::hygiene {

struct SourceFile {
  std::string path;                // relative to the checkout, with '/'
  std::vector<std::string> lines;

  [[nodiscard]] std::string extension() const { return std::filesystem::path(path).extension().string(); }
  [[nodiscard]] bool is_cxx() const;  // .hpp .cpp .cu .cuh
};

struct Include {
  std::size_t line = 0;      // counted from 1
  std::string target;        // between the quotes or brackets
  bool quoted = false;
};

/// Every text file of C++, CUDA and CMake below `folders` (relative to the checkout), by path.
[[nodiscard]] std::vector<SourceFile> source_files(const std::vector<std::string>& folders);

/// Every folder below `folders` that directly holds a file, relative to the checkout.
[[nodiscard]] std::vector<std::string> folders_with_files(const std::vector<std::string>& folders);

[[nodiscard]] std::vector<Include> includes_of(const SourceFile& file);

/// The layer whose file this is ("" for none): from include/narrowgauge/<layer>/, src/<layer>/ or cuda/.
[[nodiscard]] std::string layer_of(const std::string& path);

[[nodiscard]] std::filesystem::path checkout();
[[nodiscard]] std::string read_text(const std::filesystem::path& path);

}  // namespace ng::hygiene
