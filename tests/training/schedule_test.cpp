// SPDX-License-Identifier: Apache-2.0
//
// Claim: the learning rate of every step is the oracle's, for both schedules.
// Alone: ctest -R training_runs.Schedule
#include <gtest/gtest.h>

#include "narrowgauge/training/training_config.hpp"
#include "oracle/optimizer_oracle.hpp"

namespace {

TEST(Schedule, EqualsTheOracleInEveryStep) {
  for (const std::int64_t warmup : {0, 1, 7, 40}) {
    for (const double ratio : {0.0, 0.1, 1.0}) {
      ng::TrainingConfig config;
      config.steps = 60;
      config.warmup_steps = warmup;
      config.learning_rate = 3e-3;
      config.min_lr_ratio = ratio;
      config.decay_fraction = 0.25;
      for (std::int64_t step = 0; step < config.steps; ++step) {
        // Two evaluations of the same formula in double: 4 units in the last place cover cosine and order.
        config.schedule = ng::Schedule::cosine;
        const double cosine = ng_oracle::cosine_rate(step, 60, warmup, 3e-3, ratio);
        EXPECT_NEAR(ng::learning_rate_at(config, step), cosine, 3e-3 * 1e-15)
            << "step " << step << " warm-up " << warmup;
        config.schedule = ng::Schedule::wsd;
        const double wsd = ng_oracle::wsd_rate(step, 60, warmup, 3e-3, ratio, 0.25, ng_oracle::Decay::linear);
        EXPECT_NEAR(ng::learning_rate_at(config, step), wsd, 3e-3 * 1e-15) << "step " << step << " warm-up " << warmup;
      }
    }
  }
}

}  // namespace
