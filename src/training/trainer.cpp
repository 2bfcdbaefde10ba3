// SPDX-License-Identifier: Apache-2.0
//
// The loop: batches in a fixed order, forward and backward per micro-batch, clipping, AdamW, evaluation, recording,
// checkpoints, and the two ways to end early.
#include "narrowgauge/training/trainer.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/token_stream.hpp"
#include "narrowgauge/model/model.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/recording/checkpoint.hpp"
#include "narrowgauge/recording/recorder.hpp"
#include "run_tables.hpp"

namespace ng {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Sum over the tree of summation_order.hpp.
double tree_sum(const std::vector<float>& values) {
  std::vector<double> partials(summation_leaves(values.size()), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i)
    partials[i / kSummationLeaf] = add_rn(partials[i / kSummationLeaf], static_cast<double>(values[i]));
  return reduce_tree(partials.data(), partials.size());
}

/// The recipe of the evaluation in BF16: every operand rounded once, carried tensors as BF16.
ResolvedRecipe bf16_recipe(const ModelShape& shape) {
  static const char* const kText = R"(
name = "bf16"
rule = [{ use = "bf16" }]
[tensor]
carried = { residual = "bf16", gemm_output = "bf16", logits = "f32", softmax = "f32" }
exchange = { dispatch = "bf16", combine = "bf16", dispatch_grad = "bf16", combine_grad = "bf16" }
state = { master = "f32", adam_m = "f32", adam_v = "f32", weight_grad = "f32" }
)";
  return resolve(Recipe::from_text("built-in bf16", kText), shape);
}

struct OptimizerState {
  std::vector<Tensor> first;
  std::vector<Tensor> second;
};

/// Everything of a run in memory.
class Run {
 public:
  Run(const RunPlanned& plan, const RunOptions& options)
      : plan_(plan),
        options_(options),
        backend_(make_backend(plan.request.backend, options.backend)),
        communicator_(make_single_rank()),
        data_(TokenSource::open(plan.request.data)),
        order_(plan.request.seed, data_.train(), plan.training.sequence_length),
        eval_windows_(evaluation_windows(data_.heldout(), plan.training.sequence_length, plan.training.eval_windows)),
        model_(plan.model, *backend_, *communicator_, plan.request.seed),
        edges_(plan.model, plan.resolved),
        bf16_edges_(plan.model, bf16_recipe(plan.model.shape())),
        bf16_is_same_(bf16_recipe(plan.model.shape()).digest() == plan.resolved.digest()) {
    for (const Parameter& p : model_.parameters().all()) {
      state_.first.push_back(backend_->zeros(Dtype::f32, p.rows(), p.cols()));
      state_.second.push_back(backend_->zeros(Dtype::f32, p.rows(), p.cols()));
    }
    entries_ = plan.recording.bind(edges_.quantized_sites(), edges_.sites());
    std::map<std::uint32_t, QuantizerSpec> row_specs;
    for (const Site& site : edges_.sites())
      if (const QuantizerSpec* spec = edges_.row_spec(site.index)) row_specs.emplace(site.index, *spec);
    recorder_ = std::make_unique<Recorder>(entries_, plan.training.steps, measurer_of(*backend_), std::move(row_specs));
  }

  RunSetup setup(const std::string& checkpoint_folder) {
    return run_setup(plan_, edges_, entries_, *backend_, checkpoint_folder);
  }

  void restore(const LoadedCheckpoint& checkpoint);
  /// `evaluated`: steps whose evaluation the run file already has.
  RunResult loop(RunFileWriter& writer, CheckpointStore& store, std::int64_t first_step,
                 const std::vector<EvalRow>& evaluated);

 private:
  struct StepLosses {
    double loss = 0, aux = 0, z = 0;
    MoeRow moe;
  };

  Batch batch_at(std::int64_t step, std::int64_t micro_batch);
  StepLosses gradients(std::int64_t step);
  double evaluate(std::int64_t step, Edges& edges);
  double gradient_norm();
  void update(std::int64_t step, double norm);
  void save(CheckpointStore& store, RunFileWriter& writer, std::int64_t steps_done);
  EvalRow evaluation_row(std::int64_t step);
  bool due(std::int64_t every, std::int64_t steps_done) const {
    return steps_done == plan_.training.steps || (every > 0 && steps_done % every == 0);
  }

  const RunPlanned& plan_;
  const RunOptions& options_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> communicator_;
  TokenSource data_;
  BatchOrder order_;
  std::vector<std::int64_t> eval_windows_;
  Model model_;
  Edges edges_;
  Edges bf16_edges_;
  bool bf16_is_same_;
  OptimizerState state_;
  std::vector<BoundEntry> entries_;
  std::unique_ptr<Recorder> recorder_;
  std::vector<std::int32_t> ids_, targets_;
  std::vector<float> token_losses_;
  std::int64_t last_saved_ = -1;  // steps done at the newest checkpoint
};

Batch Run::batch_at(std::int64_t step, std::int64_t micro_batch) {
  const TrainingConfig& t = plan_.training;
  const std::int64_t sequences = t.batch / t.micro_batches;
  ids_.resize(static_cast<std::size_t>(sequences * t.sequence_length));
  targets_.resize(ids_.size());
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::size_t at = static_cast<std::size_t>(s * t.sequence_length);
    const std::size_t length = static_cast<std::size_t>(t.sequence_length);
    data_.read_window(order_.sequence_start(step, micro_batch * sequences + s, t.batch),
                      std::span(ids_).subspan(at, length), std::span(targets_).subspan(at, length));
  }
  return Batch{ids_, targets_, sequences, t.sequence_length, t.tokens_per_step(),
               micro_batch * sequences * t.sequence_length};
}

Run::StepLosses Run::gradients(std::int64_t step) {
  const TrainingConfig& t = plan_.training;
  const std::size_t moe_layers = static_cast<std::size_t>(plan_.model.layers - plan_.model.dense_layers);
  const std::size_t experts = static_cast<std::size_t>(plan_.model.experts);
  StepLosses losses;
  losses.moe.step = step;
  losses.moe.load.assign(moe_layers * experts, 0.0f);
  losses.moe.dropped.assign(moe_layers, 0.0f);
  losses.moe.router_entropy.assign(moe_layers, 0.0f);
  losses.moe.max_violation.assign(moe_layers, 0.0f);
  losses.moe.aux_loss.assign(moe_layers, 0.0f);
  token_losses_.resize(static_cast<std::size_t>(t.tokens_per_step()));
  model_.parameters().zero_gradients(*backend_);
  const double share = 1.0 / static_cast<double>(t.micro_batches);
  for (std::int64_t m = 0; m < t.micro_batches; ++m) {
    const Batch batch = batch_at(step, m);
    const StepContext context{plan_.request.seed, step, static_cast<std::int32_t>(m), Phase::train};
    const ForwardResult result = model_.train(context, batch, edges_);
    backend_->download(token_losses_.data() + batch.first_token, result.token_loss.view);
    for (std::size_t l = 0; l < result.moe.size(); ++l) {
      const MoeStatistics& moe = result.moe[l];
      for (std::size_t e = 0; e < experts; ++e) losses.moe.load[l * experts + e] += static_cast<float>(moe.counts[e]);
      losses.moe.router_entropy[l] += static_cast<float>(moe.entropy * share);
      losses.moe.aux_loss[l] += static_cast<float>(moe.aux_loss * share);
      losses.aux += moe.aux_loss * share;
      losses.z += moe.z_loss * share;
    }
  }
  for (std::size_t l = 0; l < moe_layers; ++l) {
    const auto begin = losses.moe.load.begin() + static_cast<std::ptrdiff_t>(l * experts);
    const float largest = *std::max_element(begin, begin + static_cast<std::ptrdiff_t>(experts));
    const double mean = static_cast<double>(t.tokens_per_step() * plan_.model.top_k) / static_cast<double>(experts);
    losses.moe.max_violation[l] = static_cast<float>(static_cast<double>(largest) / mean - 1.0);
  }
  losses.loss = tree_sum(token_losses_) / static_cast<double>(t.tokens_per_step());
  return losses;
}

double Run::evaluate(std::int64_t step, Edges& edges) {
  const TrainingConfig& t = plan_.training;
  const std::int64_t windows = static_cast<std::int64_t>(eval_windows_.size());
  std::vector<float> losses(static_cast<std::size_t>(windows * t.sequence_length));
  const std::int64_t per_batch = std::max<std::int64_t>(1, t.batch / t.micro_batches);
  for (std::int64_t w = 0; w < windows; w += per_batch) {
    const std::int64_t sequences = std::min(per_batch, windows - w);
    ids_.resize(static_cast<std::size_t>(sequences * t.sequence_length));
    targets_.resize(ids_.size());
    for (std::int64_t s = 0; s < sequences; ++s) {
      const std::size_t at = static_cast<std::size_t>(s * t.sequence_length);
      const std::size_t length = static_cast<std::size_t>(t.sequence_length);
      data_.read_window(eval_windows_[static_cast<std::size_t>(w + s)], std::span(ids_).subspan(at, length),
                        std::span(targets_).subspan(at, length));
    }
    const std::int64_t tokens = sequences * t.sequence_length;
    const Batch batch{ids_, targets_, sequences, t.sequence_length, windows * t.sequence_length, w * t.sequence_length};
    const StepContext context{plan_.request.seed, step, 0, Phase::eval};
    const ForwardResult result = model_.evaluate(context, batch, edges);
    NG_CHECK_EQ(result.token_loss.view.cols, tokens);
    backend_->download(losses.data() + w * t.sequence_length, result.token_loss.view);
  }
  return tree_sum(losses) / static_cast<double>(losses.size());
}

EvalRow Run::evaluation_row(std::int64_t step) {
  EvalRow row;
  row.step = step;
  row.loss = evaluate(step, edges_);
  row.loss_bf16 = bf16_is_same_ ? row.loss : evaluate(step, bf16_edges_);
  row.tokens = static_cast<std::int64_t>(eval_windows_.size()) * plan_.training.sequence_length;
  return row;
}

double Run::gradient_norm() {
  double sum = 0.0;  // parameters in their order
  for (const Parameter& p : model_.parameters().all()) sum = add_rn(sum, backend_->sum_of_squares(p.gradient.view));
  return std::sqrt(sum);
}

void Run::update(std::int64_t step, double norm) {
  const TrainingConfig& t = plan_.training;
  const AdamWSpec spec{static_cast<float>(t.beta1), static_cast<float>(t.beta2), static_cast<float>(t.epsilon),
                       static_cast<float>(t.weight_decay)};
  StepScalars scalars;
  scalars.learning_rate = static_cast<float>(learning_rate_at(t, step));
  scalars.clip_factor = t.clip > 0.0 ? static_cast<float>(std::min(1.0, t.clip / (norm + 1e-6))) : 1.0f;
  double power1 = 1.0;
  double power2 = 1.0;
  for (std::int64_t i = 0; i <= step; ++i) {  // products, not pow: the same on every machine
    power1 *= t.beta1;
    power2 *= t.beta2;
  }
  scalars.bias_correction1 = static_cast<float>(1.0 / (1.0 - power1));
  scalars.bias_correction2 = static_cast<float>(1.0 / (1.0 - power2));
  std::vector<Parameter>& parameters = model_.parameters().all();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Parameter& p = parameters[i];
    backend_->adamw(spec, scalars, ParameterUpdate{p.master.view, p.gradient.view, state_.first[i].view, state_.second[i].view, p.decay});
  }
  edges_.forget_weights();
  bf16_edges_.forget_weights();
}

void Run::save(CheckpointStore& store, RunFileWriter& writer, std::int64_t steps_done) {
  if (last_saved_ == steps_done) return;
  last_saved_ = steps_done;
  writer.flush();  // the streams reach at least as far as the checkpoint
  CheckpointContents contents;
  contents.step = steps_done;
  contents.run_id = plan_.run_id;
  std::vector<std::vector<float>> host;
  const std::vector<Parameter>& parameters = model_.parameters().all();
  host.reserve(3 * parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    for (const auto& [kind, view] : {std::pair<const char*, TensorView>{"master", p.master.view},
                                     {"adam_m", state_.first[i].view},
                                     {"adam_v", state_.second[i].view}}) {
      host.emplace_back(static_cast<std::size_t>(view.count()));
      backend_->download(host.back().data(), view);
      contents.tensors.push_back({std::string(kind) + "/" + p.name, Dtype::f32, p.shape, std::as_bytes(std::span(host.back()))});
    }
  }
  const SavedCheckpoint saved = store.save(contents);
  writer.append(CheckpointRow{saved.step, saved.bytes, saved.digest});
  writer.flush();
}

void Run::restore(const LoadedCheckpoint& checkpoint) {
  last_saved_ = checkpoint.step;
  if (checkpoint.run_id != plan_.run_id)
    throw UserError(fmt::format("{}: belongs to run {}, not to {}", checkpoint.path.string(), checkpoint.run_id, plan_.run_id));
  std::vector<Parameter>& parameters = model_.parameters().all();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Parameter& p = parameters[i];
    for (const auto& [kind, view] : {std::pair<const char*, TensorView>{"master", p.master.view},
                                     {"adam_m", state_.first[i].view},
                                     {"adam_v", state_.second[i].view}}) {
      const Array& array = checkpoint.tensor(std::string(kind) + "/" + p.name);
      if (array.dtype != Dtype::f32 || array.shape != p.shape)
        throw UserError(fmt::format("{}: tensor {}/{} has another shape than the model", checkpoint.path.string(), kind, p.name));
      backend_->upload(view, array.data.data());
    }
  }
}

RunResult Run::loop(RunFileWriter& writer, CheckpointStore& store, std::int64_t first_step,
                    const std::vector<EvalRow>& evaluated) {
  const TrainingConfig& t = plan_.training;
  const double limit = t.divergence_loss > 0.0 ? t.divergence_loss : 2.0 * std::log(static_cast<double>(plan_.model.vocabulary));
  const Clock::time_point start = Clock::now();
  RunResult result;
  const auto evaluate_if_due = [&](std::int64_t steps_done) {
    if (!due(t.eval_every, steps_done)) return;
    const auto known = std::find_if(evaluated.begin(), evaluated.end(), [&](const EvalRow& row) { return row.step == steps_done; });
    const EvalRow row = known != evaluated.end() ? *known : evaluation_row(steps_done);
    if (known == evaluated.end()) writer.append(row);
    result.eval_loss = row.loss;
    result.eval_loss_bf16 = row.loss_bf16;
  };
  evaluate_if_due(first_step);

  for (std::int64_t step = first_step; step < t.steps; ++step) {
    if (options_.interrupted && options_.interrupted()) {
      save(store, writer, step);
      writer.set_status(RunStatus::interrupted);
      writer.close();
      throw InterruptedError(fmt::format("interrupted after {} of {} steps; go on with: narrowgauge train --resume {}", step,
                                         t.steps, writer.path()));
    }
    const Clock::time_point step_start = Clock::now();
    backend_->set_tap(recorder_->begin_step(step) ? recorder_.get() : nullptr);
    const StepLosses losses = gradients(step);
    backend_->set_tap(nullptr);
    const double norm = gradient_norm();
    const bool usable = std::isfinite(losses.loss) && std::isfinite(norm) && losses.loss <= limit;
    if (usable) update(step, norm);

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
    for (RecordRow& record : recorder_->finish_step()) writer.append(std::move(record));
    if (!usable) {
      writer.set_status(RunStatus::diverged);
      writer.close();
      throw DivergedError(fmt::format("{}: diverged in step {}: loss {}, gradient norm {} (limit for the loss: {:.3f}, key divergence_loss)",
                                      writer.path(), step, losses.loss, norm, limit));
    }
    const std::int64_t done = step + 1;
    result.loss = losses.loss;
    evaluate_if_due(done);
    if (due(t.checkpoint_every, done)) {
      std::int64_t weights = 0;
      for (const Parameter& p : model_.parameters().all()) weights += p.master.view.count() * static_cast<std::int64_t>(sizeof(float));
      rusage usage{};
      getrusage(RUSAGE_SELF, &usage);
      writer.append(MemoryRow{step, {weights, weights, 2 * weights}, static_cast<std::int64_t>(usage.ru_maxrss) * 1024});
      save(store, writer, done);
    }
    if (options_.progress) {
      const double elapsed = seconds_since(start);
      const double per_step = elapsed / static_cast<double>(done - first_step);
      options_.progress({done, t.steps, losses.loss, static_cast<double>(t.tokens_per_step()) / per_step,
                         per_step * static_cast<double>(t.steps - done)});
    }
  }
  result.steps = t.steps;
  result.seconds = seconds_since(start);
  writer.set_status(RunStatus::done);
  writer.close();
  return result;
}

std::string relative_checkpoint_folder(const std::string& run_file) {
  return checkpoint_folder_of(run_file).filename().string();
}

}  // namespace

RunResult train_run(const RunPlanned& plan, const std::string& out, const RunOptions& options) {
  Run run(plan, options);
  RunFileWriter writer = RunFileWriter::create(out, run.setup(relative_checkpoint_folder(out)));
  CheckpointStore store(checkpoint_folder_of(out));
  store.remove_after(0);  // left over from another run of that name
  return run.loop(writer, store, 0, {});
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
    throw UserError(fmt::format("{}: cannot resume: {} of this program and these files differ from the run's", run_file, differs));
  }
  if (is_done) return finished;

  Run run(plan, options);
  CheckpointStore store(checkpoint_folder_of(run_file));
  const std::optional<LoadedCheckpoint> checkpoint = store.load_latest(OnDamage::use_previous);
  const std::int64_t step = checkpoint ? checkpoint->step : 0;
  RunFileWriter writer = RunFileWriter::reopen(run_file, step);
  std::erase_if(evaluated, [&](const EvalRow& row) { return row.step > step; });
  if (checkpoint) run.restore(*checkpoint);
  store.remove_after(step);
  return run.loop(writer, store, step, evaluated);
}

}  // namespace ng
