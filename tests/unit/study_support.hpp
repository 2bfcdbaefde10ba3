// SPDX-License-Identifier: Apache-2.0
//
// Simulated studies for the tests of the study layer: numbers from a random generator, never from training.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "narrowgauge/study/statistics.hpp"

namespace ng::test {

/// A finished run with one evaluation and, if asked for, `steps` training losses around the same value.
inline RunCurve make_run(const std::string& arm, std::uint64_t seed, double final_loss) {
  RunCurve run;
  run.arm = arm;
  run.seed = seed;
  run.data_digest = "sha256:simulated";
  run.model = "simulated";
  run.run_id = arm + "-" + std::to_string(seed);
  run.status = "done";
  run.eval_step = {100};
  run.eval_loss = {final_loss};
  run.eval_loss_bf16 = {final_loss - 0.001};
  run.seconds = 10;
  run.tokens = 1000;
  return run;
}

/// Adds training losses: a common falling curve, plus `shift`, plus noise.
inline void add_training(RunCurve& run, int steps, double shift, double noise, std::mt19937_64& engine) {
  std::normal_distribution<double> normal;
  for (int i = 0; i < steps; ++i) {
    run.step.push_back(i + 1);
    run.loss.push_back(2.5 + 3 * std::exp(-0.05 * i) + shift + noise * normal(engine));
  }
}

/// losses[arm][seed] as a study; arms are called a0 (the baseline), a1, ...; no training losses.
inline StudyResult study_of(const std::vector<std::vector<double>>& losses) {
  StudyResult study;
  study.title = "simulated";
  study.baseline = "a0";
  for (std::size_t a = 0; a < losses.size(); ++a) {
    for (std::size_t s = 0; s < losses[a].size(); ++s) {
      study.runs.push_back(make_run("a" + std::to_string(a), s + 1, losses[a][s]));
    }
  }
  return study;
}

inline const ArmJudgement& arm_of(const Judgement& judgement, const std::string& name) {
  for (const ArmJudgement& arm : judgement.arms) {
    if (arm.arm == name) return arm;
  }
  throw std::runtime_error("no arm " + name);
}

}  // namespace ng::test
