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
#include "oracle/transforms.hpp"

namespace ng_golden {

struct Subject {
  std::string name;
  /// Code of one FP32 value; empty for a refused NaN.
  std::function<std::optional<std::uint32_t>(const std::string& format, float x, const ng_oracle::EncodeChoices&)>
      encode;
  /// FP32 bits of a code.
  std::function<std::uint32_t(const std::string& format, std::uint32_t code)> decode_bits;
  std::function<ng_oracle::Quantized(const std::vector<float>& x, std::size_t rows, std::size_t cols,
                                     const ng_oracle::BlockSpec&)>
      quantize;
  /// Rotation in groups of 16 along rows, rounded to BF16.
  std::function<std::vector<float>(const std::vector<float>& x, std::size_t rows, std::size_t cols,
                                   ng_oracle::HadamardSigns, ng_oracle::HadamardOrder)>
      hadamard16;
};

/// The judge itself.
Subject oracle_subject();

}  // namespace ng_golden
