// SPDX-License-Identifier: Apache-2.0
//
// `compare`: losses of given runs side by side, with the statistics of a study where seeds repeat.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <span>

#include "commands.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/study/collect.hpp"
#include "narrowgauge/study/report.hpp"
#include "output.hpp"
#include "text_table.hpp"

namespace ng::cli {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double last(const std::vector<double>& values) {
  return values.empty() ? kNan : values.back();
}

// Mean of the last part of the training losses.
double smoothed(const RunCurve& run, double fraction) {
  const auto n = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(run.loss.size())));
  return mean_of(std::span(run.loss).last(n));
}

std::string number(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

// The run that a run is held against: the baseline's with the same seed, else the first.
const RunCurve& base_of(const StudyResult& study, const RunCurve& run) {
  for (const RunCurve& base : study.runs) {
    if (base.arm == study.baseline && base.seed == run.seed) return base;
  }
  return study.runs.front();
}

std::string losses(const StudyResult& study) {
  constexpr auto kRight = Align::right;
  TextTable table(
      {"recipe", "seed", "run", "status", "steps", "train", "smoothed", "gap %", "held-out", "gap %", "in BF16"},
      {Align::left, kRight, Align::left, Align::left, kRight, kRight, kRight, kRight, kRight, kRight, kRight});
  const double window = study.options.window_fraction;
  for (const RunCurve& run : study.runs) {
    const RunCurve& base = base_of(study, run);
    const auto gap = [&](double value, double against) {
      return &run == &base ? std::string("base") : number(100 * (value / against - 1), "{:+.2f}");
    };
    table.add({run.arm, fmt::format("{}", run.seed), run.run_id, run.status, fmt::format("{}", run.loss.size()),
               number(last(run.loss), "{:.4f}"), number(smoothed(run, window), "{:.4f}"),
               gap(smoothed(run, window), smoothed(base, window)), number(last(run.eval_loss), "{:.4f}"),
               gap(last(run.eval_loss), last(base.eval_loss)), number(last(run.eval_loss_bf16), "{:.4f}")});
  }
  return table.text() +
         fmt::format(
             "Losses in nats per token. smoothed: mean of the last {:g} % of the steps. gap: to the base run of "
             "the same seed,\nelse to the first. in BF16: the same weights, held-out, BF16 forward.\n",
             100 * window);
}

int run(const Arguments& arguments) {
  std::vector<std::filesystem::path> files = {arguments.operand("BASE").value()};
  for (const std::string& word : arguments.operands("OTHER")) files.emplace_back(word);
  std::string command = "narrowgauge compare";
  for (const auto& file : files) command += " " + file.string();
  StudyResult study = collect_files(files, command);
  study.options.allow_mismatch = arguments.flag("allow-mismatch");
  std::string verdicts;
  try {
    verdicts = text_table(study);
  } catch (const UserError& error) {
    if (study.options.allow_mismatch) throw;
    throw UserError(fmt::format("{} (--allow-mismatch compares them nevertheless)", error.what()));
  }
  write_stdout(fmt::format("{}\n{}", losses(study), verdicts));
  if (const auto out = arguments.optional("out")) {
    write_file(*out, html_report(study));
    write_stdout(fmt::format("report: {}\n", *out));
  }
  return kExitDone;
}

}  // namespace

Command compare_command() {
  return {
      "compare",
      "losses of runs side by side: final, smoothed, relative gap; paired statistics where seeds repeat. Exit code 0 "
      "whenever the comparison could be made, whatever it says",
      {{"BASE", Occurs::required, "run file that the others are held against"},
       {"OTHER", Occurs::repeated, "run files; those that differ from BASE in the seed alone count as the base too"}},
      {{"out", "REPORT.html", Occurs::optional, "", "write a report with pictures"},
       {"allow-mismatch", "", Occurs::optional, "", "compare runs of other data, model or length; the answer says so"}},
      run};
}

}  // namespace ng::cli
