// SPDX-License-Identifier: Apache-2.0
//
// Which elements of a product are measured, which rows of its operands they come from, and how their sums become
// elements. For the host; the sums are the backends'.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/backend/measurement.hpp"
#include "narrowgauge/observe/tap.hpp"

namespace ng {

struct ProductSamples {
  /// A sampled row of the output that is in the view.
  struct Row {
    std::int64_t row, logical, group;
    std::int64_t sample;  ///< its number among the sampled rows
    std::int64_t a_row;   ///< row of A
    std::int64_t k0, k1;  ///< contraction range of A
    std::int64_t b_row0;  ///< row of B of output column 0
    std::int64_t b_k;     ///< column of B of A's column 0
  };
  std::vector<Row> rows;
  std::vector<std::int64_t> columns;  ///< of the output

  /// First and last of the four products of element operands: quantized or not. See ProductElement.
  enum Pair { kExact, kPlain, kFirst, kSecond, kPairs };
};

/// The original of an operand, which a product that is looked at keeps. NG_CHECK where it is lost.
const TensorView& original_of(const Form& form);

/// `logical_rows`: of the rows of the view, where the output's placement has row ids; else not read.
ProductSamples product_samples(const ProductEvent& event, const std::int64_t* logical_rows);

/// The element of row `i` and column `j`. `sums`: by ProductSamples::Pair, of decoded values without tensor scales;
/// `scale_a`, `scale_b`: tensor scales of the row's group, 1 without; `given`: what lies in the output.
ProductElement sampled_element(const ProductEvent& event, const ProductSamples& samples, std::size_t i, std::size_t j,
                               const UnroundedSum* sums, double scale_a, double scale_b, float given);

}  // namespace ng
