// SPDX-License-Identifier: Apache-2.0
//
// tally.hpp as text.
#include "tally.hpp"

#include <iomanip>
#include <sstream>
#include <utility>

namespace ng_golden {

TallyRow& Tally::row(std::string maker, std::string format, std::string rule, std::string input) {
  for (TallyRow& r : rows_) {
    if (r.maker == maker && r.format == format && r.rule == rule && r.input == input) return r;
  }
  rows_.push_back({std::move(maker), std::move(format), std::move(rule), std::move(input)});
  return rows_.back();
}

void Tally::difference(const std::string& text) {
  if (differences_.size() < 10) {
    differences_.push_back(text);
  } else {
    ++more_;
  }
}

bool Tally::count(TallyRow& row, std::uint32_t got, std::uint32_t expected, bool masked) {
  if (masked) {
    ++row.masked;
    return true;
  }
  ++row.compared;
  if (got != expected) return false;
  ++row.equal;
  return true;
}

std::size_t Tally::compared() const {
  std::size_t n = 0;
  for (const TallyRow& r : rows_) n += r.compared;
  return n;
}

std::size_t Tally::equal() const {
  std::size_t n = 0;
  for (const TallyRow& r : rows_) n += r.equal;
  return n;
}

std::size_t Tally::masked() const {
  std::size_t n = 0;
  for (const TallyRow& r : rows_) n += r.masked;
  return n;
}

bool Tally::all_equal() const {
  for (const TallyRow& r : rows_) {
    if (r.equal != r.compared) return false;
  }
  return true;
}

std::string Tally::table() const {
  std::ostringstream out;
  out << std::left << std::setw(14) << "maker" << std::setw(13) << "format" << std::setw(24) << "rule" << std::setw(28)
      << "input" << std::right << std::setw(9) << "equal" << std::setw(9) << "compared" << std::setw(8) << "masked"
      << '\n';
  for (const TallyRow& r : rows_) {
    out << std::left << std::setw(14) << r.maker << std::setw(13) << r.format << std::setw(24) << r.rule
        << std::setw(28) << r.input << std::right << std::setw(9) << r.equal << std::setw(9) << r.compared
        << std::setw(8) << r.masked << (r.equal == r.compared ? "" : "  DIFFERENT") << '\n';
  }
  return out.str();
}

std::string Tally::differences() const {
  std::string text;
  for (const std::string& d : differences_) text += d + '\n';
  if (more_ > 0) text += "and " + std::to_string(more_) + " more\n";
  return text;
}

}  // namespace ng_golden
