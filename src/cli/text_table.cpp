// SPDX-License-Identifier: Apache-2.0
//
// Widths first, then lines.
#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "narrowgauge/base/check.hpp"

namespace ng::cli {

TextTable::TextTable(std::vector<std::string> heading, std::vector<Align> align) : align_(std::move(align)) {
  add(std::move(heading));
}

void TextTable::add(std::vector<std::string> row) {
  NG_CHECK_EQ(row.size(), align_.size(), "columns of a table");
  rows_.push_back(std::move(row));
}

std::string TextTable::text() const {
  std::vector<std::size_t> width(align_.size(), 0);
  for (const auto& row : rows_)
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(width[c] - row[c].size(), ' ');
      line += align_[c] == Align::right ? blanks + row[c] : row[c] + blanks;
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string short_count(std::int64_t number) {
  constexpr std::pair<double, char> kUnits[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'k'}};
  for (const auto& [size, letter] : kUnits)
    if (static_cast<double>(number) >= size)
      return fmt::format("{:.2f} {}", static_cast<double>(number) / size, letter);
  return fmt::format("{}", number);
}

}  // namespace ng::cli
