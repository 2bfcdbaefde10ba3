// SPDX-License-Identifier: Apache-2.0
//
// The runs of a study: arms times seeds, each with an identity of what decides its numbers. The identity is part of the
// run file's name, so a changed recipe, setting, corpus or arithmetic source makes new runs, and an unchanged one finds
// its finished runs again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/study/study_file.hpp"

namespace ng {

struct PlannedRun {
  std::size_t index = 0;  ///< in RunPlan::runs
  StudyArm arm;
  std::uint32_t seed = 0;
  std::string id;              ///< RunPlanned::run_id of training/trainer.hpp: of all that decides the run's numbers
  std::filesystem::path file;  ///< DIR/runs/ARM-sSEED-ID.h5
  std::filesystem::path log;   ///< what the run wrote to stderr: the same name with .log
  std::int64_t tokens = 0;     ///< trained on

  /// "mxfp4 seed 1"
  [[nodiscard]] std::string label() const;
};

struct RunPlan {
  StudyFile study;
  std::vector<PlannedRun> runs;  ///< all arms of the first seed, then of the next

  [[nodiscard]] std::filesystem::path runs_folder() const { return study.folder / "runs"; }
  [[nodiscard]] std::filesystem::path report_folder() const { return study.folder / "report"; }
};

/// Resolves every recipe on the study's model and digests the data; trains nothing, writes nothing.
/// UserError naming the file at fault.
[[nodiscard]] RunPlan make_run_plan(StudyFile study);

/// `narrowgauge` arguments of a fresh run.
[[nodiscard]] std::vector<std::string> train_arguments(const RunPlan& plan, const PlannedRun& run, int threads);
/// `narrowgauge` arguments that go on with a run that was cut.
[[nodiscard]] std::vector<std::string> resume_arguments(const PlannedRun& run, int threads);

enum class RunState {
  absent,   ///< no run file
  running,  ///< a living process writes it
  cut,      ///< interrupted or killed: `train --resume` goes on with it
  done,
  diverged,
  damaged  ///< there is a file that cannot be read
};
/// "not started", "running", "cut", "done", "diverged", "damaged"
[[nodiscard]] std::string_view name_of(RunState state);
[[nodiscard]] inline bool is_finished(RunState state) {
  return state == RunState::done || state == RunState::diverged;
}

/// What stands in a run file now. Never throws for what is wrong with the file: `problem` says it.
struct RunProgress {
  RunState state = RunState::absent;
  std::int64_t steps_done = 0;
  double loss = 0;       ///< of the last step, NaN if there is none
  double eval_loss = 0;  ///< held-out, the last one, NaN if there is none
  double seconds = 0;    ///< of training so far
  std::string problem;
};
[[nodiscard]] RunProgress progress_of(const std::filesystem::path& run_file);

/// The plan as a table: index, arm, seed, id, tokens, state. Ends with totals.
[[nodiscard]] std::string plan_table(const RunPlan& plan);
/// How far each run is: state, steps, losses, seconds.
[[nodiscard]] std::string status_table(const RunPlan& plan);

}  // namespace ng
