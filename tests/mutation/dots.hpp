// SPDX-License-Identifier: Apache-2.0
//
// Dot products that tell the parameters of an accumulator apart, for each row of the catalogue, by program and oracle.
#pragma once

#include <cstddef>
#include <vector>

#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "oracle/tensor_core.hpp"

namespace ng_mutation {

/// Formats of the operands that a row is tried with.
struct Operands {
  ng::FormatId element;
  ng::FormatId scale;   ///< where there are scales
  std::size_t scale_k;  ///< 0: none
};
Operands operands_of(ng::OperandTypes types);

struct Dot {
  ng_oracle::DotOperands in;
  float c = 0;
};

/// Two instructions and a ragged third of random numbers; every third one of tiny numbers without c, whose exponents
/// lie below that of a zero where the formats reach so far. Then what random numbers do not meet: the last place of the
/// grid beside a tie of the result, and the grid of a zero's exponent below the smallest result.
std::vector<Dot> dots_of(const ng::AccumulatorRow& row);

float program_dot(const ng::AccumulatorSpec& spec, const Dot& d);
ng_oracle::Accumulator oracle_accumulator(const ng::AccumulatorSpec& spec);

}  // namespace ng_mutation
