// SPDX-License-Identifier: Apache-2.0
//
// A run in memory: data, model, optimizer state, recorder; what one step does, and how its state is saved and restored.
// The order of steps, evaluations and checkpoints is the loop's (trainer.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "narrowgauge/io/token_stream.hpp"
#include "narrowgauge/model/model.hpp"
#include "narrowgauge/recording/checkpoint.hpp"
#include "narrowgauge/recording/recorder.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

/// What a step reports. MoE statistics are over all micro-batches.
struct StepLosses {
  double loss = 0;  ///< mean cross entropy over the step's tokens, nats
  double aux = 0;
  double z = 0;
  MoeRow moe;
  std::vector<std::vector<std::int64_t>> counts;  ///< [MoE layer][expert]: slots that chose it, dropped ones included
};

struct OptimizerState {
  std::vector<Tensor> first;
  std::vector<Tensor> second;
  QuantizerState quantizers;
};

/// Everything of a run in memory.
class Run {
 public:
  /// Allocates everything; `plan` must outlive the run.
  Run(const RunPlanned& plan, const BackendOptions& options);

  /// What the run file says before the first step.
  RunSetup setup(const std::string& checkpoint_folder);

  /// Losses of step `step` and the gradients of all its micro-batches. With `record` due, the recorder looks on.
  /// `observer`: sees the step in the recorder's place.
  StepLosses gradients(std::int64_t step, Tap* observer = nullptr);
  /// The model's sites, the same in every stage of the recipe.
  [[nodiscard]] const Edges& edges() const { return *stages_.front(); }
  /// Operand sites that are quantized in any stage.
  [[nodiscard]] std::vector<Site> quantized_sites() const;
  [[nodiscard]] Backend& backend() { return *backend_; }
  /// Euclidean norm of all gradients together.
  double gradient_norm();
  /// Clipping, AdamW; then the routers' biases, each one step of bias_rate towards the even load of `losses`.
  void update(std::int64_t step, double norm, const StepLosses& losses);
  /// Rows of the recording plan that are due in the step just made.
  std::vector<RecordRow> records() { return recorder_->finish_step(); }
  /// Held-out losses after `step` updates, with the recipe's forward and in BF16.
  EvalRow evaluation(std::int64_t step);
  MemoryRow memory(std::int64_t step);
  std::int64_t carrier_losses() const { return backend_->carrier_losses(); }
  std::string library_kernels() const { return backend_->library_kernels(); }

  /// Saves the state after `steps_done` updates, unless that is the newest checkpoint already.
  void save(CheckpointStore& store, RunFileWriter& writer, std::int64_t steps_done);
  /// UserError when the checkpoint is another run's or does not fit.
  void restore(const LoadedCheckpoint& checkpoint);
  /// Begins with the weights and states of another run's checkpoint. UserError when it does not fit.
  void fork(const LoadedCheckpoint& checkpoint) { load_state(checkpoint); }

 private:
  void load_state(const LoadedCheckpoint& checkpoint);
  /// The edges of the stage that step `step` belongs to; those of the last one after the run.
  [[nodiscard]] Edges& edges_at(std::int64_t step) const;
  Batch batch_at(std::int64_t step, std::int64_t micro_batch);
  /// Held-out windows [first, first + sequences).
  Batch evaluation_batch(std::int64_t first, std::int64_t sequences);
  /// The first held-out windows, forward, for entries of the recording plan that look at the same tokens every time.
  void show_probe(std::int64_t step);
  double evaluate(std::int64_t step, Edges& edges);
  void update_router_biases(const StepLosses& losses);
  /// All tensors of the state with their names in a checkpoint; only trained parameters have optimizer state.
  struct StateTensor {
    std::string name;
    const std::vector<std::int64_t>& shape;
    TensorView view;
  };
  std::vector<StateTensor> state_tensors();

  const RunPlanned& plan_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> communicator_;
  TokenSource data_;
  BatchOrder order_;
  std::vector<std::int64_t> eval_windows_;
  Model model_;
  std::vector<std::unique_ptr<Edges>> stages_;  // by first step: RunPlanned::first_steps
  Edges bf16_edges_;
  bool bf16_is_same_;
  OptimizerState state_;
  std::vector<BoundEntry> entries_;
  std::unique_ptr<Recorder> recorder_;
  std::vector<std::int32_t> ids_, targets_;
  std::vector<float> token_losses_;
  const Edges* measured_ = nullptr;  // whose row quantizers the recorder has
  std::int64_t last_saved_ = -1;     // steps done at the newest checkpoint
};

}  // namespace ng
