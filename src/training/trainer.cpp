// SPDX-License-Identifier: Apache-2.0
//
// The loop: steps, evaluations and checkpoints in their order, and the two ways to end early. What a step does is in
// run.cpp.
#include "narrowgauge/training/trainer.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "narrowgauge/base/error.hpp"
#include "run.hpp"

namespace ng {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// `evaluated`: evaluations that the run file already has.
RunResult loop(Run& run, const RunPlanned& plan, const RunOptions& options, RunFileWriter& writer,
               CheckpointStore& store, std::int64_t first_step, const std::vector<EvalRow>& evaluated) {
  const TrainingConfig& t = plan.training;
  const auto due = [&](std::int64_t every, std::int64_t steps_done) {
    return (options.closing && steps_done == t.steps) || (every > 0 && steps_done % every == 0);
  };
  const double limit =
      t.divergence_loss > 0.0 ? t.divergence_loss : 2.0 * std::log(static_cast<double>(plan.model.vocabulary));
  const Clock::time_point start = Clock::now();
  RunResult result;
  const auto evaluate_if_due = [&](std::int64_t steps_done) {
    if (!due(t.eval_every, steps_done)) return;
    const auto known =
        std::find_if(evaluated.begin(), evaluated.end(), [&](const EvalRow& row) { return row.step == steps_done; });
    const EvalRow row = known != evaluated.end() ? *known : run.evaluation(steps_done);
    if (known == evaluated.end()) writer.append(row);
    result.eval_loss = row.loss;
    result.eval_loss_bf16 = row.loss_bf16;
  };
  evaluate_if_due(first_step);

  for (std::int64_t step = first_step; step < t.steps; ++step) {
    if (options.interrupted && options.interrupted()) {
      run.save(store, writer, step);
      writer.set_library_kernels(run.library_kernels());
      writer.set_status(RunStatus::interrupted);
      writer.close();
      throw InterruptedError(fmt::format("interrupted after {} of {} steps; go on with: narrowgauge train --resume {}",
                                         step, t.steps, writer.path()));
    }
    const Clock::time_point step_start = Clock::now();
    const StepLosses losses = run.gradients(step);
    const double norm = run.gradient_norm();
    const bool usable = std::isfinite(losses.loss) && std::isfinite(norm) && losses.loss <= limit;
    if (usable) run.update(step, norm, losses);

    TrainRow row;
    row.step = step;
    row.loss = losses.loss;
    row.aux_loss = losses.aux;
    row.z_loss = losses.z;
    row.lr = learning_rate_at(t, step);
    row.grad_norm = norm;
    row.tokens = t.tokens_per_step();
    row.seconds = seconds_since(step_start);
    writer.append(row);
    if (!losses.moe.load.empty()) writer.append(losses.moe);
    for (RecordRow& record : run.records()) writer.append(std::move(record));
    if (!usable) {
      writer.set_library_kernels(run.library_kernels());
      writer.set_status(RunStatus::diverged);
      writer.close();
      throw DivergedError(fmt::format(
          "{}: diverged in step {}: loss {}, gradient norm {} (limit for the loss: {:.3f}, key divergence_loss)",
          writer.path(), step, losses.loss, norm, limit));
    }
    const std::int64_t done = step + 1;
    result.loss = losses.loss;
    evaluate_if_due(done);
    if (due(t.checkpoint_every, done)) {
      writer.append(run.memory(step));
      run.save(store, writer, done);
    }
    if (options.progress) {
      const double elapsed = seconds_since(start);
      const double per_step = elapsed / static_cast<double>(done - first_step);
      options.progress({done, t.steps, losses.loss, static_cast<double>(t.tokens_per_step()) / per_step,
                        per_step * static_cast<double>(t.steps - done)});
    }
  }
  result.steps = t.steps;
  result.seconds = seconds_since(start);
  result.carrier_losses = run.carrier_losses();
  writer.set_library_kernels(run.library_kernels());
  writer.set_status(RunStatus::done);
  writer.close();
  return result;
}

std::string relative_checkpoint_folder(const std::string& run_file) {
  return checkpoint_folder_of(run_file).filename().string();
}

// What cannot fit is refused before the machine begins to swap: a parameter has a weight, a gradient and two moments of
// two bytes or more each.
void require_memory(const ModelConfig& model) {
  constexpr double kLeastBytes = 8, kGiB = 1024.0 * 1024.0 * 1024.0;
  const double parameters = static_cast<double>(model.total_parameters());
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (parameters * kLeastBytes > memory)
    throw MachineError(
        fmt::format("model {} has {:.3g} parameters, which need {:.1f} GiB or more; this machine has {:.1f}",
                    model.name, parameters, parameters * kLeastBytes / kGiB, memory / kGiB));
}

}  // namespace

RunResult train_run(const RunPlanned& plan, const std::string& out, const RunOptions& options) {
  require_memory(plan.model);
  Run run(plan, options.backend);
  RunFileWriter writer = RunFileWriter::create(out, run.setup(relative_checkpoint_folder(out)));
  CheckpointStore store(checkpoint_folder_of(out));
  store.remove_after(0);  // left over from another run of that name
  if (!plan.request.fork) return loop(run, plan, options, writer, store, 0, {});
  const ForkPoint& fork = *plan.request.fork;
  const LoadedCheckpoint checkpoint =
      load_checkpoint(CheckpointStore(checkpoint_folder_of(fork.run_file)).path_of(fork.step));
  if (checkpoint.digest != fork.digest)
    throw UserError(
        fmt::format("{}: is no longer the checkpoint that this run was planned from", checkpoint.path.string()));
  run.fork(checkpoint);
  run.save(store, writer, fork.step);  // from here on it can be resumed by itself
  return loop(run, plan, options, writer, store, fork.step, {});
}

RunRequest fork_request(const std::string& run_file, std::int64_t step) {
  RunRequest request = request_of(RunReader(run_file));
  const CheckpointStore store(checkpoint_folder_of(run_file));
  const std::vector<std::int64_t> present = store.steps();
  if (std::find(present.begin(), present.end(), step) == present.end()) {
    std::string there;
    for (const std::int64_t s : present) there += fmt::format("{}{}", there.empty() ? "" : ", ", s);
    throw UserError(fmt::format("{}: has no checkpoint after {} steps; there are: {}", run_file, step,
                                there.empty() ? "none" : there));
  }
  const LoadedCheckpoint checkpoint = load_checkpoint(store.path_of(step));
  request.fork = ForkPoint{std::filesystem::absolute(run_file).string(), checkpoint.run_id, checkpoint.digest, step};
  return request;
}

RunResult resume_run(const std::string& run_file, const RunOptions& options) {
  RunPlanned plan;
  Json before;
  RunResult finished;
  std::vector<EvalRow> evaluated;
  bool is_done = false;
  {
    const RunReader reader(run_file);
    if (reader.status() == RunStatus::diverged)
      throw UserError(fmt::format("{}: the run diverged; there is nothing to resume", run_file));
    plan = plan_run(request_of(reader));
    before = Json::parse(reader.resolved(), run_file + ":/config/resolved").at("identity");
    is_done = reader.status() == RunStatus::done;
    evaluated = reader.eval();
    if (is_done) {
      const std::vector<TrainRow> rows = reader.train();
      finished.steps = static_cast<std::int64_t>(rows.size());
      if (!rows.empty()) finished.loss = rows.back().loss;
      if (!evaluated.empty()) {
        finished.eval_loss = evaluated.back().loss;
        finished.eval_loss_bf16 = evaluated.back().loss_bf16;
      }
    }
  }
  if (!(before == plan.identity)) {
    std::string differs;
    for (const auto& [key, value] : before.as_object())
      if (!(plan.identity.at(key) == value)) differs += (differs.empty() ? "" : ", ") + key;
    throw UserError(
        fmt::format("{}: cannot resume: {} of this program and these files differ from the run's", run_file, differs));
  }
  if (is_done) return finished;

  Run run(plan, options.backend);
  CheckpointStore store(checkpoint_folder_of(run_file));
  const std::optional<LoadedCheckpoint> checkpoint = store.load_latest(OnDamage::use_previous);
  const std::int64_t step = checkpoint ? checkpoint->step : 0;
  RunFileWriter writer = RunFileWriter::reopen(run_file, step);
  std::erase_if(evaluated, [&](const EvalRow& row) { return row.step > step; });
  if (checkpoint) run.restore(*checkpoint);
  store.remove_after(step);
  return loop(run, plan, options, writer, store, step, evaluated);
}

}  // namespace ng
