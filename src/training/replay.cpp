// SPDX-License-Identifier: Apache-2.0
//
// Replaying: the loop of a run without its files.
#include "narrowgauge/training/replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "run.hpp"

namespace ng {

struct Replay::Implementation {
  std::string file;
  std::int64_t step = 0;
  ReplayOptions options;
  RunPlanned plan;
  std::map<std::int64_t, double> losses;  ///< of the run, by step
  std::unique_ptr<Run> run;
  std::int64_t begins_at = 0;

  void check_loss(std::int64_t at, double loss) const {
    const auto known = losses.find(at);
    if (known == losses.end() || known->second == loss) return;
    throw UserError(
        fmt::format("{}: step {} gave a loss of {} when it was run and {} now; this is not the program, or "
                    "not the data, that made it",
                    file, at, known->second, loss));
  }
};

Replay::Replay(const std::string& run_file, std::int64_t step, ReplayOptions options)
    : implementation_(std::make_unique<Implementation>()) {
  Implementation& r = *implementation_;
  r.file = run_file;
  r.step = step;
  r.options = std::move(options);
  Json before;
  {
    const RunReader reader(run_file);
    RunRequest request = request_of(reader);
    request.record_path = "none";
    r.plan = plan_run(request);
    before = Json::parse(reader.resolved(), run_file + ":/config/resolved").at("identity");
    for (const TrainRow& row : reader.train()) r.losses[row.step] = row.loss;
  }
  if (step < 0 || step >= r.plan.training.steps)
    throw UserError(
        fmt::format("{}: has no step {}; its steps are 0 to {}", run_file, step, r.plan.training.steps - 1));
  if (!(before == r.plan.identity)) {
    std::string differs;
    for (const auto& [key, value] : before.as_object())
      if (!(r.plan.identity.at(key) == value)) differs += (differs.empty() ? "" : ", ") + key;
    throw UserError(
        fmt::format("{}: cannot replay: {} of this program and these files differ from the run's", run_file, differs));
  }
  const CheckpointStore store(checkpoint_folder_of(run_file));
  const std::vector<std::int64_t> there = store.steps();
  const auto after = std::upper_bound(there.begin(), there.end(), step);
  if (after == there.begin() && step > 0 && !r.options.from_start) {
    throw UserError(fmt::format(
        "{}: no checkpoint at or before step {}; {}. --from-start replays from the initial weights", run_file, step,
        there.empty() ? "there is none" : fmt::format("there is one after {} steps", fmt::join(there, ", "))));
  }
  // On the CPU, whatever the run used: the bytes are the same, and who looks at them does so in host memory.
  r.plan.request.backend = "cpu";
  r.run = std::make_unique<Run>(r.plan, r.options.backend);
  if (after == there.begin()) return;
  r.begins_at = *(after - 1);
  r.run->restore(load_checkpoint(store.path_of(r.begins_at)));
}

Replay::~Replay() = default;

std::int64_t Replay::begins_at() const {
  return implementation_->begins_at;
}
std::int64_t Replay::micro_batches() const {
  return implementation_->plan.training.micro_batches;
}
std::vector<Site> Replay::quantized_sites() const {
  return implementation_->run->quantized_sites();
}
std::vector<Site> Replay::all_sites() const {
  return implementation_->run->edges().sites();
}
std::vector<Site> Replay::products() const {
  return implementation_->run->edges().products();
}
Backend& Replay::backend() {
  return implementation_->run->backend();
}

void Replay::run(Tap& tap) {
  Implementation& r = *implementation_;
  for (std::int64_t step = r.begins_at; step < r.step; ++step) {
    if (r.options.interrupted && r.options.interrupted())
      throw InterruptedError(fmt::format("interrupted before step {}; nothing was written", step));
    if (r.options.progress) r.options.progress(step, r.step);
    const StepLosses losses = r.run->gradients(step);
    r.check_loss(step, losses.loss);
    r.run->update(step, r.run->gradient_norm(), losses);
  }
  r.check_loss(r.step, r.run->gradients(r.step, &tap).loss);
}

}  // namespace ng
