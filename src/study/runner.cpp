// SPDX-License-Identifier: Apache-2.0
//
// The local pool.
#include "narrowgauge/study/runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <deque>
#include <memory>
#include <system_error>
#include <thread>

#include "child_process.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/interrupt.hpp"

namespace ng {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds(50);    // for ended children
constexpr auto kLook = std::chrono::milliseconds(1500);  // into their run files

std::string tail_of(const fs::path& log, std::size_t lines) {
  if (!fs::exists(log)) return {};
  std::string text = read_file(log);
  while (text.ends_with('\n')) text.pop_back();
  std::size_t begin = text.size();
  for (std::size_t i = 0; i < lines && begin != std::string::npos && begin > 0; ++i)
    begin = text.rfind('\n', begin - 1);
  return begin == std::string::npos || begin == 0 ? text : text.substr(begin + 1);
}

std::string ending(int code) {
  return code > 128 && code != kExitInterrupted ? fmt::format("ended by signal {}", code - 128)
                                                : fmt::format("exit code {}", code);
}

struct Child {
  const PlannedRun* run;
  std::unique_ptr<ChildProcess> process;
  RunProgress progress;
};

class Pool {
 public:
  Pool(const RunPlan& plan, const RunnerOptions& options, StatusLine& status, bool announce)
      : plan_(plan), options_(options), status_(status), announce_(announce) {}

  RunnerResult run() {
    sort_runs();
    const auto cores = std::max(1U, std::thread::hardware_concurrency());
    std::int64_t jobs = options_.jobs > 0 ? options_.jobs : plan_.study.jobs > 0 ? plan_.study.jobs : cores;
    jobs = std::clamp<std::int64_t>(jobs, 1, std::max<std::int64_t>(1, static_cast<std::int64_t>(waiting_.size())));
    threads_ = std::max(1, static_cast<int>(cores) / static_cast<int>(jobs));
    begin_ = Clock::now();
    while (!waiting_.empty() || !children_.empty()) {
      if (interrupt_requested() && !result_.interrupted) stop();
      while (!waiting_.empty() && children_.size() < static_cast<std::size_t>(jobs)) {
        start(*waiting_.front());
        waiting_.pop_front();
      }
      std::this_thread::sleep_for(kPoll);
      reap();
      if (Clock::now() - looked_ > kLook) look();
    }
    status_.finish();
    return std::move(result_);
  }

 private:
  void sort_runs() {
    for (const PlannedRun& run : plan_.runs) {
      if (options_.index && run.index != *options_.index) continue;
      const RunProgress progress = progress_of(run.file);
      all_steps_ += plan_.study.training.steps;
      ++all_runs_;
      switch (progress.state) {
        case RunState::done:
          ++result_.done;
          break;
        case RunState::diverged:
          ++result_.diverged;
          break;
        case RunState::running:
          ++result_.elsewhere;
          say(run, "another process is at it");
          break;
        case RunState::damaged:
          result_.failed.push_back({run.index, progress.problem + "; remove the file to start the run anew", {}});
          break;
        case RunState::cut:
          steps_before_ += progress.steps_done;
          waiting_.push_back(&run);
          continue;
        case RunState::absent:
          waiting_.push_back(&run);
          continue;
      }
      steps_ended_ += plan_.study.training.steps;
    }
    steps_before_ += steps_ended_;
  }

  void start(const PlannedRun& run) {
    const RunProgress progress = progress_of(run.file);
    const bool resume = progress.state == RunState::cut;
    if (resume) say(run, fmt::format("goes on; it had got to step {}", progress.steps_done));
    children_.push_back(
        {&run,
         std::make_unique<ChildProcess>(
             options_.program, resume ? resume_arguments(run, threads_) : train_arguments(plan_, run, threads_),
             run.log, resume ? LogMode::append : LogMode::fresh),
         progress});
    ++result_.started;
  }

  void reap() {
    for (std::size_t i = 0; i < children_.size();) {
      const std::optional<int> code = children_[i].process->poll();
      if (!code) {
        ++i;
        continue;
      }
      finish(*children_[i].run, *code);
      children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  void finish(const PlannedRun& run, int code) {
    const RunProgress progress = progress_of(run.file);
    steps_ended_ += plan_.study.training.steps;
    if (code == kExitDone && progress.state == RunState::done) {
      ++result_.done;
      say(run, fmt::format("done, held-out {:.4f}, {}", progress.eval_loss, duration_text(progress.seconds)));
    } else if (code == kExitDiverged && progress.state == RunState::diverged) {
      ++result_.diverged;
      say(run, fmt::format("diverged after step {}", progress.steps_done));
    } else if (code == kExitInterrupted) {
      ++result_.cut;
      say(run, fmt::format("stopped after step {}", progress.steps_done));
    } else {
      const std::string why = code == kExitDone || code == kExitDiverged
                                  ? fmt::format("{}, but its file is {}", ending(code), name_of(progress.state))
                                  : ending(code);
      // In the order of the plan, whichever child ended first.
      const auto later = std::find_if(result_.failed.begin(), result_.failed.end(),
                                      [&](const FailedRun& failed) { return failed.index > run.index; });
      result_.failed.insert(later, {run.index, why, tail_of(run.log, 12)});
      say(run, "failed, " + why);
    }
  }

  void stop() {
    result_.interrupted = true;
    result_.cut += waiting_.size();
    waiting_.clear();
    for (const Child& child : children_) child.process->send(SIGINT);
    if (!children_.empty()) {
      status_.message(
          fmt::format("interrupted: {} running, asked to checkpoint and end (again: end at once)", children_.size()));
    }
  }

  void look() {
    looked_ = Clock::now();
    std::int64_t steps = steps_ended_;
    std::string losses;
    for (Child& child : children_) {
      if (const RunProgress now = progress_of(child.run->file); now.state != RunState::damaged) child.progress = now;
      steps += child.progress.steps_done;
      if (std::isfinite(child.progress.loss)) {
        losses += fmt::format("{}{} s{} {:.3f}", losses.empty() ? "" : ", ", child.run->arm.name, child.run->seed,
                              child.progress.loss);
      }
    }
    ProgressState state;
    state.label = fmt::format("{} {}/{} runs", plan_.study.name,
                              result_.done + result_.diverged + result_.failed.size() + result_.elsewhere, all_runs_);
    state.step = steps;
    state.steps = all_steps_;
    state.loss = losses;
    const double elapsed = std::chrono::duration<double>(looked_ - begin_).count();
    const std::int64_t since = steps - steps_before_;
    if (since > 0 && !result_.interrupted) {
      state.remaining =
          duration_text(elapsed / static_cast<double>(since) * static_cast<double>(all_steps_ - steps)) + " left";
    }
    status_.update(state);
  }

  void say(const PlannedRun& run, const std::string& text) {
    if (announce_) status_.message(run.label() + ": " + text);
  }

  const RunPlan& plan_;
  const RunnerOptions& options_;
  StatusLine& status_;
  bool announce_;
  RunnerResult result_;
  std::deque<const PlannedRun*> waiting_;
  std::vector<Child> children_;
  int threads_ = 1;
  std::size_t all_runs_ = 0;
  std::int64_t all_steps_ = 0, steps_ended_ = 0, steps_before_ = 0;
  Clock::time_point begin_{}, looked_{};
};

void make_runs_folder(const RunPlan& plan) {
  std::error_code error;
  fs::create_directories(plan.runs_folder(), error);
  if (error) throw_file_error("make", plan.runs_folder(), error.value());
}

}  // namespace

RunnerResult run_study(const RunPlan& plan, const RunnerOptions& options, StatusLine& status, bool announce) {
  if (options.index && *options.index >= plan.runs.size()) {
    throw UserError(
        fmt::format("there is no run {}; the study has runs 0 to {}", *options.index, plan.runs.size() - 1));
  }
  make_runs_folder(plan);
  return Pool(plan, options, status, announce).run();
}

std::string slurm_script(const RunPlan& plan, const fs::path& program) {
  std::string indices;
  for (const PlannedRun& run : plan.runs) {
    if (is_finished(progress_of(run.file).state)) continue;
    indices += fmt::format("{}{}", indices.empty() ? "" : ",", run.index);
  }
  const auto shell_quoted = [](const std::string& text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
  };
  return fmt::format(
      "#!/bin/sh\n"
      "# Written by narrowgauge study run --launcher slurm: one task for each unfinished run.\n"
      "#SBATCH --job-name=narrowgauge-{0}\n"
      "#SBATCH --array={1}\n"
      "#SBATCH --cpus-per-task=1\n"
      "#SBATCH --signal=B:INT@60\n"
      "#SBATCH --output={2}/slurm-%A_%a.log\n"
      "exec {3} study run {4} --index \"$SLURM_ARRAY_TASK_ID\" --quiet\n",
      plan.study.name, indices, plan.runs_folder().string(), shell_quoted(program.string()),
      shell_quoted(plan.study.folder.string()));
}

std::string submit_to_slurm(const RunPlan& plan, const fs::path& program) {
  const bool finished = std::all_of(plan.runs.begin(), plan.runs.end(),
                                    [](const PlannedRun& run) { return is_finished(progress_of(run.file).state); });
  if (finished) return {};
  make_runs_folder(plan);
  const fs::path script = plan.runs_folder() / "array.sbatch";
  const fs::path answer = plan.runs_folder() / "array.sbatch.log";
  write_file(script, slurm_script(plan, program));
  ChildProcess sbatch("sbatch", {script.string()}, answer, LogMode::fresh);
  const int code = sbatch.wait();
  if (code == 127) {
    throw UserError(
        fmt::format("sbatch is not on this machine's PATH, so nothing was submitted; the script is '{}'. "
                    "--launcher local runs the study here",
                    script.string()));
  }
  const std::string text = tail_of(answer, 10);
  if (code != 0) throw UserError(fmt::format("sbatch refused '{}' ({}): {}", script.string(), ending(code), text));
  return text;
}

}  // namespace ng
