// SPDX-License-Identifier: Apache-2.0
//
// Carries out the runs of a plan as child processes of the same program: a pool on this machine, or an array of jobs of
// a Slurm cluster. Finished runs are skipped, cut ones resumed, one that fails does not stop the others.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "narrowgauge/base/progress.hpp"
#include "narrowgauge/study/run_plan.hpp"

namespace ng {

struct RunnerOptions {
  std::filesystem::path program;     ///< narrowgauge; /proc/self/exe where the program runs itself
  std::int64_t jobs = 0;             ///< runs at the same time; 0: what the study says, else the number of cores
  std::optional<std::size_t> index;  ///< only this run of the plan
};

struct FailedRun {
  std::size_t index = 0;
  std::string why;       ///< "exit code 3", "ended by signal 9", or what is wrong with its file
  std::string log_tail;  ///< the last lines of its log
};

struct RunnerResult {
  std::size_t done = 0, diverged = 0;  ///< of the runs asked for, earlier ones included
  std::size_t elsewhere = 0;           ///< another process is at them
  std::size_t cut = 0;                 ///< ended early, ready to be resumed
  std::size_t started = 0;             ///< by this call
  std::vector<FailedRun> failed;
  bool interrupted = false;
};

/// Runs what is not finished. A child has DIR/runs/*.log for its output and cores / jobs threads; it is in a process
/// group of its own, and gets SIGTERM when this process dies. After Ctrl-C or SIGTERM (base/interrupt.hpp) every child
/// is asked by SIGINT to checkpoint and end, and `interrupted` is set. A run that diverges is a result, not a failure.
/// `announce`: one line for each run that ends. UserError for an index outside of the plan; UserError or MachineError
/// when DIR/runs cannot be made.
[[nodiscard]] RunnerResult run_study(const RunPlan& plan, const RunnerOptions& options, StatusLine& status,
                                     bool announce);

/// Script of a Slurm array with one task for each unfinished run; each calls `program study run DIR --index`.
[[nodiscard]] std::string slurm_script(const RunPlan& plan, const std::filesystem::path& program);
/// Writes the script to DIR/runs/array.sbatch and submits it with sbatch, whose answer is returned. Without unfinished
/// runs nothing is submitted and the answer is empty. UserError when sbatch is not there or refuses; the script stays.
[[nodiscard]] std::string submit_to_slurm(const RunPlan& plan, const std::filesystem::path& program);

}  // namespace ng
