// SPDX-License-Identifier: Apache-2.0
//
// Claim: `bench` measures the machine's copy before the kernels, prints and stores the same figures, leaves nothing
// behind, and refuses what it cannot measure.
// Alone: build/release/bin/cli_program --gtest_filter='Bench.*'
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/process.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"

namespace ng::test {
namespace {

TEST(Bench, KernelsOfTheCpuAgainstItsCopy) {
  TemporaryFolder folder;
  const std::string out = (folder.path() / "speeds.json").string();
  const std::vector<std::string> words = {"bench",     "kernel",    "--backend", "cpu",   "--only",
                                          "fp8_1x128", "--repeats", "1",         "--out", out};
  const Outcome outcome = narrowgauge(words);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("ceiling/copy ")) << outcome.out;
  const Json json = Json::parse(read_file(out), out);
  const auto& speeds = json.at("speeds").as_array();
  ASSERT_EQ(speeds.size(), 3u);
  EXPECT_EQ(speeds[1].at("kernel").as_string(), "quantize/fp8_1x128");
  EXPECT_EQ(speeds[2].at("kernel").as_string(), "quantize/fp8_1x128 column");
  for (const Json& speed : speeds) EXPECT_GT(speed.at("gigabytes_per_second").as_double(), 0.0);
  // Bytes by definition: FP32 in, one byte a code and four a scale out.
  const double rate = (4.0 + 1.0 + 4.0 / 128.0) * 2048 * 8192 / speeds[1].at("milliseconds").as_double() * 1e-6;
  EXPECT_DOUBLE_EQ(speeds[1].at("gigabytes_per_second").as_double(), rate);
  const Outcome again = narrowgauge(words);
  EXPECT_EQ(again.code, 2);
  EXPECT_NE(again.err.find("exists"), std::string::npos) << again.err;
}

TEST(Bench, StepsOfARun) {
  const Outcome outcome = narrowgauge({"bench", "train", "--backend", "cpu", "--model", "tiny", "--recipe", "bf16",
                                       "--data", "austen", "--steps", "2", "--threads", "2", "--set", "train.batch=1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("bf16 on cpu (ieee): 2 steps of 128 tokens, median "), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find(" tokens/s"), std::string::npos) << outcome.out;
}

TEST(Bench, RefusesWhatItCannotMeasure) {
  const struct {
    std::vector<std::string> words;
    std::string wanted;
  } cases[] = {
      {{"bench"}, "what is missing: `kernel`"},
      {{"bench", "kernel", "--backend", "cpu", "--only", "no such", "--repeats", "1"}, "no kernel has --only no such"},
      {{"bench", "kernel", "--model", "tiny"}, "--model does not go with kernel"},
      {{"bench", "train", "--backend", "cpu", "--model", "tiny"}, "--recipe is needed"},
      {{"bench", "kernel", "--repeats", "0"}, "--repeats"},
      {{"bench", "kernel", "--set", "train.batch=1"}, "--set does not go with kernel"},
      {{"bench", "train", "--repeats", "3"}, "--repeats does not go with train"},
      {{"bench", "train", "--only", "mxfp4"}, "--only does not go with train"},
      {{"bench", "kernel", "--backend", "cpu", "--out", "/no/such/folder/x.json"}, "cannot "},
  };
  for (const auto& c : cases) {
    const Outcome outcome = narrowgauge(c.words);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    if (c.words.back() != "1") {
      EXPECT_EQ(outcome.out, "") << "measured before it refused";
    }
    EXPECT_NE(outcome.err.find(c.wanted), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace ng::test
