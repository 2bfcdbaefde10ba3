// SPDX-License-Identifier: Apache-2.0
//
// From a study file to runs with identities, and what their files say.
#include "narrowgauge/study/run_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/progress.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

namespace {

namespace fs = std::filesystem;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<Setting> settings_of(const StudyFile& study, const StudyArm& arm) {
  std::vector<Setting> settings = study.train;
  settings.insert(settings.end(), arm.set.begin(), arm.set.end());
  return settings;
}

std::string number(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

}  // namespace

std::string PlannedRun::label() const {
  return fmt::format("{} seed {}", arm.name, seed);
}

RunPlan make_run_plan(StudyFile study) {
  RunPlan plan;
  RunRequest request;
  request.model_path = study.model.string();
  request.record_path = study.record;
  request.data = study.data.string();
  request.backend = study.backend;
  request.arithmetic = study.arithmetic;
  for (const std::uint32_t seed : study.seeds) {
    for (const StudyArm& arm : study.arms) {
      request.recipe_path = arm.recipe.string();
      request.settings = settings_of(study, arm);
      request.seed = seed;
      request.read_files();
      PlannedRun run;
      run.index = plan.runs.size();
      run.arm = arm;
      run.seed = seed;
      try {
        run.id = plan_run(request).run_id;
      } catch (const UserError& error) {
        if (arm.set.empty()) throw;
        throw UserError(fmt::format("{}: arm {}: {}", (study.folder / "study.toml").string(), arm.name, error.what()));
      }
      const std::string stem = fmt::format("{}-s{}-{}", arm.name, seed, run.id);
      run.file = study.folder / "runs" / (stem + ".h5");
      run.log = study.folder / "runs" / (stem + ".log");
      run.tokens = study.tokens_per_run();
      plan.runs.push_back(std::move(run));
    }
  }
  plan.study = std::move(study);
  return plan;
}

std::vector<std::string> train_arguments(const RunPlan& plan, const PlannedRun& run, int threads) {
  const StudyFile& study = plan.study;
  std::vector<std::string> arguments = {"train"};
  const auto add = [&](const char* option, std::string value) {
    arguments.emplace_back(option);
    arguments.push_back(std::move(value));
  };
  add("--model", study.model.string());
  add("--recipe", run.arm.recipe.string());
  add("--data", study.data.string());
  add("--backend", study.backend);
  add("--arithmetic", study.arithmetic);
  add("--seed", fmt::format("{}", run.seed));
  for (const auto& [path, value] : settings_of(study, run.arm)) add("--set", path + "=" + value);
  if (!study.record.empty()) add("--record", study.record);
  add("--out", run.file.string());
  add("--threads", fmt::format("{}", threads));
  arguments.emplace_back("--quiet");
  return arguments;
}

std::vector<std::string> resume_arguments(const PlannedRun& run, int threads) {
  return {"train", "--resume", run.file.string(), "--threads", fmt::format("{}", threads), "--quiet"};
}

std::string_view name_of(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::cut:
      return "cut";
    case RunState::done:
      return "done";
    case RunState::diverged:
      return "diverged";
    case RunState::damaged:
      return "damaged";
    case RunState::absent:
      break;
  }
  return "not started";
}

RunProgress progress_of(const fs::path& run_file) {
  RunProgress progress;
  progress.loss = progress.eval_loss = kNan;
  if (!fs::exists(run_file)) return progress;
  try {
    const RunReader reader(run_file.string());
    for (const TrainRow& row : reader.train()) {
      progress.steps_done = row.step + 1;
      progress.loss = row.loss;
      progress.seconds += row.seconds;
    }
    const std::vector<EvalRow> eval = reader.eval();
    if (!eval.empty()) progress.eval_loss = eval.back().loss;
    const RunStatus status = reader.status();
    if (status == RunStatus::done) {
      progress.state = RunState::done;
    } else if (status == RunStatus::diverged) {
      progress.state = RunState::diverged;
    } else if (is_being_written(run_file.string())) {
      progress.state = RunState::running;
    } else {
      progress.state = RunState::cut;
    }
  } catch (const std::exception& error) {
    progress.state = RunState::damaged;
    progress.problem = message_of(error);
  }
  return progress;
}

std::string plan_table(const RunPlan& plan) {
  std::size_t width = 3;
  for (const StudyArm& arm : plan.study.arms) width = std::max(width, arm.name.size());
  std::string out =
      fmt::format("{:>5}  {:<{}}  {:>5}  {:<12}  {:>12}  state\n", "index", "arm", width, "seed", "id", "tokens");
  std::int64_t tokens = 0, left = 0;
  std::size_t finished = 0;
  for (const PlannedRun& run : plan.runs) {
    const RunProgress progress = progress_of(run.file);
    out += fmt::format("{:>5}  {:<{}}  {:>5}  {:<12}  {:>12}  {}\n", run.index, run.arm.name, width, run.seed, run.id,
                       run.tokens, name_of(progress.state));
    tokens += run.tokens;
    if (is_finished(progress.state)) {
      ++finished;
    } else {
      left += run.tokens -
              std::min(plan.study.training.steps, progress.steps_done) * run.tokens / plan.study.training.steps;
    }
  }
  return out + fmt::format("{} runs of {} steps, {} finished; {} tokens in all, {} still to train on\n",
                           plan.runs.size(), plan.study.training.steps, finished, tokens, left);
}

std::string status_table(const RunPlan& plan) {
  std::size_t width = 3;
  for (const StudyArm& arm : plan.study.arms) width = std::max(width, arm.name.size());
  std::string out = fmt::format("{:<{}}  {:>5}  {:<11}  {:>11}  {:>9}  {:>9}  {:>8}\n", "arm", width, "seed", "state",
                                "step", "loss", "held-out", "time");
  std::string problems;
  std::size_t finished = 0;
  for (const PlannedRun& run : plan.runs) {
    const RunProgress p = progress_of(run.file);
    if (is_finished(p.state)) ++finished;
    out += fmt::format("{:<{}}  {:>5}  {:<11}  {:>11}  {:>9}  {:>9}  {:>8}\n", run.arm.name, width, run.seed,
                       name_of(p.state), fmt::format("{}/{}", p.steps_done, plan.study.training.steps),
                       number(p.loss, "{:.4f}"), number(p.eval_loss, "{:.4f}"),
                       p.seconds > 0 ? duration_text(p.seconds) : "-");
    if (!p.problem.empty()) problems += fmt::format("{}: {}\n", run.label(), p.problem);
  }
  return out + fmt::format("{} of {} runs finished\n", finished, plan.runs.size()) + problems;
}

}  // namespace ng
