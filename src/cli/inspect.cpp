// SPDX-License-Identifier: Apache-2.0
//
// `inspect`: what a run file contains, and a measure over steps. Reads finished, running and killed runs alike; never
// writes one.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "commands.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/progress.hpp"
#include "narrowgauge/recording/recording_plan.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "output.hpp"
#include "text_table.hpp"

namespace ng::cli {
namespace {

constexpr std::size_t kSparkWidth = 32;
constexpr std::size_t kStepRows = 24;  // of the table of one series

/// One measure at one site, or one column of /train or /eval, over steps.
struct Series {
  std::string site, measure;
  std::vector<std::int64_t> steps;
  std::vector<double> values;
};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double sum = 0;
  std::size_t count = 0;
};

Range range_of(const std::vector<double>& values) {
  Range range;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    range.low = std::min(range.low, v);
    range.high = std::max(range.high, v);
    range.sum += v;
    ++range.count;
  }
  return range;
}

// Eight heights between the smallest and the largest value; means of equal parts where there are more values than
// places; a dot where nothing was measured.
std::string sparkline(const std::vector<double>& values) {
  static constexpr std::array<const char*, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const Range all = range_of(values);
  const std::size_t width = std::min(values.size(), kSparkWidth);
  std::string out;
  for (std::size_t i = 0; i < width; ++i) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(i * values.size() / width);
    const auto end = values.begin() + static_cast<std::ptrdiff_t>((i + 1) * values.size() / width);
    const Range part = range_of({begin, end});
    if (part.count == 0) {
      out += "·";
      continue;
    }
    const double mean = part.sum / static_cast<double>(part.count);
    const double height = all.high > all.low ? (mean - all.low) / (all.high - all.low) : 0.0;
    out += kBars[std::min<std::size_t>(7, static_cast<std::size_t>(8 * height))];
  }
  return out;
}

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : "-";
}

std::string status_of(const RunReader& run) {
  const RunStatus status = run.status();
  if (status != RunStatus::running) return std::string(name_of(status));
  return is_being_written(run.path()) ? "running" : "running, but its process is gone: killed, can be resumed";
}

void summary(const RunReader& run) {
  const RunIdentity& id = run.identity();
  const std::vector<TrainRow> train = run.train();
  const std::vector<EvalRow> eval = run.eval();
  double seconds = 0;
  std::int64_t tokens = 0;
  for (const TrainRow& row : train) {
    seconds += row.seconds;
    tokens += row.tokens;
  }
  TextTable facts({"run", id.run_id}, {Align::left, Align::left});
  facts.add({"status", status_of(run)});
  facts.add({"started", id.started});
  facts.add({"program", fmt::format("{} ({})", id.program_version, id.git_revision)});
  facts.add({"backend", fmt::format("{}, {}, {}", id.backend, id.arithmetic, id.device)});
  for (const GivenFile& file : run.files()) facts.add({file.role, file.path});
  for (const auto& [what, digest] : run.digests()) facts.add({"digest of " + what, digest.substr(0, 16)});
  facts.add({"steps", fmt::format("{}, {} tokens, {}", train.size(), tokens, duration_text(seconds))});
  if (!train.empty()) facts.add({"last loss", fmt::format("{:.4f}", train.back().loss)});
  if (!eval.empty()) {
    facts.add({"held-out", fmt::format("{:.4f} after {} steps ({:.4f} in BF16), {} evaluations", eval.back().loss,
                                       eval.back().step, eval.back().loss_bf16, eval.size())});
  }
  const auto checkpoints = run.checkpoints();
  if (!checkpoints.empty()) {
    facts.add({"checkpoints", fmt::format("{}, the last after {} steps, in {}", checkpoints.size(),
                                          checkpoints.back().step, run.checkpoint_folder())});
  }
  const auto memory = run.memory();
  const std::string kernels = run.library_kernels();
  if (!kernels.empty())
    facts.add({"library",
               fmt::format("{} kernels, in /gemm/library_kernels; the first: {}",
                           std::count(kernels.begin(), kernels.end(), '\n'), kernels.substr(0, kernels.find('\n')))});
  if (!memory.empty()) facts.add({"memory", fmt::format("{} bytes at most", memory.back().peak)});
  write_stdout(facts.text());

  if (const auto shares = run.flops_by_format(); !shares.empty()) {
    write_stdout("\nFLOPs of the products by operand formats\n");
    for (const auto& [formats, share] : shares) write_stdout(fmt::format("  {:5.1f} %  {}\n", 100 * share, formats));
  }
  if (const auto casts = run.casts(); !casts.empty())
    write_stdout(fmt::format("\n{} casts of whole tensors in all layers\n", casts.size()));
  if (const auto layers = run.moe_layers(); !layers.empty()) {
    write_stdout(fmt::format("\n{} layers with {} experts each, {} records of their load\n", layers.size(),
                             run.experts(), run.moe().size()));
  }
  for (const std::string& name : run.record_names()) {
    const RecordSeries series = run.record(name);
    write_stdout(fmt::format("\nrecord '{}': {} sites, {} records\n  {}\n", name, series.sites.size(),
                             series.steps.size(), fmt::join(series.measures, " ")));
  }
  write_stdout("\n--measure NAME or --site PATTERN shows values; also --measure loss, grad_norm, lr, eval_loss\n");
}

template <class Row, class Value>
Series column(const std::vector<Row>& rows, const char* site, const char* name, Value value) {
  Series series{site, name, {}, {}};
  for (const Row& row : rows) {
    series.steps.push_back(row.step);
    series.values.push_back(value(row));
  }
  return series;
}

std::vector<Series> all_series(const RunReader& run) {
  std::vector<Series> out;
  const auto train = run.train();
  out.push_back(column(train, "train", "loss", [](const TrainRow& r) { return r.loss; }));
  out.push_back(column(train, "train", "grad_norm", [](const TrainRow& r) { return r.grad_norm; }));
  out.push_back(column(train, "train", "lr", [](const TrainRow& r) { return r.lr; }));
  out.push_back(column(train, "train", "aux_loss", [](const TrainRow& r) { return r.aux_loss; }));
  const auto eval = run.eval();
  out.push_back(column(eval, "eval", "eval_loss", [](const EvalRow& r) { return r.loss; }));
  out.push_back(column(eval, "eval", "eval_loss_bf16", [](const EvalRow& r) { return r.loss_bf16; }));
  for (const std::string& name : run.record_names()) {
    const RecordSeries record = run.record(name);
    for (std::size_t s = 0; s < record.sites.size(); ++s) {
      for (std::size_t m = 0; m < record.measures.size(); ++m) {
        Series& series = out.emplace_back(Series{record.sites[s], record.measures[m], record.steps, {}});
        for (std::size_t r = 0; r < record.steps.size(); ++r) series.values.push_back(record.at(r, s, m));
      }
    }
  }
  return out;
}

std::vector<Series> chosen(const std::vector<Series>& all, const std::string& pattern, const std::string& measure,
                           const std::string& path) {
  std::vector<Series> out;
  std::vector<std::string> measures, sites;
  for (const Series& series : all) {
    const bool fits_measure = measure.empty() || series.measure == measure;
    const bool fits_site = pattern.empty() || matches_pattern(pattern, series.site);
    if (fits_measure && fits_site) out.push_back(series);
    if (std::find(measures.begin(), measures.end(), series.measure) == measures.end())
      measures.push_back(series.measure);
    if (fits_measure && std::find(sites.begin(), sites.end(), series.site) == sites.end()) sites.push_back(series.site);
  }
  if (!out.empty()) return out;
  if (sites.empty()) {
    throw UserError(fmt::format("'{}' has no measure '{}'; {}", path, measure, suggestion(measure, measures)));
  }
  constexpr std::size_t kExamples = 6;
  throw UserError(
      fmt::format("no site of '{}' fits '{}'; there are {}: {}{}", path, pattern, sites.size(),
                  fmt::join(sites.begin(), sites.begin() + std::ptrdiff_t(std::min(kExamples, sites.size())), ", "),
                  sites.size() > kExamples ? ", ..." : ""));
}

void print_steps(const Series& series) {
  write_stdout(fmt::format("{} {}\n{}\n", series.site, series.measure, sparkline(series.values)));
  TextTable table({"step", series.measure}, {Align::right, Align::right});
  const std::size_t n = series.steps.size();
  const std::size_t rows = std::min(n, kStepRows);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t at = rows > 1 ? i * (n - 1) / (rows - 1) : 0;
    table.add({fmt::format("{}", series.steps[at]), number(series.values[at])});
  }
  write_stdout(table.text());
  if (rows < n) write_stdout(fmt::format("{} of {} steps shown\n", rows, n));
}

void print_many(const std::vector<Series>& many) {
  constexpr auto kRight = Align::right;
  TextTable table({"site", "measure", "records", "first", "last", "least", "most", "mean", "over steps"},
                  {Align::left, Align::left, kRight, kRight, kRight, kRight, kRight, kRight, Align::left});
  for (const Series& series : many) {
    const Range range = range_of(series.values);
    const bool any = range.count > 0;
    table.add({series.site, series.measure, fmt::format("{}", range.count),
               series.values.empty() ? "-" : number(series.values.front()),
               series.values.empty() ? "-" : number(series.values.back()), any ? number(range.low) : "-",
               any ? number(range.high) : "-", any ? number(range.sum / static_cast<double>(range.count)) : "-",
               sparkline(series.values)});
  }
  write_stdout(table.text());
}

int run(const Arguments& arguments) {
  const RunReader reader(arguments.operand("RUN").value());
  if (!arguments.has("site") && !arguments.has("measure")) {
    summary(reader);
    return kExitDone;
  }
  const std::vector<Series> found = chosen(all_series(reader), arguments.optional("site").value_or(""),
                                           arguments.optional("measure").value_or(""), reader.path());
  if (found.size() == 1) {
    print_steps(found.front());
  } else {
    print_many(found);
  }
  return kExitDone;
}

}  // namespace

Command inspect_command() {
  return {
      "inspect",
      "what a run contains; with --site or --measure, values over steps. Running and killed runs too; writes nothing",
      {{"RUN", Occurs::required, "run file (.h5)"}},
      {{"site", "PATTERN", Occurs::optional, "",
        "sites, such as 'layer.*/fc1/activation/*'; '*' any text, '?' one character"},
       {"measure", "NAME", Occurs::optional, "",
        "a recorded measure, or loss, grad_norm, lr, aux_loss, eval_loss, eval_loss_bf16"}},
      run};
}

}  // namespace ng::cli
