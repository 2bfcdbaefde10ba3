// SPDX-License-Identifier: Apache-2.0
//
// What one step of a run does: batch, gradients over micro-batches, clipping and AdamW; evaluation; checkpoints.
#include "run.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/summation_order.hpp"
#include "narrowgauge/training/initial_weights.hpp"
#include "run_tables.hpp"

namespace ng {

namespace {

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

/// The edges of the recipe, then those after each of its switches.
Stages stages_of(const RunPlanned& plan) {
  Stages stages;
  stages.push_back(std::make_unique<Edges>(plan.model, plan.resolved));
  for (const ResolvedSwitch& entry : plan.resolved.switches)
    stages.push_back(std::make_unique<Edges>(plan.model, entry.recipe));
  return stages;
}

/// Row quantizers of the column forms' tensors, by site (Recorder).
std::map<std::uint32_t, QuantizerSpec> row_specs_of(const Edges& edges) {
  std::map<std::uint32_t, QuantizerSpec> specs;
  for (const Site& site : edges.sites())
    if (const QuantizerSpec* spec = edges.row_spec(site.index)) specs.emplace(site.index, *spec);
  return specs;
}

/// Codes of the widest format among the sites of an entry, in any stage.
std::int64_t histogram_codes(const Stages& stages, const BoundEntry& entry) {
  constexpr int kMost = 12;
  int bits = 0;
  for (const auto& edges : stages)
    for (const Site& site : entry.sites)
      if (const OperandSpec& spec = edges->spec(site.index); spec.kind == OperandKind::quantized)
        bits = std::max(bits, bit_count(spec.quantizer.element));
  if (bits > kMost)
    throw UserError(fmt::format("recording entry '{}': code histograms are for formats of up to {} bits, not {}",
                                entry.entry.name, kMost, bits));
  return std::int64_t{1} << bits;
}

}  // namespace

Run::Run(const RunPlanned& plan, const BackendOptions& options)
    : plan_(plan),
      backend_(make_backend(plan.request.backend, {options.threads, plan.arithmetic, options.baseline_isa})),
      communicator_(make_single_rank()),
      data_(TokenSource::open(plan.request.data)),
      order_(plan.request.seed, data_.train(), plan.training.sequence_length),
      eval_windows_(evaluation_windows(data_.heldout(), plan.training.sequence_length, plan.training.eval_windows)),
      model_(plan.model, *backend_, *communicator_, plan.request.seed),
      stages_(stages_of(plan)),
      bf16_edges_(plan.model, bf16_recipe(plan.model.shape())),
      bf16_is_same_(bf16_recipe(plan.model.shape()).digest() == plan.resolved.digest()) {
  if (!plan.request.init_path.empty())
    load_initial_weights(plan.request.init_path, plan.model, *backend_, model_.parameters());
  for (const Parameter& p : model_.parameters().all()) {
    state_.first.push_back(backend_->zeros(Dtype::f32, p.trained ? p.rows() : 0, p.cols()));
    state_.second.push_back(backend_->zeros(Dtype::f32, p.trained ? p.rows() : 0, p.cols()));
  }
  for (const auto& stage : stages_) stage->bind(state_.quantizers);
  const std::vector<Site> quantized = quantized_sites(), products = edges().products();
  entries_ = plan.recording.bind({quantized, edges().sites(), products});
  for (BoundEntry& entry : entries_) {
    if (entry.entry.code_histogram_every > 0) entry.codes = histogram_codes(stages_, entry);
  }
  recorder_ = std::make_unique<Recorder>(entries_, plan.training.steps, measurer_of(*backend_));
}

std::vector<Site> Run::quantized_sites() const {
  std::vector<Site> quantized;
  for (const Site& site : edges().sites())
    if (std::any_of(stages_.begin(), stages_.end(),
                    [&](const auto& stage) { return stage->spec(site.index).kind == OperandKind::quantized; }))
      quantized.push_back(site);
  return quantized;
}

Edges& Run::edges_at(std::int64_t step) const {
  const std::vector<std::int64_t>& first = plan_.first_steps;
  const auto after = std::upper_bound(first.begin(), first.end(), step);
  return *stages_[static_cast<std::size_t>(after - first.begin()) - 1];
}

RunSetup Run::setup(const std::string& checkpoint_folder) {
  return run_setup(plan_, stages_, entries_, *backend_, checkpoint_folder);
}

MemoryRow Run::memory(std::int64_t step) {
  std::int64_t weights = 0, gradients = 0;
  for (const Parameter& p : model_.parameters().all()) {
    weights += p.master.view.count() * static_cast<std::int64_t>(sizeof(float));
    gradients += p.gradient.view.count() * static_cast<std::int64_t>(sizeof(float));
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  MemoryRow row{step, {weights, gradients, 2 * gradients}, static_cast<std::int64_t>(usage.ru_maxrss) * 1024};
  const std::vector<std::string> kinds = memory_kinds(stages_);
  for (std::size_t i = row.bytes.size(); i < kinds.size(); ++i) {
    const auto found = model_.saved_bytes().find(kinds[i].substr(std::string("saved_").size()));
    row.bytes.push_back(found == model_.saved_bytes().end() ? 0 : found->second);
  }
  return row;
}

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
  return Batch{
      ids_, targets_, sequences, t.sequence_length, t.tokens_per_step(), micro_batch * sequences * t.sequence_length};
}

StepLosses Run::gradients(std::int64_t step, Tap* observer) {
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
  losses.counts.assign(moe_layers, std::vector<std::int64_t>(experts, 0));
  std::vector<std::int64_t> dropped(moe_layers, 0);
  const double slots = static_cast<double>(t.tokens_per_step() * plan_.model.top_k);
  token_losses_.resize(static_cast<std::size_t>(t.tokens_per_step()));
  model_.parameters().zero_gradients(*backend_);
  Edges& edges = edges_at(step);
  if (measured_ != &edges) recorder_->set_row_specs(row_specs_of(edges));
  measured_ = &edges;
  Tap* recorder = recorder_->begin_step(step) ? recorder_.get() : nullptr;
  backend_->set_tap(observer != nullptr ? observer : recorder);
  const double share = 1.0 / static_cast<double>(t.micro_batches);
  for (std::int64_t m = 0; m < t.micro_batches; ++m) {
    const Batch batch = batch_at(step, m);
    const StepContext context{plan_.request.seed, step, static_cast<std::int32_t>(m), Phase::train};
    const ForwardResult result = model_.train(context, batch, edges);
    backend_->download(token_losses_.data() + batch.first_token, result.token_loss.view);
    for (std::size_t l = 0; l < result.moe.size(); ++l) {
      const MoeStatistics& moe = result.moe[l];
      for (std::size_t e = 0; e < experts; ++e) {
        losses.moe.load[l * experts + e] += static_cast<float>(moe.counts[e]);
        losses.counts[l][e] += moe.counts[e];
      }
      dropped[l] += moe.dropped;
      losses.moe.router_entropy[l] += static_cast<float>(moe.entropy * share);
      losses.moe.aux_loss[l] += static_cast<float>(moe.aux_loss * share);
      losses.aux += moe.aux_loss * share;
      losses.z += moe.z_loss * share;
    }
  }
  if (observer == nullptr && recorder_->probes()) show_probe(step);
  backend_->set_tap(nullptr);
  model_.finish_gradients(edges);
  for (std::size_t l = 0; l < moe_layers; ++l) {
    const auto begin = losses.moe.load.begin() + static_cast<std::ptrdiff_t>(l * experts);
    const float largest = *std::max_element(begin, begin + static_cast<std::ptrdiff_t>(experts));
    const double mean = slots / static_cast<double>(experts);
    losses.moe.dropped[l] = static_cast<float>(static_cast<double>(dropped[l]) / slots);
    losses.moe.max_violation[l] = static_cast<float>(static_cast<double>(largest) / mean - 1.0);
  }
  losses.loss = tree_sum(token_losses_) / static_cast<double>(t.tokens_per_step());
  return losses;
}

Batch Run::evaluation_batch(std::int64_t first, std::int64_t sequences) {
  const std::size_t length = static_cast<std::size_t>(plan_.training.sequence_length);
  ids_.resize(static_cast<std::size_t>(sequences) * length);
  targets_.resize(ids_.size());
  for (std::int64_t s = 0; s < sequences; ++s) {
    const std::size_t at = static_cast<std::size_t>(s) * length;
    data_.read_window(eval_windows_[static_cast<std::size_t>(first + s)], std::span(ids_).subspan(at, length),
                      std::span(targets_).subspan(at, length));
  }
  const std::int64_t windows = static_cast<std::int64_t>(eval_windows_.size());
  return Batch{ids_,
               targets_,
               sequences,
               plan_.training.sequence_length,
               windows * plan_.training.sequence_length,
               first * plan_.training.sequence_length};
}

void Run::show_probe(std::int64_t step) {
  const TrainingConfig& t = plan_.training;
  const std::int64_t probed = std::min(t.batch, static_cast<std::int64_t>(eval_windows_.size()));
  const std::int64_t per_batch = t.batch / t.micro_batches;
  for (std::int64_t w = 0; w < probed; w += per_batch) {
    const StepContext context{plan_.request.seed, step, static_cast<std::int32_t>(w / per_batch), Phase::probe};
    (void)model_.evaluate(context, evaluation_batch(w, std::min(per_batch, probed - w)), edges_at(step));
  }
}

double Run::evaluate(std::int64_t step, Edges& edges) {
  const TrainingConfig& t = plan_.training;
  const std::int64_t windows = static_cast<std::int64_t>(eval_windows_.size());
  std::vector<float> losses(static_cast<std::size_t>(windows * t.sequence_length));
  const std::int64_t per_batch = std::max<std::int64_t>(1, t.batch / t.micro_batches);
  for (std::int64_t w = 0; w < windows; w += per_batch) {
    const std::int64_t sequences = std::min(per_batch, windows - w);
    const std::int64_t tokens = sequences * t.sequence_length;
    const Batch batch = evaluation_batch(w, sequences);
    const StepContext context{plan_.request.seed, step, 0, Phase::eval};
    const ForwardResult result = model_.evaluate(context, batch, edges);
    NG_CHECK_EQ(result.token_loss.view.cols, tokens);
    backend_->download(losses.data() + w * t.sequence_length, result.token_loss.view);
  }
  return tree_sum(losses) / static_cast<double>(losses.size());
}

EvalRow Run::evaluation(std::int64_t step) {
  EvalRow row;
  row.step = step;
  row.loss = evaluate(step, edges_at(step));
  row.loss_bf16 = bf16_is_same_ ? row.loss : evaluate(step, bf16_edges_);
  row.tokens = static_cast<std::int64_t>(eval_windows_.size()) * plan_.training.sequence_length;
  return row;
}

double Run::gradient_norm() {
  double sum = 0.0;  // parameters in their order
  for (const Parameter& p : model_.parameters().all())
    if (p.trained) sum = add_rn(sum, backend_->sum_of_squares(p.gradient.view));
  return std::sqrt(sum);
}

void Run::update(std::int64_t step, double norm, const StepLosses& losses) {
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
    if (!p.trained) continue;
    backend_->adamw(
        spec, scalars,
        ParameterUpdate{p.master.view, p.gradient.view, state_.first[i].view, state_.second[i].view, p.decay});
  }
  update_router_biases(losses);
  state_.quantizers.advance();
  for (const auto& stage : stages_) stage->forget_weights();
  bf16_edges_.forget_weights();
}

// b_e += bias_rate * sign(mean count - count_e), one FP32 rounding; the sign is that of whole numbers.
void Run::update_router_biases(const StepLosses& losses) {
  if (plan_.model.bias_rate == 0.0) return;
  const float rate = static_cast<float>(plan_.model.bias_rate);
  const std::int64_t slots = plan_.training.tokens_per_step() * plan_.model.top_k;
  for (std::size_t l = 0; l < losses.counts.size(); ++l) {
    const TensorView& bias =
        model_.parameters().layer(plan_.model.dense_layers + static_cast<std::int64_t>(l), "router_bias").master.view;
    std::vector<float> values(losses.counts[l].size());
    backend_->download(values.data(), bias);
    for (std::size_t e = 0; e < values.size(); ++e) {
      const std::int64_t lacking = slots - losses.counts[l][e] * static_cast<std::int64_t>(values.size());
      if (lacking != 0) values[e] = add_rn(values[e], lacking > 0 ? rate : -rate);
    }
    backend_->upload(bias, values.data());
  }
}

std::vector<Run::StateTensor> Run::state_tensors() {
  std::vector<StateTensor> tensors;
  const std::vector<Parameter>& parameters = model_.parameters().all();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    tensors.push_back({"master/" + p.name, p.shape, p.master.view});
    if (!p.trained) continue;
    tensors.push_back({"adam_m/" + p.name, p.shape, state_.first[i].view});
    tensors.push_back({"adam_v/" + p.name, p.shape, state_.second[i].view});
  }
  return tensors;
}

void Run::save(CheckpointStore& store, RunFileWriter& writer, std::int64_t steps_done) {
  if (last_saved_ == steps_done) return;
  last_saved_ = steps_done;
  writer.flush();  // the streams reach at least as far as the checkpoint
  CheckpointContents contents;
  contents.step = steps_done;
  contents.run_id = plan_.run_id;
  std::vector<std::vector<float>> host;
  const std::vector<StateTensor> tensors = state_tensors();
  host.reserve(tensors.size());
  for (const StateTensor& tensor : tensors) {
    host.emplace_back(static_cast<std::size_t>(tensor.view.count()));
    backend_->download(host.back().data(), tensor.view);
    contents.tensors.push_back({tensor.name, Dtype::f32, tensor.shape, std::as_bytes(std::span(host.back()))});
  }
  const std::map<std::string, Array> recorded = recorder_->state();
  for (const auto& [name, array] : recorded) contents.tensors.push_back({name, array.dtype, array.shape, array.data});
  for (const auto& [site, history] : state_.quantizers.amax)
    if (!history.past.empty())
      contents.tensors.push_back({"amax_history/" + site,
                                  Dtype::f32,
                                  {static_cast<std::int64_t>(history.past.size()) / history.groups, history.groups},
                                  std::as_bytes(std::span(history.past))});
  const SavedCheckpoint saved = store.save(contents);
  writer.append(CheckpointRow{saved.step, saved.bytes, saved.digest});
  writer.flush();
}

void Run::restore(const LoadedCheckpoint& checkpoint) {
  last_saved_ = checkpoint.step;
  recorder_->restore(checkpoint.tensors);
  if (checkpoint.run_id != plan_.run_id)
    throw UserError(
        fmt::format("{}: belongs to run {}, not to {}", checkpoint.path.string(), checkpoint.run_id, plan_.run_id));
  load_state(checkpoint);
}

void Run::load_state(const LoadedCheckpoint& checkpoint) {
  for (auto& [site, history] : state_.quantizers.amax) {
    const auto found = checkpoint.tensors.find("amax_history/" + site);
    if (found == checkpoint.tensors.end()) continue;  // no step yet
    const Array& array = found->second;
    if (array.dtype != Dtype::f32 || array.shape.size() != 2 || array.shape[0] > history.spec.history)
      throw UserError(
          fmt::format("{}: {} is not the state of this run's quantizer", checkpoint.path.string(), found->first));
    const auto* values = reinterpret_cast<const float*>(array.data.data());
    history.groups = array.shape[1];
    history.past.assign(values, values + array.shape[0] * array.shape[1]);
  }
  for (const StateTensor& tensor : state_tensors()) {
    const Array& array = checkpoint.tensor(tensor.name);
    if (array.dtype != Dtype::f32 || array.shape != tensor.shape)
      throw UserError(
          fmt::format("{}: tensor {} has another shape than the model", checkpoint.path.string(), tensor.name));
    backend_->upload(tensor.view, array.data.data());
  }
}

}  // namespace ng
