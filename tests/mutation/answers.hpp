// SPDX-License-Identifier: Apache-2.0
//
// What a quantizer answers on a set of inputs, by the program and by the oracle, as plain integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "narrowgauge/numerics/block_format.hpp"
#include "oracle/blocks.hpp"

namespace ng_mutation {

/// A matrix [rows, cols] in groups of rows. Made of integers alone, so that every machine has the same.
struct Probe {
  std::string name;
  std::size_t rows = 0, cols = 0;
  std::vector<float> x;
  std::vector<std::int64_t> groups;  ///< offsets; empty: one group
};

const std::vector<Probe>& finite_probes();   ///< each kind that has broken somebody's kernel
const std::vector<Probe>& special_probes();  ///< those, and one with NaN and infinities
const std::vector<Probe>& large_probes();    ///< larger than every tile

/// Codes, scales, tensor scale, decoded bits, residual of outliers and count of refused NaN, one after the other, each
/// part behind its size.
using Answer = std::vector<std::uint32_t>;

std::vector<Answer> program_answers(const ng::QuantizerSpec& spec, const std::vector<Probe>& probes);
std::vector<Answer> oracle_answers(const ng::QuantizerSpec& spec, const std::vector<Probe>& probes);

/// Positions that differ; what only one of the two has counts.
std::size_t differences(const std::vector<Answer>& a, const std::vector<Answer>& b);
std::size_t size_of(const std::vector<Answer>& answers);

/// The oracle's words for a quantizer with scales; outlier split, decode order and tensor scope have none.
ng_oracle::BlockSpec oracle_spec(const ng::QuantizerSpec& spec);

}  // namespace ng_mutation
