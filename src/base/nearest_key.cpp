// SPDX-License-Identifier: Apache-2.0
//
// Edit distance and the sentence made from it.
#include "narrowgauge/base/nearest_key.hpp"

#include <algorithm>
#include <vector>

namespace ng {

int edit_distance(std::string_view a, std::string_view b) {
  const std::size_t width = b.size() + 1;
  std::vector<int> table((a.size() + 1) * width);
  const auto at = [&](std::size_t i, std::size_t j) -> int& { return table[i * width + j]; };
  for (std::size_t i = 0; i <= a.size(); ++i) at(i, 0) = static_cast<int>(i);
  for (std::size_t j = 0; j <= b.size(); ++j) at(0, j) = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int substituted = at(i - 1, j - 1) + (a[i - 1] == b[j - 1] ? 0 : 1);
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, substituted});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
      }
    }
  }
  return at(a.size(), b.size());
}

std::optional<std::string> nearest_key(std::string_view wrong, std::span<const std::string> valid) {
  std::optional<std::string> best;
  int best_distance = 0;
  for (const std::string& name : valid) {
    const int distance = edit_distance(wrong, name);
    const int longer = static_cast<int>(std::max(wrong.size(), name.size()));
    const int shorter = static_cast<int>(std::min(wrong.size(), name.size()));
    const int limit = std::max(longer / 3, std::min(2, shorter - 1));
    if (distance <= limit && (!best || distance < best_distance)) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggestion(std::string_view wrong, std::span<const std::string> valid) {
  if (valid.empty()) return "";
  std::string text;
  if (const auto near = nearest_key(wrong, valid)) text = "did you mean '" + *near + "'? ";
  text += "valid: ";
  for (std::size_t i = 0; i < valid.size(); ++i) {
    if (i != 0) text += ", ";
    text += valid[i];
  }
  return text;
}

}  // namespace ng
