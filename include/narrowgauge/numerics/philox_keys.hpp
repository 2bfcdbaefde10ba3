// SPDX-License-Identifier: Apache-2.0
//
// The blocks of counter_rng.hpp by round keys that were made before, for those who draw many: on a GPU the keys are
// parameters of the kernel, and a round is four instructions. Equal to random_block (tests/parity).
#pragma once

#include "narrowgauge/numerics/counter_rng.hpp"

namespace ng {

struct PhiloxKeys {
  std::uint32_t word[10][2];
};

/// The keys of a stream's ten rounds.
NG_HD constexpr PhiloxKeys stream_keys(const RandomStream& s) {
  PhiloxKeys keys{};
  for (std::uint32_t round = 0; round < 10; ++round) {
    keys.word[round][0] = s.seed + round * 0x9E3779B9u;
    keys.word[round][1] = static_cast<std::uint32_t>(s.purpose) + round * 0xBB67AE85u;
  }
  return keys;
}

/// random_block(s, index), given the stream's keys.
NG_HD constexpr PhiloxBlock random_block(const RandomStream& s, const PhiloxKeys& keys, std::uint64_t index) {
  PhiloxBlock c{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), s.tensor_id, s.step}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(0xD2511F53u) * c.word[0];
    const std::uint64_t p1 = static_cast<std::uint64_t>(0xCD9E8D57u) * c.word[2];
    c = PhiloxBlock{
        {static_cast<std::uint32_t>(p1 >> 32) ^ c.word[1] ^ keys.word[round][0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c.word[3] ^ keys.word[round][1], static_cast<std::uint32_t>(p0)}};
  }
  return c;
}

}  // namespace ng
