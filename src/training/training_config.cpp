// SPDX-License-Identifier: Apache-2.0
//
// Settings of the loop: reading, writing, the schedule.
#include "narrowgauge/training/training_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "narrowgauge/numerics/elementary.hpp"

namespace ng {

namespace {

const std::array<std::string, 2> kScheduleNames = {"cosine", "wsd"};
constexpr std::int64_t kMost = std::int64_t{1} << 40;

}  // namespace

TrainingConfig TrainingConfig::from_table(const TomlTable& t) {
  TrainingConfig c;
  c.steps = t.optional_int("steps", c.steps, 1, kMost);
  c.batch = t.optional_int("batch", c.batch, 1, 1 << 20);
  c.sequence_length = t.optional_int("sequence_length", c.sequence_length, 1, 1 << 20);
  c.micro_batches = t.optional_int("micro_batches", c.micro_batches, 1, c.batch);
  c.learning_rate = t.optional_double("learning_rate", c.learning_rate, 0.0, 1e3);
  c.min_lr_ratio = t.optional_double("min_lr_ratio", c.min_lr_ratio, 0.0, 1.0);
  c.warmup_steps = t.optional_int("warmup_steps", std::min(c.warmup_steps, c.steps), 0, c.steps);
  c.schedule = static_cast<Schedule>(t.optional_choice("schedule", kScheduleNames, 0));
  c.decay_fraction = t.optional_double("decay_fraction", c.decay_fraction, 0.0, 1.0);
  c.weight_decay = t.optional_double("weight_decay", c.weight_decay, 0.0, 1e3);
  c.beta1 = t.optional_double("beta1", c.beta1, 0.0, 0.999999);
  c.beta2 = t.optional_double("beta2", c.beta2, 0.0, 0.999999);
  c.epsilon = t.optional_double("epsilon", c.epsilon, 1e-30, 1.0);
  c.clip = t.optional_double("clip", c.clip, 0.0, 1e9);
  c.divergence_loss = t.optional_double("divergence_loss", c.divergence_loss, 0.0, 1e9);
  c.eval_every = t.optional_int("eval_every", c.eval_every, 0, kMost);
  c.eval_windows = t.optional_int("eval_windows", c.eval_windows, 0, kMost);
  c.checkpoint_every = t.optional_int("checkpoint_every", c.checkpoint_every, 0, kMost);
  if (c.batch % c.micro_batches != 0) t.fail("micro_batches", "must divide batch (" + std::to_string(c.batch) + ")");
  t.finish();
  return c;
}

Json TrainingConfig::identity_json() const {
  Json json = Json::object();
  json["steps"] = steps;
  json["batch"] = batch;
  json["sequence_length"] = sequence_length;
  json["micro_batches"] = micro_batches;
  json["learning_rate"] = learning_rate;
  json["min_lr_ratio"] = min_lr_ratio;
  json["warmup_steps"] = warmup_steps;
  json["schedule"] = kScheduleNames[static_cast<std::size_t>(schedule)];
  if (schedule == Schedule::wsd) json["decay_fraction"] = decay_fraction;
  json["weight_decay"] = weight_decay;
  json["beta1"] = beta1;
  json["beta2"] = beta2;
  json["epsilon"] = epsilon;
  json["clip"] = clip;
  json["divergence_loss"] = divergence_loss;
  return json;
}

Json TrainingConfig::to_json() const {
  Json json = identity_json();
  json["decay_fraction"] = decay_fraction;
  json["eval_every"] = eval_every;
  json["eval_windows"] = eval_windows;
  json["checkpoint_every"] = checkpoint_every;
  return json;
}

double learning_rate_at(const TrainingConfig& c, std::int64_t step) {
  if (step < c.warmup_steps)
    return c.learning_rate * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  const double floor = c.min_lr_ratio * c.learning_rate;
  if (c.schedule == Schedule::cosine) {
    const double x = static_cast<double>(step - c.warmup_steps) / static_cast<double>(c.steps - c.warmup_steps);
    constexpr double kPi = 3.14159265358979323846;
    return floor + (c.learning_rate - floor) * 0.5 * (1.0 + sine_cosine_rn(kPi * x).cosine);
  }
  const std::int64_t decay = std::llround(c.decay_fraction * static_cast<double>(c.steps));
  const std::int64_t begin = c.steps - decay;
  if (step < begin) return c.learning_rate;
  const double x = static_cast<double>(step - begin) / static_cast<double>(decay);
  return c.learning_rate + (floor - c.learning_rate) * x;
}

}  // namespace ng
