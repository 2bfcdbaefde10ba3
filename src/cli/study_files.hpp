// SPDX-License-Identifier: Apache-2.0
//
// Recipes, models and corpora by name. A word with a slash or ending in .toml is a path; any other is a file of the
// nearest studies/ folder at or above the working directory, else at or above the program.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ng::cli {

/// `kind` is "recipes" or "models". UserError when a name has no file (names the nearest) or no studies/ folder is
/// found.
[[nodiscard]] std::filesystem::path study_file(const std::string& kind, const std::string& word);

/// A data spec: a word without slash and dot is a manifest of the nearest data/corpora folder. UserError likewise.
[[nodiscard]] std::filesystem::path corpus_file(const std::string& word);

/// Files of studies/<kind>, by name. UserError when no studies/ folder is found.
[[nodiscard]] std::vector<std::filesystem::path> study_files(const std::string& kind);

}  // namespace ng::cli
