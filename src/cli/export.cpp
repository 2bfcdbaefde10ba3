// SPDX-License-Identifier: Apache-2.0
//
// `export`: the streams of a run file for other tools. CSV and JSON lines hold the same tables, a file each;
// TensorBoard gets one event file of scalars.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <optional>
#include <variant>

#include "commands.hpp"
#include "event_file.hpp"
#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

namespace fs = std::filesystem;

using Cell = std::variant<std::int64_t, double, float, std::string>;

/// Columns by name, rows of cells. A number that is not there is NaN.
struct Table {
  std::string name;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;
};

template <class Row>
struct Field {
  const char* name;
  Cell (*cell)(const Row&);
};

template <class Row, std::size_t N>
Table table_of(const char* name, const std::vector<Row>& rows, const Field<Row> (&fields)[N]) {
  Table table{name, {}, {}};
  for (const Field<Row>& field : fields) table.columns.emplace_back(field.name);
  for (const Row& row : rows) {
    std::vector<Cell>& cells = table.rows.emplace_back();
    for (const Field<Row>& field : fields) cells.push_back(field.cell(row));
  }
  return table;
}

constexpr Field<TrainRow> kTrain[] = {
    {"step", [](const TrainRow& r) -> Cell { return r.step; }},
    {"loss", [](const TrainRow& r) -> Cell { return r.loss; }},
    {"aux_loss", [](const TrainRow& r) -> Cell { return r.aux_loss; }},
    {"z_loss", [](const TrainRow& r) -> Cell { return r.z_loss; }},
    {"lr", [](const TrainRow& r) -> Cell { return r.lr; }},
    {"grad_norm", [](const TrainRow& r) -> Cell { return r.grad_norm; }},
    {"tokens", [](const TrainRow& r) -> Cell { return r.tokens; }},
    {"seconds", [](const TrainRow& r) -> Cell { return r.seconds; }},
};
constexpr Field<EvalRow> kEval[] = {
    {"step", [](const EvalRow& r) -> Cell { return r.step; }},
    {"loss", [](const EvalRow& r) -> Cell { return r.loss; }},
    {"loss_bf16", [](const EvalRow& r) -> Cell { return r.loss_bf16; }},
    {"tokens", [](const EvalRow& r) -> Cell { return r.tokens; }},
};
constexpr Field<GemmRow> kGemm[] = {
    {"site", [](const GemmRow& r) -> Cell { return r.site; }},
    {"a_format", [](const GemmRow& r) -> Cell { return r.a_format; }},
    {"b_format", [](const GemmRow& r) -> Cell { return r.b_format; }},
    {"a_scales", [](const GemmRow& r) -> Cell { return r.a_scales; }},
    {"b_scales", [](const GemmRow& r) -> Cell { return r.b_scales; }},
    {"carrier", [](const GemmRow& r) -> Cell { return r.carrier; }},
    {"arithmetic", [](const GemmRow& r) -> Cell { return r.arithmetic; }},
    {"accumulate", [](const GemmRow& r) -> Cell { return r.accumulate; }},
    {"output", [](const GemmRow& r) -> Cell { return r.output; }},
    {"algorithm", [](const GemmRow& r) -> Cell { return r.algorithm; }},
    {"flops_share", [](const GemmRow& r) -> Cell { return r.flops_share; }},
};

// A number a row: what a plotting tool wants to group by comes first.
Table moe_table(const RunReader& run) {
  Table table{"moe", {"step", "layer", "measure", "expert", "value"}, {}};
  const std::vector<std::int64_t> layers = run.moe_layers();
  const auto experts = static_cast<std::size_t>(run.experts());
  for (const MoeRow& row : run.moe()) {
    for (std::size_t l = 0; l < layers.size(); ++l) {
      for (std::size_t e = 0; e < experts; ++e)
        table.rows.push_back({row.step, layers[l], "load", static_cast<std::int64_t>(e), row.load[l * experts + e]});
      const std::pair<const char*, const std::vector<float>*> measures[] = {{"dropped", &row.dropped},
                                                                            {"router_entropy", &row.router_entropy},
                                                                            {"max_violation", &row.max_violation},
                                                                            {"aux_loss", &row.aux_loss}};
      for (const auto& [name, values] : measures)
        table.rows.push_back({row.step, layers[l], name, std::string(), (*values)[l]});
    }
  }
  return table;
}

Table record_table(const RunReader& run) {
  Table table{"record", {"entry", "step", "site", "measure", "value"}, {}};
  for (const std::string& name : run.record_names()) {
    const RecordSeries series = run.record(name);
    for (std::size_t r = 0; r < series.steps.size(); ++r)
      for (std::size_t s = 0; s < series.sites.size(); ++s)
        for (std::size_t m = 0; m < series.measures.size(); ++m)
          table.rows.push_back({name, series.steps[r], series.sites[s], series.measures[m], series.at(r, s, m)});
  }
  return table;
}

Table code_table(const RunReader& run) {
  Table table{"code_histogram", {"entry", "step", "site", "code", "count"}, {}};
  for (const std::string& name : run.record_names()) {
    const CodeHistograms codes = run.code_histograms(name);
    std::size_t at = 0;
    for (const std::int64_t step : codes.steps)
      for (const std::string& site : codes.sites)
        for (std::int64_t code = 0; code < codes.codes; ++code)
          table.rows.push_back({name, step, site, code, static_cast<std::int64_t>(codes.counts[at++])});
  }
  return table;
}

Table memory_table(const RunReader& run) {
  Table table{"memory", {"step"}, {}};
  for (const std::string& kind : run.memory_kinds()) table.columns.push_back(kind);
  table.columns.emplace_back("peak");
  for (const MemoryRow& row : run.memory()) {
    std::vector<Cell>& cells = table.rows.emplace_back(std::vector<Cell>{row.step});
    for (const std::int64_t bytes : row.bytes) cells.emplace_back(bytes);
    cells.emplace_back(row.peak);
  }
  return table;
}

std::vector<Table> tables_of(const RunReader& run) {
  return {table_of("train", run.train(), kTrain),
          table_of("eval", run.eval(), kEval),
          moe_table(run),
          record_table(run),
          code_table(run),
          table_of("gemm", run.gemms(), kGemm),
          memory_table(run)};
}

// Shortest text that reads back as the same number.
template <class T>
std::string number(T value, const char* none) {
  return std::isnan(value) ? none : fmt::format("{}", value);
}

std::string csv_cell(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) {
    if (text->find_first_of(",\"\n\r") == std::string::npos) return *text;
    std::string quoted = "\"";
    for (const char c : *text) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
  }
  if (const auto* integer = std::get_if<std::int64_t>(&cell)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&cell)) return number(*real, "");
  return number(std::get<float>(cell), "");
}

// JSON has neither NaN nor infinities: null, and a text.
template <class T>
std::string json_number(T value) {
  if (std::isinf(value)) return value > 0 ? "\"inf\"" : "\"-inf\"";
  return number(value, "null");
}

std::string json_cell(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return Json(*text).canonical();
  if (const auto* integer = std::get_if<std::int64_t>(&cell)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&cell)) return json_number(*real);
  return json_number(std::get<float>(cell));
}

std::string csv_of(const Table& table) {
  std::string text = fmt::format("{}\n", fmt::join(table.columns, ","));
  for (const std::vector<Cell>& row : table.rows) {
    for (std::size_t c = 0; c < row.size(); ++c) text += (c == 0 ? "" : ",") + csv_cell(row[c]);
    text += "\n";
  }
  return text;
}

std::string jsonl_of(const Table& table) {
  std::string text;
  for (const std::vector<Cell>& row : table.rows) {
    text += "{";
    for (std::size_t c = 0; c < row.size(); ++c)
      text += fmt::format("{}{}:{}", c == 0 ? "" : ",", Json(table.columns[c]).canonical(), json_cell(row[c]));
    text += "}\n";
  }
  return text;
}

// ISO 8601 as run files have it; 0 where it is something else.
double seconds_of(const std::string& started) {
  std::tm utc{};
  const char* end = strptime(started.c_str(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return end == nullptr ? 0.0 : static_cast<double>(timegm(&utc));
}

std::string events_of(const RunReader& run) {
  const double started = seconds_of(run.identity().started);
  EventFile file(started);
  // When a step ended: the start and the seconds of all steps so far.
  std::vector<std::pair<std::int64_t, double>> ends;
  double at = started;
  const auto time_of = [&](std::int64_t step) {
    const auto after = std::upper_bound(ends.begin(), ends.end(), step,
                                        [](std::int64_t wanted, const auto& end) { return wanted < end.first; });
    return after == ends.begin() ? started : (after - 1)->second;
  };
  const auto add = [&](std::int64_t step, double time, const std::string& tag, double value) {
    if (!std::isnan(value)) file.scalar(time, step, tag, static_cast<float>(value));
  };
  for (const TrainRow& row : run.train()) {
    at += row.seconds;
    ends.emplace_back(row.step, at);
    for (const Field<TrainRow>& field : kTrain) {
      const Cell cell = field.cell(row);
      if (const auto* real = std::get_if<double>(&cell)) add(row.step, at, std::string("train/") + field.name, *real);
    }
  }
  for (const EvalRow& row : run.eval()) {
    const double time = time_of(row.step - 1);
    add(row.step, time, "eval/loss", row.loss);
    add(row.step, time, "eval/loss_bf16", row.loss_bf16);
  }
  const std::vector<std::int64_t> layers = run.moe_layers();
  for (const MoeRow& row : run.moe()) {
    const double time = time_of(row.step);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const std::string prefix = fmt::format("moe/layer.{}/", layers[l]);
      add(row.step, time, prefix + "dropped", static_cast<double>(row.dropped[l]));
      add(row.step, time, prefix + "router_entropy", static_cast<double>(row.router_entropy[l]));
      add(row.step, time, prefix + "max_violation", static_cast<double>(row.max_violation[l]));
      add(row.step, time, prefix + "aux_loss", static_cast<double>(row.aux_loss[l]));
    }
  }
  for (const std::string& name : run.record_names()) {
    const RecordSeries series = run.record(name);
    for (std::size_t r = 0; r < series.steps.size(); ++r) {
      const double time = time_of(series.steps[r]);
      for (std::size_t s = 0; s < series.sites.size(); ++s)
        for (std::size_t m = 0; m < series.measures.size(); ++m)
          add(series.steps[r], time, fmt::format("{}/{}", series.measures[m], series.sites[s]),
              static_cast<double>(series.at(r, s, m)));
    }
  }
  return file.bytes();
}

int run(const Arguments& arguments) {
  const std::string file = *arguments.operand("RUN.h5"), to = arguments.get("to");
  const RunReader reader(file);
  const fs::path folder = *arguments.operand("DIR");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_file_error("make", folder, error.value());
  std::vector<std::string> written;
  const auto write = [&](const std::string& name, const std::string& content) {
    write_file(folder / name, content);
    written.push_back(name);
  };
  if (to == "tensorboard") {
    // The name that TensorBoard looks for; one file a run, replaced by a later export.
    write(fmt::format("events.out.tfevents.{:.0f}.{}", seconds_of(reader.identity().started), reader.identity().run_id),
          events_of(reader));
  } else {
    for (const Table& table : tables_of(reader)) {
      if (table.rows.empty()) continue;
      write(table.name + "." + to, to == "csv" ? csv_of(table) : jsonl_of(table));
    }
    write("config.json", reader.resolved() + "\n");
  }
  write_stdout(fmt::format("{}: {}\n", folder.string(), fmt::join(written, " ")));
  return kExitDone;
}

}  // namespace

Command export_command() {
  return {"export",
          "the streams of a run for other tools: tables as CSV or JSON lines, or scalars for TensorBoard",
          {{"RUN.h5", Occurs::required, "run file; running and killed runs too"},
           {"DIR", Occurs::required, "folder to write to; made if it is not there"}},
          {{"to", "FORMAT", Occurs::required, "", "what to write", {"csv", "jsonl", "tensorboard"}}},
          run};
}

}  // namespace ng::cli
