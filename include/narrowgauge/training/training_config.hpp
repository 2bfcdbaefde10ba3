// SPDX-License-Identifier: Apache-2.0
//
// The settings of a training loop that are neither model nor recipe: how many tokens, which learning rate, when to
// look. Keys of `--set train.KEY=value` and of a study's [train] table.
#pragma once

#include <cstdint>
#include <string>

#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/toml_reader.hpp"

namespace ng {

enum class Schedule : std::uint8_t { cosine, wsd };

struct TrainingConfig {
  std::int64_t steps = 100;
  std::int64_t batch = 8;  ///< sequences in a step
  std::int64_t sequence_length = 128;
  std::int64_t micro_batches = 1;  ///< a step is cut into this many pieces of equal size
  double learning_rate = 2e-3;     ///< peak
  double min_lr_ratio = 0.1;       ///< of the peak, at the end
  std::int64_t warmup_steps = 10;
  Schedule schedule = Schedule::cosine;
  double decay_fraction = 0.2;  ///< wsd: share of all steps that decay
  double weight_decay = 0.1;    ///< of matrices; gains are not decayed
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double clip = 1.0;                   ///< global norm; 0: off
  double divergence_loss = 0.0;        ///< a training loss above this ends the run as diverged; 0: 2 ln(vocabulary)
  std::int64_t eval_every = 50;        ///< also at the end; 0: only there
  std::int64_t eval_windows = 32;      ///< held-out windows per evaluation; 0: all
  std::int64_t checkpoint_every = 50;  ///< also at the end and when interrupted; 0: only there

  /// Every key is optional. Unknown keys are errors.
  static TrainingConfig from_table(const TomlTable& table);
  /// Of the numbers only: what changes a result. Cadence of evaluation and checkpoints is not part of it.
  [[nodiscard]] Json identity_json() const;
  [[nodiscard]] Json to_json() const;

  [[nodiscard]] std::int64_t tokens_per_step() const { return batch * sequence_length; }
};

/// Learning rate of step `step` (from 0): linear warm-up lr*(step+1)/warmup; then cosine from the peak to
/// min_lr_ratio*peak over the remaining steps, x = (step-W)/(S-W); or wsd: constant, and over the last
/// N = round(decay_fraction*S) steps linear to min_lr_ratio*peak, x = (step-(S-N))/N. Computed in double.
[[nodiscard]] double learning_rate_at(const TrainingConfig& config, std::int64_t step);

}  // namespace ng
