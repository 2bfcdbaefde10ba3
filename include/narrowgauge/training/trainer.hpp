// SPDX-License-Identifier: Apache-2.0
//
// One training run: data, model, recipe, optimizer, recording, checkpoints. The result is a pure function of the run's
// identity: threads, instruction set, recording, evaluation cadence, interruption and resumption change no byte of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "narrowgauge/backend/backend.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "narrowgauge/recording/recording_plan.hpp"
#include "narrowgauge/recording/run_file.hpp"
#include "narrowgauge/training/training_config.hpp"

namespace ng {

/// Where a forked run begins: with the state of another run after `step` steps. Part of its identity, but for the file.
struct ForkPoint {
  std::string run_file;
  std::string run_id;
  std::string digest;  ///< of the checkpoint
  std::int64_t step = 0;
};

/// The arithmetic of a run that names none: tensor cores where there are some, "hopper" on cuda, else "ieee".
[[nodiscard]] std::string default_arithmetic(const std::string& backend);

/// What the user asked for, as texts: enough to start a run and, from a run file, to go on with it.
struct RunRequest {
  std::string model_path, model_text;
  std::string recipe_path, recipe_text;
  std::map<std::string, std::string> switch_texts;  ///< by path, of the recipes that the recipe switches to
  std::string record_path, record_text;             ///< empty path: the built-in plan; "none": nothing is recorded
  std::string data;                                 ///< data spec of io/token_stream.hpp
  std::vector<std::pair<std::string, std::string>> settings;  ///< --set path, value: train.*, model.*, recipe.*
  std::string init_path;  ///< safetensors of the initial weights (initial_weights.hpp); empty: random ones
  std::uint32_t seed = 0;
  std::string backend = "cpu";
  std::string arithmetic = "ieee";
  std::optional<ForkPoint> fork;

  /// Reads the files named by the three paths into the texts.
  void read_files();
  [[nodiscard]] Json to_json() const;
  static RunRequest from_json(const Json& json);
};

/// A request with everything parsed and resolved.
struct RunPlanned {
  RunRequest request;
  Arithmetic arithmetic = Arithmetic::ieee;
  ModelConfig model;
  Recipe recipe;
  ResolvedRecipe resolved;
  std::vector<std::int64_t> first_steps;  ///< of each stage: 0, then the steps of the recipe's switches
  TrainingConfig training;
  RecordingPlan recording;
  std::string data_digest;
  std::int64_t data_vocabulary = 0;
  Json identity;       ///< everything that decides the run's numbers
  std::string run_id;  ///< first 12 hexadecimal digits of its digest
};

/// Parses, resolves, checks that everything fits together. Reads the data's digest, and the recipes of a switch whose
/// texts the request has not: the plan's request has them. UserError naming the place.
[[nodiscard]] RunPlanned plan_run(const RunRequest& request);

struct RunProgressReport {
  std::int64_t step = 0;  ///< done
  std::int64_t steps = 0;
  double loss = 0.0;
  double tokens_per_second = 0.0;
  double seconds_left = 0.0;
};

struct RunOptions {
  BackendOptions backend;
  std::function<void(const RunProgressReport&)> progress;
  std::function<bool()> interrupted;  ///< asked between steps
  bool closing = true;                ///< evaluate and checkpoint at the end; false for runs that nobody keeps
};

struct RunResult {
  std::int64_t steps = 0;
  double loss = 0.0;
  double eval_loss = 0.0;
  double eval_loss_bf16 = 0.0;
  double seconds = 0.0;
  std::int64_t carrier_losses = 0;  ///< Backend::carrier_losses of this process
};

/// Trains from the beginning into `out` (a run file, which must not exist). DivergedError and InterruptedError leave
/// the run file closed with that status; an interrupted one can be resumed.
RunResult train_run(const RunPlanned& plan, const std::string& out, const RunOptions& options);

/// Goes on with an interrupted or killed run, from its newest checkpoint, byte for byte; a finished one returns its
/// result. UserError saying what differs when program sources, data or files are no longer those of the run.
RunResult resume_run(const std::string& run_file, const RunOptions& options);

/// The request of a run that goes on from RUN.h5@STEP, all else as in that run; the caller changes what is to differ
/// (recipe, settings). UserError when there is no such checkpoint, naming those that are there.
[[nodiscard]] RunRequest fork_request(const std::string& run_file, std::int64_t step);

/// The request that a run file was made from.
[[nodiscard]] RunRequest request_of(const RunReader& run);

}  // namespace ng
