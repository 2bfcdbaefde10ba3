// SPDX-License-Identifier: Apache-2.0
//
// The values of all codes of a format, made once: how rows of codes are decoded on the CPU.
#pragma once

#include <vector>

#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng::cpu {

struct ElementTable {
  std::vector<float> value;  ///< indexed by code
};

/// Table of a format of at most 16 bits.
const ElementTable& element_table(FormatId id);

}  // namespace ng::cpu
