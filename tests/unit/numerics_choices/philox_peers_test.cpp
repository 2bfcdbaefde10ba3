// SPDX-License-Identifier: Apache-2.0
//
// Claim: our Philox4x32-10 equals Random123's for any counter and key, and the blocks of cuRAND's host generator, whose
// block i is that of counter (0, 0, i, 0) and key (seed low, seed high). Skipped, loudly, where a maker is not
// installed (packages librandom123-dev; the CUDA toolkit). Alone: build/bin/philox_peers
#include <gtest/gtest.h>

#include <random>

#include "narrowgauge/numerics/counter_rng.hpp"
#include "philox_peers.hpp"

namespace ng_test {
namespace {

PhiloxWords ours(const PhiloxWords& c, std::uint32_t key0, std::uint32_t key1) {
  const ng::PhiloxBlock block = ng::philox4x32_10({{c[0], c[1], c[2], c[3]}}, key0, key1);
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

TEST(PhiloxPeers, Random123) {
  if (!random123_block({}, 0, 0))
    GTEST_SKIP() << "Random123 is not installed (librandom123-dev): Philox is held to its published vectors only";
  std::mt19937 engine(1);
  const auto word = [&] { return static_cast<std::uint32_t>(engine()); };
  for (int i = 0; i < 500000; ++i) {
    const PhiloxWords counter = {word(), word(), word(), word()};
    const std::uint32_t key0 = word(), key1 = word();
    ASSERT_EQ(ours(counter, key0, key1), *random123_block(counter, key0, key1)) << "case " << i;
  }
  // As streams use it: counter = (block low, block high, tensor, step), key = (seed, purpose).
  for (int i = 0; i < 100000; ++i) {
    const ng::RandomStream stream{word(), ng::RandomPurpose::stochastic_rounding, word(), word()};
    const std::uint64_t index = static_cast<std::uint64_t>(word()) << 32 | word();
    const ng::PhiloxBlock block = ng::random_block(stream, index);
    const PhiloxWords got = {block.word[0], block.word[1], block.word[2], block.word[3]};
    const PhiloxWords counter = {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                 stream.tensor_id, stream.step};
    ASSERT_EQ(got, *random123_block(counter, stream.seed, 3));
  }
}

TEST(PhiloxPeers, CurandHostGenerator) {
  for (const std::uint64_t seed :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1234567}, std::uint64_t{0x123456789ABCDEF0}}) {
    constexpr std::uint32_t kBlocks = 4096;
    std::string why;
    const auto words = curand_host_words(seed, 4 * kBlocks, why);
    if (!words) GTEST_SKIP() << "cuRAND's host generator: " << why;
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      const PhiloxWords expected = {(*words)[4 * i], (*words)[4 * i + 1], (*words)[4 * i + 2], (*words)[4 * i + 3]};
      ASSERT_EQ(ours({0, 0, i, 0}, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)), expected)
          << "seed " << seed << " block " << i;
    }
  }
}

}  // namespace
}  // namespace ng_test
