// SPDX-License-Identifier: Apache-2.0
//
// Claim: every reader takes every file of the corpus (seeds and what fuzzing found, right kind or wrong), cut short
// anywhere and with bits flipped, without a crash, and keeps its promises on what it accepts.
// Alone: build/release/bin/fuzz_replay
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz_targets.hpp"

namespace ng::fuzz {
namespace {

struct Seed {
  std::string name;
  std::vector<std::uint8_t> bytes;
};

const std::vector<Seed>& corpus() {
  static const std::vector<Seed> seeds = [] {
    std::vector<Seed> all;
    for (const auto& entry : std::filesystem::directory_iterator(NG_SOURCE_DIR "/tests/fuzz/corpus")) {
      std::ifstream file(entry.path(), std::ios::binary);
      all.push_back({entry.path().filename().string(), {std::istreambuf_iterator<char>(file), {}}});
    }
    std::sort(all.begin(), all.end(), [](const Seed& a, const Seed& b) { return a.name < b.name; });
    return all;
  }();
  return seeds;
}

class Replay : public testing::TestWithParam<Target> {};

TEST_P(Replay, EveryFileOfTheCorpus) {
  bool own = false;
  for (const Seed& seed : corpus()) {
    SCOPED_TRACE(seed.name);
    own = own || seed.name.starts_with(GetParam().name);
    EXPECT_NO_THROW(GetParam().run(seed.bytes));
  }
  EXPECT_TRUE(own) << "no seed of this target";
}

// A linear congruential sequence chooses the cuts and flips: the same ones every time.
TEST_P(Replay, ItsOwnFilesDamaged) {
  std::uint32_t state = 1;
  const auto draw = [&](std::size_t below) {
    state = state * 1664525u + 1013904223u;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  for (const Seed& seed : corpus()) {
    if (!seed.name.starts_with(GetParam().name) || seed.bytes.empty()) continue;
    SCOPED_TRACE(seed.name);
    for (int i = 0; i < 40; ++i) {
      const Bytes whole = seed.bytes;
      EXPECT_NO_THROW(GetParam().run(whole.first(draw(whole.size()))));
      std::vector<std::uint8_t> flipped = seed.bytes;
      for (std::size_t n = 1 + draw(3); n > 0; --n)
        flipped[draw(flipped.size())] ^= static_cast<std::uint8_t>(1u << draw(8));
      EXPECT_NO_THROW(GetParam().run(flipped));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Readers, Replay, testing::ValuesIn(kTargets),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace ng::fuzz
