// SPDX-License-Identifier: Apache-2.0
//
// Run files to StudyResult.
#include "narrowgauge/study/collect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <system_error>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "narrowgauge/study/picture.hpp"
#include "narrowgauge/study/report.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

namespace {

namespace fs = std::filesystem;

// What all the runs of a study have in common, gathered one by one.
struct Facts {
  std::set<std::string> devices, revisions, arithmetics;

  void add(const RunIdentity& identity) {
    devices.insert(identity.device);
    revisions.insert(identity.git_revision);
    arithmetics.insert(fmt::format("{}, {}", identity.backend, identity.arithmetic));
  }
  static std::string joined(const std::set<std::string>& texts) { return fmt::format("{}", fmt::join(texts, "; ")); }
};

std::string name_in(const std::string& path, const std::string& text) {
  return TomlDocument::from_text(path, text).root().get_string("name");
}

Json identity_of(const RunReader& run) {
  return Json::parse(run.resolved(), run.path() + ":/config/resolved").at("identity");
}

std::string status_text(const RunReader& run) {
  const RunStatus status = run.status();
  if (status == RunStatus::running && !is_being_written(run.path())) return "interrupted";
  return std::string(name_of(status));
}

RunCurve curve_of(const RunReader& run, const RunRequest& request, const std::string& arm) {
  RunCurve curve;
  curve.arm = arm;
  curve.seed = request.seed;
  curve.run_id = run.identity().run_id;
  curve.status = status_text(run);
  const Json identity = identity_of(run);
  curve.data_digest = identity.at("data").as_string();
  curve.model =
      fmt::format("{} ({})", name_in(request.model_path, request.model_text), digest_of(identity.at("model")));
  for (const TrainRow& row : run.train()) {
    curve.step.push_back(static_cast<double>(row.step));
    curve.loss.push_back(row.loss);
    curve.tokens += static_cast<double>(row.tokens);
    curve.seconds += row.seconds;
  }
  for (const EvalRow& row : run.eval()) {
    curve.eval_step.push_back(static_cast<double>(row.step));
    curve.eval_loss.push_back(row.loss);
    curve.eval_loss_bf16.push_back(row.loss_bf16);
  }
  return curve;
}

void add_errors(const RunReader& run, const RunCurve& curve, std::vector<ErrorSample>& out) {
  const std::vector<std::string>& wanted = reported_measures();
  std::set<std::pair<std::string, std::string>> seen;  // two entries of a plan may measure the same
  for (const std::string& name : run.record_names()) {
    const RecordSeries series = run.record(name);
    for (std::size_t m = 0; m < series.measures.size(); ++m) {
      if (std::find(wanted.begin(), wanted.end(), series.measures[m]) == wanted.end()) continue;
      for (std::size_t s = 0; s < series.sites.size(); ++s) {
        if (!seen.emplace(series.sites[s], series.measures[m]).second) continue;
        ErrorSample sample{curve.arm, curve.seed, series.sites[s], series.measures[m], {}, {}};
        for (std::size_t r = 0; r < series.steps.size(); ++r) {
          sample.step.push_back(static_cast<double>(series.steps[r]));
          sample.value.push_back(static_cast<double>(series.at(r, s, m)));
        }
        out.push_back(std::move(sample));
      }
    }
  }
}

void add_routers(const RunReader& run, const RunCurve& curve, std::vector<RouterSample>& out) {
  const std::vector<std::int64_t> layers = run.moe_layers();
  const std::vector<MoeRow> rows = run.moe();
  const std::pair<const char*, std::vector<float> MoeRow::*> measures[] = {{"max_violation", &MoeRow::max_violation},
                                                                           {"router_entropy", &MoeRow::router_entropy},
                                                                           {"dropped", &MoeRow::dropped}};
  for (const auto& [name, values] : measures) {
    for (std::size_t l = 0; l < layers.size(); ++l) {
      RouterSample sample{curve.arm, curve.seed, layers[l], name, {}, {}};
      for (const MoeRow& row : rows) {
        sample.step.push_back(static_cast<double>(row.step));
        sample.value.push_back(static_cast<double>((row.*values)[l]));
      }
      out.push_back(std::move(sample));
    }
  }
}

// Adds a run; FLOP shares and products once for each arm.
void add_run(const RunReader& run, const std::string& arm, StudyResult& study, Facts& facts) {
  const RunCurve& curve = study.runs.emplace_back(curve_of(run, request_of(run), arm));
  add_errors(run, curve, study.errors);
  const bool known = std::any_of(study.flop_shares.begin(), study.flop_shares.end(),
                                 [&](const FlopShare& share) { return share.arm == arm; });
  if (!known) {
    for (const auto& [format, share] : run.flops_by_format()) study.flop_shares.push_back({arm, format, share});
    for (const GemmRow& gemm : run.gemms()) study.gemms.push_back({arm, gemm});
  }
  add_routers(run, curve, study.routers);
  facts.add(run.identity());
}

void state_facts(const Facts& facts, StudyResult& study) {
  study.machine = Facts::joined(facts.devices);
  study.git_revision = Facts::joined(facts.revisions);
  study.notes.push_back("Backend and arithmetic of the runs: " + Facts::joined(facts.arithmetics) + ".");
}

// What runs of one arm share: everything that decides their numbers, but the seed.
std::string key_of(const RunReader& run) {
  Json::Object identity = identity_of(run).as_object();
  identity.erase("seed");
  return Json(identity).canonical();
}

}  // namespace

const std::vector<std::string>& reported_measures() {
  static const std::vector<std::string> measures = {
      "rel_mse",         "underflow_rate",         "saturation_rate",  "double_quant_error",
      "scale_log2_mean", "scale_drift_from_start", "gemm_error_total", "gemm_error_accumulation"};
  return measures;
}

StudyResult collect(const RunPlan& plan, const std::string& command) {
  StudyResult study;
  study.title = plan.study.title;
  study.question = plan.study.question;
  study.prediction = plan.study.prediction;
  study.baseline = plan.study.baseline;
  study.command = command;
  study.options.tolerance = plan.study.tolerance;
  Facts facts;
  const TrainingConfig& training = plan.study.training;
  study.notes.push_back(fmt::format("Every run: {} steps of {} sequences of {} tokens, {} tokens in all.",
                                    training.steps, training.batch, training.sequence_length,
                                    plan.study.tokens_per_run()));
  std::string missing;
  for (const PlannedRun& run : plan.runs) {
    const RunProgress progress = progress_of(run.file);
    if (progress.state == RunState::absent || progress.state == RunState::damaged) {
      missing += fmt::format("{}{} ({})", missing.empty() ? "" : ", ", run.label(), name_of(progress.state));
    } else {
      add_run(RunReader(run.file.string()), run.arm.name, study, facts);
    }
  }
  if (!missing.empty()) study.notes.push_back("Runs without a result: " + missing + ".");
  if (study.runs.empty()) {
    throw UserError(
        fmt::format("no run of '{}' has begun; narrowgauge study run does them", plan.study.folder.string()));
  }
  state_facts(facts, study);
  return study;
}

StudyResult collect_files(const std::vector<fs::path>& files, const std::string& command) {
  StudyResult study;
  study.title = "Comparison of runs";
  study.command = command;
  Facts facts;
  std::map<std::string, std::string> arm_of_key;
  std::set<std::string> names;
  std::set<fs::path> seen;
  for (const fs::path& file : files) {
    const RunReader run(file.string());
    if (!seen.insert(fs::canonical(file)).second) throw UserError(fmt::format("'{}' is given twice", file.string()));
    const RunRequest request = request_of(run);
    const std::string key = key_of(run);
    if (!arm_of_key.contains(key)) {
      std::string name = name_in(request.recipe_path, request.recipe_text);
      if (names.contains(name)) name = fmt::format("{} ({})", name, file.stem().string());
      names.insert(name);
      arm_of_key[key] = name;
    }
    add_run(run, arm_of_key[key], study, facts);
  }
  study.baseline = study.runs.front().arm;
  state_facts(facts, study);
  return study;
}

fs::path write_report(const StudyResult& study, const fs::path& folder) {
  const std::string page = html_report(study);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_file_error("make", folder, error.value());
  write_file(folder / "report.html", page);
  write_pictures(study, folder.string());
  return folder / "report.html";
}

}  // namespace ng
