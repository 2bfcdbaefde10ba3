// SPDX-License-Identifier: Apache-2.0
//
// Bits of a subject against bits of the model, counted by what differs.
#pragma once

#include <cstdint>
#include <string>

#include "narrowgauge/base/canonical_json.hpp"

namespace ng_silicon {

enum class ResultType : std::uint8_t { f32, bf16, fp16 };

struct Comparison {
  std::uint64_t compared = 0;
  std::uint64_t different = 0;
  std::uint64_t nan_bits = 0;   ///< of these: both are NaN
  std::uint64_t zero_sign = 0;  ///< of these: zeros of opposite sign
  std::uint64_t nans = 0;       ///< answers of the subject that are NaN, infinite, zero
  std::uint64_t infinities = 0;
  std::uint64_t zeros = 0;

  /// Whether they are equal.
  bool add(ResultType type, std::uint32_t subject, std::uint32_t model);
  [[nodiscard]] ng::Json json() const;
  [[nodiscard]] std::string text() const;
};

}  // namespace ng_silicon
