// SPDX-License-Identifier: Apache-2.0
//
// The groups of a product's operand (experts) as plain data that travels in a kernel's parameters: no upload, which
// would wait for the device.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"

namespace ng::cuda {

constexpr std::int32_t kMostProductGroups = 512;

/// Group g holds [begin[g], begin[g + 1]) of the grouped axis; its tiles along that axis start at number first_tile[g];
/// in a copy whose groups are padded it starts at place[g] and is followed by zeros up to place[g + 1].
struct OperandGroups {
  std::int32_t count = 1;
  std::int32_t begin[kMostProductGroups + 1] = {};
  std::int32_t first_tile[kMostProductGroups + 1] = {};
  std::int32_t place[kMostProductGroups + 1] = {};
};

/// The group that holds `index` in a list of starts; empty groups hold nothing.
NG_HD std::int32_t group_at(const std::int32_t* starts, std::int32_t count, std::int64_t index) {
  std::int32_t low = 0;
  for (std::int32_t high = count - 1; low < high;) {
    const std::int32_t middle = (low + high) / 2;
    if (index < starts[middle + 1])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

}  // namespace ng::cuda
