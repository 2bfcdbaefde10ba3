// SPDX-License-Identifier: Apache-2.0
//
// `study`: a grid of runs, from the plan to the report.
#include <fmt/format.h>

#include "commands.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/progress.hpp"
#include "narrowgauge/study/collect.hpp"
#include "narrowgauge/study/report.hpp"
#include "narrowgauge/study/run_plan.hpp"
#include "narrowgauge/study/runner.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

namespace fs = std::filesystem;

std::string counts(const RunnerResult& result) {
  std::string text = fmt::format("{} done", result.done);
  const auto add = [&](std::size_t count, const char* what) {
    if (count > 0) text += fmt::format(", {} {}", count, what);
  };
  add(result.diverged, "diverged");
  add(result.elsewhere, "with another process");
  add(result.cut, "to be gone on with");
  add(result.failed.size(), "failed");
  return text;
}

// A log's end without the run's own name, to see which runs failed in the same way.
std::string nameless(std::string text, const PlannedRun& run) {
  const std::string name = run.file.stem().string();
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at))
    text.replace(at, name.size(), "");
  return text;
}

// Runs that failed in the same way are named together, with the log of the first.
void print_failures(const RunPlan& plan, const RunnerResult& result) {
  std::map<std::pair<std::string, std::string>, std::vector<const FailedRun*>> alike;
  for (const FailedRun& failed : result.failed) {
    alike[{failed.why, nameless(failed.log_tail, plan.runs[failed.index])}].push_back(&failed);
  }
  for (const auto& [how, failures] : alike) {
    std::vector<std::string> labels;
    for (const FailedRun* failed : failures) labels.push_back(plan.runs[failed->index].label());
    write_stderr(fmt::format("\nfailed, {}: {}\n", how.first, fmt::join(labels, ", ")));
    const FailedRun& first = *failures.front();
    if (first.log_tail.empty()) continue;
    write_stderr(fmt::format("the end of {}:\n{}\n", plan.runs[first.index].log.string(), first.log_tail));
  }
}

void report(const RunPlan& plan) {
  const StudyResult study = collect(plan, fmt::format("narrowgauge study run {}", plan.study.folder.string()));
  const fs::path page = write_report(study, plan.report_folder());
  write_stdout(fmt::format("{}\nreport: {}\n", text_table(study), page.string()));
}

int submit(const RunPlan& plan) {
  const std::string answer = submit_to_slurm(plan, fs::read_symlink("/proc/self/exe"));
  if (answer.empty()) {
    write_stdout("nothing to submit: every run is finished\n");
  } else {
    write_stdout(fmt::format("{}\nwhen it is done: narrowgauge study report {}\n", answer, plan.study.folder.string()));
  }
  return kExitDone;
}

int run_runs(const RunPlan& plan, const Arguments& arguments) {
  if (arguments.get("launcher") == "slurm") return submit(plan);
  RunnerOptions options;
  options.program = "/proc/self/exe";  // this very program, also when its file is replaced meanwhile
  if (arguments.has("jobs")) options.jobs = arguments.integer("jobs", 1, 4096);
  if (arguments.has("index")) options.index = static_cast<std::size_t>(arguments.integer("index"));
  const bool quiet = arguments.flag("quiet");
  StatusLine status(stderr, StatusLine::detect(stderr, quiet));
  const RunnerResult result = run_study(plan, options, status, !quiet);
  if (result.interrupted) {
    throw InterruptedError(fmt::format("interrupted: {}; the same command goes on where it stopped", counts(result)));
  }
  print_failures(plan, result);
  if (!options.index && result.done + result.diverged > 0) report(plan);
  if (!quiet) write_stderr(fmt::format("{} of {} runs\n", counts(result), options.index ? 1 : plan.runs.size()));
  return result.failed.empty() && result.cut == 0 ? kExitDone : kExitDifference;
}

int run(const Arguments& arguments) {
  const std::string action = arguments.operand("ACTION").value();
  if (action != "run") {
    for (const char* option : {"jobs", "index"}) {
      if (arguments.has(option)) arguments.fail(fmt::format("--{} belongs to study run", option));
    }
    if (arguments.get("launcher") != "local") arguments.fail("--launcher belongs to study run");
  }
  const RunPlan plan = make_run_plan(StudyFile::from_folder(arguments.operand("DIR").value()));
  if (action == "run") return run_runs(plan, arguments);
  if (action == "plan") write_stdout(plan_table(plan));
  if (action == "status") write_stdout(status_table(plan));
  if (action == "report") report(plan);
  return kExitDone;
}

}  // namespace

Command study_command() {
  return {
      "study",
      "a grid of runs: its plan (costs nothing), carrying it out (finished runs are skipped, cut ones resumed), how "
      "far it is, its report. Exit code 1 when a run failed; a run that diverged is a result",
      {{"ACTION", Occurs::required, "what to do", {"plan", "run", "status", "report"}},
       {"DIR", Occurs::required, "folder with study.toml; runs go to DIR/runs, the report to DIR/report"}},
      {{"jobs", "N", Occurs::optional, "",
        "run: runs at the same time; without it what study.toml says, else one a core"},
       {"index", "I", Occurs::optional, "", "run: only this run of the plan, without report"},
       {"launcher",
        "WHERE",
        Occurs::optional,
        "local",
        "run: here, or as an array of a Slurm cluster",
        {"local", "slurm"}},
       {"quiet", "", Occurs::optional, "", "run: no progress on stderr"}},
      run};
}

}  // namespace ng::cli
