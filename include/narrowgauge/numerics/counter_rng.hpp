// SPDX-License-Identifier: Apache-2.0
//
// Random bits as a function of (seed, purpose, step, tensor, element): Philox4x32-10 (Salmon et al., SC'11; equal to
// Random123's). Layout, tiles, threads, ranks and micro-batches never enter.
#pragma once

#include <cstdint>

#include "narrowgauge/numerics/host_device.hpp"

namespace ng {

struct PhiloxBlock {
  std::uint32_t word[4];
};

NG_HD constexpr PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(0xD2511F53u) * counter.word[0];
    const std::uint64_t p1 = static_cast<std::uint64_t>(0xCD9E8D57u) * counter.word[2];
    counter =
        PhiloxBlock{{static_cast<std::uint32_t>(p1 >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(p1),
                     static_cast<std::uint32_t>(p0 >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(p0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// What the bits are for: the second word of the key. Values are part of every run's identity; only append.
enum class RandomPurpose : std::uint32_t {
  initial_weights = 1,
  data_order = 2,
  stochastic_rounding = 3,
  hadamard_signs = 4,
  test_vectors = 5,
};

/// A stream of draws for one tensor in one step.
struct RandomStream {
  std::uint32_t seed = 0;
  RandomPurpose purpose = RandomPurpose::stochastic_rounding;
  std::uint32_t tensor_id = 0;  ///< first 32 bits of SHA-256 of the site's name
  std::uint32_t step = 0;
};

/// The 128-bit block number `index` of a stream: counter = (index low, index high, tensor id, step).
NG_HD constexpr PhiloxBlock random_block(const RandomStream& s, std::uint64_t index) {
  return philox4x32_10(
      PhiloxBlock{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), s.tensor_id, s.step}},
      s.seed, static_cast<std::uint32_t>(s.purpose));
}

/// Field `lane` of `bits` (8, 16 or 32) bits of a block, lowest first.
NG_HD constexpr std::uint32_t block_field(const PhiloxBlock& block, int bits, std::uint32_t lane) {
  const std::uint32_t position = lane * static_cast<std::uint32_t>(bits);
  const std::uint32_t word = block.word[position / 32] >> (position % 32);
  return bits == 32 ? word : word & ((1u << bits) - 1u);
}

/// The draw of `bits` bits (8, 16 or 32) of element `element` (row-major index in the logical tensor of the whole
/// step). One block serves 128/bits neighbouring elements.
NG_HD constexpr std::uint32_t random_draw(const RandomStream& s, std::uint64_t element, int bits) {
  const std::uint64_t per_block = 128u / static_cast<unsigned>(bits);
  return block_field(random_block(s, element / per_block), bits, static_cast<std::uint32_t>(element % per_block));
}

}  // namespace ng
