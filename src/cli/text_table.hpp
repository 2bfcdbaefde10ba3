// SPDX-License-Identifier: Apache-2.0
//
// Columns on stdout: two spaces between, numbers flush right, no trailing blanks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ng::cli {

enum class Align { left, right };

class TextTable {
 public:
  TextTable(std::vector<std::string> heading, std::vector<Align> align);
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Align> align_;
  std::vector<std::vector<std::string>> rows_;
};

/// "46.70 B", "12.9 M", "417"
[[nodiscard]] std::string short_count(std::int64_t number);

}  // namespace ng::cli
