// SPDX-License-Identifier: Apache-2.0
//
// Walking the checkout.
#include "hygiene/source_tree.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>

namespace ng::hygiene {
namespace fs = std::filesystem;

fs::path checkout() { return NG_SOURCE_DIR; }

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

bool SourceFile::is_cxx() const {
  const std::string end = extension();
  return end == ".hpp" || end == ".cpp" || end == ".cu" || end == ".cuh";
}

std::vector<SourceFile> source_files(const std::vector<std::string>& folders) {
  std::vector<SourceFile> files;
  for (const std::string& folder : folders) {
    if (!fs::exists(checkout() / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(checkout() / folder)) {
      if (!entry.is_regular_file()) continue;
      SourceFile file{fs::relative(entry.path(), checkout()).generic_string(), {}};
      const bool is_cmake = file.extension() == ".cmake" || entry.path().filename() == "CMakeLists.txt";
      if (!file.is_cxx() && !is_cmake) continue;
      std::istringstream text(read_text(entry.path()));
      for (std::string line; std::getline(text, line);) file.lines.push_back(line);
      files.push_back(std::move(file));
    }
  }
  std::sort(files.begin(), files.end(), [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

std::vector<std::string> folders_with_files(const std::vector<std::string>& folders) {
  std::set<std::string> found;
  for (const std::string& folder : folders) {
    if (!fs::exists(checkout() / folder)) continue;
    for (auto entry = fs::recursive_directory_iterator(checkout() / folder); entry != fs::recursive_directory_iterator();
         ++entry) {
      const std::string name = entry->path().filename().string();
      const bool made = name == "__pycache__" || name == "runs" || name == "report";  // by Python, by a study
      if (entry->is_directory() && (name.starts_with('.') || made)) {
        entry.disable_recursion_pending();
      } else if (entry->is_regular_file()) {
        found.insert(fs::relative(entry->path().parent_path(), checkout()).generic_string());
      }
    }
  }
  return {found.begin(), found.end()};
}

std::vector<Include> includes_of(const SourceFile& file) {
  std::vector<Include> includes;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    const std::size_t hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const std::size_t word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const std::size_t open = line.find_first_of("<\"", word + 7);
    if (open == std::string::npos) continue;
    const std::size_t close = line.find(line[open] == '<' ? '>' : '"', open + 1);
    if (close == std::string::npos) continue;
    includes.push_back({i + 1, line.substr(open + 1, close - open - 1), line[open] == '"'});
  }
  return includes;
}

std::string layer_of(const std::string& path) {
  if (path.starts_with("cuda/")) return "backend_cuda";
  for (const std::string root : {"include/narrowgauge/", "src/"}) {
    if (!path.starts_with(root)) continue;
    const std::size_t slash = path.find('/', root.size());
    if (slash != std::string::npos) return path.substr(root.size(), slash - root.size());
  }
  return "";
}

}  // namespace ng::hygiene
