// SPDX-License-Identifier: Apache-2.0
//
// Normal numbers of a random stream by element, so that layout, threads and ranks never enter.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/elementary.hpp"

namespace ng {

/// Element i has mean 0 and the given deviation and takes words 2(i mod 2) and 2(i mod 2)+1 of random block i/2.
NG_HD float normal_number(const RandomStream& stream, std::uint64_t element, double deviation) {
  const PhiloxBlock block = random_block(stream, element / 2);
  const std::uint64_t word = 2 * (element % 2);
  return static_cast<float>(mul_rn(normal_from_bits(block.word[word], block.word[word + 1]), deviation));
}

}  // namespace ng
