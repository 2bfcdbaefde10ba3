// SPDX-License-Identifier: Apache-2.0
//
// Claim: kill -9 at any moment of a run leaves a file that every command reads, loses at most 10 s of rows, and a
// resumed run ends with the bytes of one that was never killed: losses, evaluations, router loads, records, weights and
// optimizer state. `cli_kill` kills a few times; `cli_kill_often` (label exhaustive) fifty times.
// Alone: ctest --test-dir build/release -R cli_kill
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "cli/process.hpp"
#include "training/small_run.hpp"

namespace ng::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kKills = NG_KILLS;

std::vector<std::string> start_words(const std::string& model, const std::string& run, int steps, int checkpoint) {
  return {"train",
          "--model",
          model,
          "--recipe",
          "mxfp4_sr_all",
          "--data",
          "austen",
          "--out",
          run,
          "--steps",
          std::to_string(steps),
          "--set",
          "batch=4",
          "--set",
          "sequence_length=64",
          "--set",
          "micro_batches=2",
          "--set",
          "eval_every=20",
          "--set",
          "eval_windows=8",
          "--set",
          "checkpoint_every=" + std::to_string(checkpoint),

          "--quiet"};
}

// All rows but times and memory.
void expect_same_streams(const std::string& a, const std::string& b) {
  const RunReader left(a);
  const RunReader right(b);
  const std::vector<EvalRow> evals[] = {left.eval(), right.eval()};
  ASSERT_EQ(evals[0].size(), evals[1].size());
  for (std::size_t i = 0; i < evals[0].size(); ++i) {
    EXPECT_EQ(evals[0][i].step, evals[1][i].step);
    EXPECT_EQ(evals[0][i].loss, evals[1][i].loss);
    EXPECT_EQ(evals[0][i].loss_bf16, evals[1][i].loss_bf16);
  }
  const std::vector<MoeRow> moe[] = {left.moe(), right.moe()};
  ASSERT_EQ(moe[0].size(), moe[1].size());
  for (std::size_t i = 0; i < moe[0].size(); ++i) {
    EXPECT_EQ(moe[0][i].step, moe[1][i].step);
    EXPECT_EQ(moe[0][i].load, moe[1][i].load);
    EXPECT_EQ(moe[0][i].aux_loss, moe[1][i].aux_loss);
  }
  ASSERT_EQ(left.record_names(), right.record_names());
  for (const std::string& name : left.record_names()) {
    EXPECT_EQ(left.record(name).steps, right.record(name).steps) << name;
    const std::vector<float> values[] = {left.record(name).values, right.record(name).values};
    ASSERT_EQ(values[0].size(), values[1].size()) << name;
    EXPECT_EQ(0, std::memcmp(values[0].data(), values[1].data(), values[0].size() * sizeof(float))) << name;
  }
}

TEST(Killed, AtAnyMomentAndResumed) {
  const TemporaryFolder folder;
  const std::string model = folder.write("m.toml", ng_test::kSmallModel);
  const int steps = kKills < 20 ? 80 : 240;
  const std::string whole = folder.file("whole.h5");
  const auto begin = Clock::now();
  const Outcome uncut = narrowgauge(start_words(model, whole, steps, 4));
  ASSERT_EQ(uncut.code, 0) << uncut.err;
  const double alone = std::chrono::duration<double>(Clock::now() - begin).count();
  const ng_test::End expected = ng_test::end_of(whole);

  // Moments uniform over a stretch of about a sixth of the run, start and setting up included: on the way to its end a
  // run is killed ten times or so; every fifth in the first 60 ms, where the file is made or opened again.
  std::mt19937 random(20261122);
  std::uniform_real_distribution<double> moment(0.0, alone / 6);
  int kills = 0;
  int before_there_was_a_file = 0;
  for (int run_number = 0; kills < kKills; ++run_number) {
    const std::string run = folder.file("run" + std::to_string(run_number) + ".h5");
    bool done = false;
    while (!done) {
      const bool resume = std::filesystem::exists(run);
      Process process(resume ? std::vector<std::string>{"train", "--resume", run, "--quiet"}
                             : start_words(model, run, steps, 4));
      if (kills < kKills) {
        const double at = moment(random);
        std::this_thread::sleep_for(std::chrono::duration<double>(kills % 5 == 0 ? at / alone * 6 * 0.06 : at));
        process.send(SIGKILL);
      }
      const Outcome outcome = process.finish();
      done = outcome.code == 0;
      if (done) break;
      ASSERT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
      ++kills;
      if (!std::filesystem::exists(run)) {
        ++before_there_was_a_file;
        continue;
      }
      const Outcome inspected = narrowgauge({"inspect", run});
      ASSERT_EQ(inspected.code, 0) << inspected.err;
      ASSERT_EQ(RunReader(run).status(), RunStatus::running);
      ASSERT_FALSE(is_being_written(run));
    }
    const ng_test::End end = ng_test::end_of(run);
    EXPECT_EQ(ng_test::differing(expected, end), std::vector<std::string>{});
    EXPECT_EQ(expected.losses, end.losses);
    expect_same_streams(whole, run);
    for (const std::string& name : folder.names()) EXPECT_EQ(name.find(".part"), std::string::npos) << name;
  }
  std::printf("%d kills, %d of them before the run file had its name; every file readable, every end byte-equal\n",
              kills, before_there_was_a_file);
  EXPECT_LT(before_there_was_a_file, kills);
}

// Rows are on disk after 10 s at the latest, whatever the cadence of checkpoints: what a kill takes is younger.
TEST(Killed, LosesAtMostTenSeconds) {
  const TemporaryFolder folder;
  const std::string model = folder.write("m.toml", ng_test::kSmallModel);
  const std::string run = folder.file("run.h5");
  Process process(start_words(model, run, 1000000, 0));
  while (!std::filesystem::exists(run)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto begin = Clock::now();
  std::this_thread::sleep_for(std::chrono::milliseconds(kKills < 20 ? 11500 : 34000));
  process.send(SIGKILL);
  const double lived = std::chrono::duration<double>(Clock::now() - begin).count();
  ASSERT_EQ(process.finish().code, 128 + SIGKILL);
  const std::vector<TrainRow> rows = RunReader(run).train();
  ASSERT_FALSE(rows.empty());
  // `seconds` of a row is since the run's begin, which lies after the file has its name: the sum can only be too small,
  // by what passed between; that is part of what was lost.
  double recorded = 0;
  for (const TrainRow& row : rows) recorded += row.seconds;
  std::printf("killed after %.1f s with %.1f s recorded\n", lived, recorded);
  EXPECT_LT(lived - recorded, 10.5);
}

}  // namespace
}  // namespace ng::test
