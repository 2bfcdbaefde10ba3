// SPDX-License-Identifier: Apache-2.0
//
// Looking for studies/ upward from the working directory and from the program.
#include "study_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"

namespace fs = std::filesystem;

namespace ng::cli {
namespace {

fs::path upward(fs::path from, const std::string& kind) {
  std::error_code error;
  for (; !from.empty(); from = from.parent_path()) {
    const fs::path folder = from / kind;
    if (fs::is_directory(folder, error)) return folder;
    if (from == from.root_path()) break;
  }
  return {};
}

fs::path study_folder(const std::string& kind) {
  std::error_code error;
  const fs::path here = fs::current_path(error);
  if (fs::path found = upward(here, kind); !found.empty()) return found;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (fs::path found = upward(program.parent_path(), kind); !found.empty()) return found;
  throw UserError(fmt::format("no folder {} at or above '{}' or the program; name a file, for example ./my.toml", kind,
                              here.string()));
}

std::vector<fs::path> toml_files(const std::string& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(study_folder(folder)))
    if (entry.path().extension() == ".toml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

fs::path find_by_name(const std::string& folder, const std::string& word) {
  std::vector<std::string> names;
  for (const fs::path& file : toml_files(folder)) {
    if (file.stem() == word) return file;
    names.push_back(file.stem().string());
  }
  throw UserError(fmt::format("no '{}' in {}; {}", word, study_folder(folder).string(), suggestion(word, names)));
}

}  // namespace

std::vector<fs::path> study_files(const std::string& kind) {
  return toml_files("studies/" + kind);
}

fs::path study_file(const std::string& kind, const std::string& word) {
  if (word.find('/') != std::string::npos || word.ends_with(".toml")) return word;
  return find_by_name("studies/" + kind, word);
}

fs::path corpus_file(const std::string& word) {
  if (word.find_first_of("/.") != std::string::npos) return word;
  return find_by_name("data/corpora", word);
}

}  // namespace ng::cli
