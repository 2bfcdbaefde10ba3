// SPDX-License-Identifier: Apache-2.0
//
// What is under test: the oracle or the program, behind one face. Specs are the oracle's plain structs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "oracle/blocks.hpp"

namespace ng_golden {

struct Subject {
  std::string name;
  /// Code of one FP32 value; empty for a refused NaN.
  std::function<std::optional<std::uint32_t>(const std::string& format, float x, const ng_oracle::EncodeChoices&)>
      encode;
  /// FP32 bits of a code.
  std::function<std::uint32_t(const std::string& format, std::uint32_t code)> decode_bits;
  /// Quantizes x [rows, cols] along its rows or, with `column`, its transpose along the rows of that: all of the result
  /// is then [cols, rows].
  std::function<ng_oracle::Quantized(const std::vector<float>& x, std::size_t rows, std::size_t cols,
                                     const ng_oracle::BlockSpec&, bool column)>
      quantize;
};

/// The judge itself.
Subject oracle_subject();

}  // namespace ng_golden
