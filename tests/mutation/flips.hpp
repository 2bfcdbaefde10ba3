// SPDX-License-Identifier: Apache-2.0
//
// A flip: the program makes one named choice otherwise than its judge, and the numbers that then differ are counted.
// The rows of all flips are a table, which is committed (*_flips.tsv).
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace ng_mutation {

enum class Outcome {
  seen,        ///< numbers differ
  refused,     ///< the program does not take the other value here
  equivalent,  ///< both values mean the same: named and proved by the test
};

struct Flip {
  std::string choice, from, to;
  std::string judge;  ///< oracle and its quantizers, or a golden file
  std::size_t compared = 0, differ = 0;
  Outcome outcome = Outcome::seen;
};

/// One flip a line, tab-separated: choice, from, to, judge, compared, differ or what else is the case.
std::string table(const std::vector<Flip>& flips);

/// A choice of the quantizer text with all of its values, and the quantizers on which it is flipped.
struct Axis {
  std::string choice;               ///< what the table calls it
  std::string key;                  ///< of quantizer_keys()
  std::vector<std::string> values;  ///< of that key
  std::vector<std::string> bases;   ///< quantizer texts
  bool special = false;             ///< inputs hold NaN and infinities
  bool large = false;               ///< inputs larger than every tile
  bool only_closest = false;        ///< the table keeps, for each value, the other one that differs least
};

/// Every key of a quantizer, values from the tables of names.
const std::vector<Axis>& quantizer_axes();

/// Every ordered pair of values of every axis before the oracle; pairs of `from` and itself must not differ and are not
/// listed. Fails the running test on such a difference.
std::vector<Flip> quantizer_flips();

/// Every choice that a golden file fixes, flipped; pairs that the file cannot tell apart are not listed.
std::vector<Flip> golden_flips();

/// Random draws, gradient estimator and layout of codes before the oracle and a golden file.
std::vector<Flip> draw_flips();
std::vector<Flip> estimator_flips();
std::vector<Flip> packing_flips();

/// Parameters of the accumulators before the oracle and the golden files; scales, promotion, split K and output of
/// products before H100 results.
std::vector<Flip> accumulator_flips();
std::vector<Flip> product_flips();

}  // namespace ng_mutation
