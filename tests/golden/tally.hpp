// SPDX-License-Identifier: Apache-2.0
//
// Counts of equal, compared and masked numbers, one row per maker, format, rule and input, and the first differences
// in full. Nothing is compared without a row, nothing is masked without a count.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ng_golden {

struct TallyRow {
  std::string maker, format, rule, input;
  std::size_t equal = 0, compared = 0, masked = 0;
};

class Tally {
 public:
  TallyRow& row(std::string maker, std::string format, std::string rule, std::string input);

  /// Keeps the first few differences.
  void difference(const std::string& text);

  /// Counts one number; returns whether it was equal. Masked numbers are not compared.
  static bool count(TallyRow& row, std::uint32_t got, std::uint32_t expected, bool masked = false);

  std::size_t compared() const;
  std::size_t equal() const;
  std::size_t masked() const;
  bool all_equal() const;
  std::string table() const;
  std::string differences() const;

 private:
  std::vector<TallyRow> rows_;
  std::vector<std::string> differences_;
  std::size_t more_ = 0;
};

}  // namespace ng_golden
