// SPDX-License-Identifier: Apache-2.0
//
// Claim: the runner finishes what can be finished. Children that end well, diverge, fail, die or are interrupted are
// told apart; finished runs are not started again; cut ones go on. This program is also the child: `train` in its first
// word makes it write a real run file and behave as the recipe's name says. Alone: build/bin/unit_study_runner
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "narrowgauge/base/interrupt.hpp"
#include "narrowgauge/study/runner.hpp"
#include "recording_support.hpp"

namespace ng {
namespace {

namespace fs = std::filesystem;
using recording_test::append_step;
using recording_test::TemporaryFolder;

constexpr std::int64_t kSteps = 40;

// ---- the child ----

std::string value_of(const std::vector<std::string>& words, const std::string& option) {
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == option) return words[i + 1];
  }
  return {};
}

// Rows up to the end, or up to the misfortune of `what`.
int train(RunFileWriter writer, std::int64_t first, const std::string& what) {
  for (std::int64_t step = first; step < kSteps; ++step) {
    append_step(writer, step);
    if (what == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(25));
    if (what == "diverges" && step == 15) {
      writer.set_status(RunStatus::diverged);
      writer.close();
      return kExitDiverged;
    }
    if (what == "killed" && first == 0 && step == 25) {
      writer.flush();
      ::kill(::getpid(), SIGKILL);
    }
    if (interrupt_requested()) {
      writer.set_status(RunStatus::interrupted);
      writer.close();
      return kExitInterrupted;
    }
  }
  writer.set_status(RunStatus::done);
  writer.close();
  return kExitDone;
}

int child(const std::vector<std::string>& words) {
  install_interrupt_handlers();
  if (const std::string file = value_of(words, "--resume"); !file.empty()) {
    const auto checkpoints = RunReader(file).checkpoints();
    const std::int64_t step = checkpoints.empty() ? 0 : checkpoints.back().step;
    return train(RunFileWriter::reopen(file, step), step, "");
  }
  const std::string what = fs::path(value_of(words, "--recipe")).stem();
  std::fprintf(stderr, "a line from %s, threads %s\n", what.c_str(), value_of(words, "--threads").c_str());
  if (what == "fails") {
    std::fprintf(stderr, "the disk is full\n");
    return kExitMachine;
  }
  if (what == "claims") return kExitDone;  // without a run file
  return train(RunFileWriter::create(value_of(words, "--out"), recording_test::small_setup()), 0, what);
}

// ---- the tests ----

class Runner : public testing::Test {
 protected:
  RunPlan plan_of(const std::vector<std::string>& recipes) {
    RunPlan plan;
    plan.study.folder = folder_ / "study";
    plan.study.name = "fake";
    plan.study.training.steps = kSteps;
    for (const std::string& recipe : recipes) {
      PlannedRun run;
      run.index = plan.runs.size();
      run.arm = {recipe, recipe + ".toml", {}};
      run.id = "0123456789ab";
      run.file = plan.runs_folder() / (recipe + ".h5");
      run.log = plan.runs_folder() / (recipe + ".log");
      plan.runs.push_back(run);
    }
    return plan;
  }

  RunnerResult run(const RunPlan& plan, std::int64_t jobs, std::optional<std::size_t> index = {}) {
    StatusLine status(stderr, StatusLine::Mode::quiet);
    RunnerOptions options;
    options.program = "/proc/self/exe";
    options.jobs = jobs;
    options.index = index;
    return run_study(plan, options, status, false);
  }

  TemporaryFolder folder_;
};

TEST_F(Runner, DoesEverythingOnce) {
  const RunPlan plan = plan_of({"a", "b", "c", "d", "e"});
  const RunnerResult first = run(plan, 2);
  EXPECT_EQ(first.done, 5u);
  EXPECT_EQ(first.started, 5u);
  EXPECT_TRUE(first.failed.empty());
  for (const PlannedRun& r : plan.runs) EXPECT_EQ(progress_of(r.file).state, RunState::done);
  EXPECT_EQ(recording_test::content_of(plan.runs[2].log).substr(0, 14), "a line from c,");
  const RunnerResult second = run(plan, 2);
  EXPECT_EQ(second.done, 5u);
  EXPECT_EQ(second.started, 0u);
}

TEST_F(Runner, OneIndexRunsOne) {
  const RunPlan plan = plan_of({"a", "b", "c"});
  EXPECT_EQ(run(plan, 1, 1).started, 1u);
  EXPECT_FALSE(fs::exists(plan.runs[0].file));
  EXPECT_TRUE(fs::exists(plan.runs[1].file));
  EXPECT_THROW((void)run(plan, 1, 3), UserError);
}

TEST_F(Runner, TellsTheEndingsApart) {
  const RunPlan plan = plan_of({"fails", "diverges", "good", "claims"});
  const RunnerResult result = run(plan, 2);
  EXPECT_EQ(result.done, 1u);
  EXPECT_EQ(result.diverged, 1u);
  ASSERT_EQ(result.failed.size(), 2u);
  std::set<std::string> why;
  for (const FailedRun& failed : result.failed) why.insert(failed.why);
  EXPECT_TRUE(why.contains("exit code 3"));
  EXPECT_TRUE(why.contains("exit code 0, but its file is not started"));
  for (const FailedRun& failed : result.failed) {
    if (failed.index == 0) {
      EXPECT_NE(failed.log_tail.find("the disk is full"), std::string::npos);
    }
  }
  // A diverged run is a result: it is not tried again. A failed one is.
  const RunnerResult again = run(plan, 2);
  EXPECT_EQ(again.started, 2u);
  EXPECT_EQ(again.diverged, 1u);
}

TEST_F(Runner, KilledRunGoesOn) {
  const RunPlan plan = plan_of({"killed"});
  const RunnerResult first = run(plan, 1);
  ASSERT_EQ(first.failed.size(), 1u);
  EXPECT_EQ(first.failed[0].why, "ended by signal 9");
  EXPECT_EQ(progress_of(plan.runs[0].file).state, RunState::cut);
  EXPECT_EQ(progress_of(plan.runs[0].file).steps_done, 26);
  const RunnerResult second = run(plan, 1);
  EXPECT_EQ(second.done, 1u);
  const RunReader reader(plan.runs[0].file.string());
  recording_test::expect_rows(reader, kSteps, kSteps);
}

TEST_F(Runner, DamagedFileIsNamedAndKept) {
  const RunPlan plan = plan_of({"a", "b"});
  fs::create_directories(plan.runs_folder());
  std::ofstream(plan.runs[0].file) << "no run file";
  const RunnerResult result = run(plan, 1);
  EXPECT_EQ(result.done, 1u);
  ASSERT_EQ(result.failed.size(), 1u);
  EXPECT_NE(result.failed[0].why.find("remove the file"), std::string::npos) << result.failed[0].why;
  EXPECT_EQ(recording_test::content_of(plan.runs[0].file), "no run file");
}

TEST_F(Runner, RunOfAnotherProcessIsLeftAlone) {
  const RunPlan plan = plan_of({"a", "b"});
  fs::create_directories(plan.runs_folder());
  RunFileWriter writer = RunFileWriter::create(plan.runs[0].file.string(), recording_test::small_setup());
  append_step(writer, 0);
  writer.flush();
  EXPECT_EQ(progress_of(plan.runs[0].file).state, RunState::running);
  const RunnerResult result = run(plan, 1);
  EXPECT_EQ(result.elsewhere, 1u);
  EXPECT_EQ(result.started, 1u);
}

TEST_F(Runner, ProgramThatCannotRunIsAFailureWithReason) {
  const RunPlan plan = plan_of({"a"});
  StatusLine status(stderr, StatusLine::Mode::quiet);
  RunnerOptions options;
  options.program = folder_ / "missing";
  const RunnerResult result = run_study(plan, options, status, false);
  ASSERT_EQ(result.failed.size(), 1u);
  EXPECT_NE(result.failed[0].log_tail.find("cannot execute"), std::string::npos);
}

TEST_F(Runner, SlurmScriptNamesUnfinishedRuns) {
  const RunPlan plan = plan_of({"a", "b", "c"});
  ASSERT_EQ(run(plan, 1, 1).done, 1u);
  const std::string script = slurm_script(plan, "/opt/it's/narrowgauge");
  EXPECT_NE(script.find("#SBATCH --array=0,2\n"), std::string::npos) << script;
  EXPECT_NE(script.find("exec '/opt/it'\\''s/narrowgauge' study run '"), std::string::npos) << script;
  EXPECT_NE(script.find("--index \"$SLURM_ARRAY_TASK_ID\""), std::string::npos);
}

// Last: the flag of base/interrupt.hpp cannot be taken back within a process, so this runs in one of its own.
TEST_F(Runner, InterruptStopsChildrenWhichThenGoOn) {
  const RunPlan plan = plan_of({"slow", "slow2"});
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    install_interrupt_handlers();
    std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      ::kill(::getpid(), SIGINT);
    }).detach();
    const RunnerResult result = run(plan, 1);
    const bool right = result.interrupted && result.cut == 2 && result.started == 1 && result.failed.empty();
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(RunReader(plan.runs[0].file.string()).status(), RunStatus::interrupted);
  EXPECT_FALSE(fs::exists(plan.runs[1].file));
  const RunnerResult second = run(plan, 2);
  EXPECT_EQ(second.done, 2u);
  recording_test::expect_rows(RunReader(plan.runs[0].file.string()), kSteps, kSteps);
}

}  // namespace
}  // namespace ng

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "train") return ng::child({argv + 1, argv + argc});
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
