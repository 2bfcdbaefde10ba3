// SPDX-License-Identifier: Apache-2.0
//
// Claim: twenty AdamW updates of the program, with clipping and decoupled weight decay, are those of the
// double-precision oracle within the rounding of FP32, for large, small and vanishing gradients. (Bits and order of
// operations: unit_backend_layers.) Alone: ctest -R adamw_vs_oracle
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "narrowgauge/backend/registry.hpp"
#include "oracle/optimizer_oracle.hpp"

namespace {

using Doubles = std::vector<double>;

constexpr double kUnit = 0x1p-24;
constexpr int kSteps = 20;

struct TensorPair {
  ng::Tensor master, gradient, first, second;
  Doubles p, m, v;
  double size = 1.0;  // of the gradients
  bool decay = true;
};

// Tolerance, u = 2^-24, constants of Adam rounded to float (b1, b2, eps, lr, corrections, clip factor): at most 1 u
// each. v: a sum of positive terms; each step multiplies by roundings of b2, the product, the sum, and each term by
// those of
//    1-b2 (as float, from float b2: an error of 1 u of 1 in 0.05, 20 u), the clip factor squared and three products:
//    after 20 steps at most 20 * 3 + 28 = 88 u. Its root: half, and the correction, root and eps 3: 47 u of the
//    denominator.
// m: the same with 1-b1 (1 u of 1 in 0.1: 10 u): at most 20 * 3 + 15 = 75 u of sum b1^(t-s) (1-b1) |g_s|, with the
// correction,
//    the division and lr 80 u. That sum over the root of v is at most (1-b1) / sqrt((1-b2) (1 - b1^2/b2)) = 1.17
//    (Cauchy-Schwarz over the steps); the corrections 1/(1-b1^t) and its counterpart's root multiply by 2.24 at most.
// So one step is off by at most lr * 2.7 * (47 + 80) u, and the decay and the subtraction by 2 u |p|: over 20 steps,
// the sum.
constexpr double kRatio = 2.7;

TEST(AdamWVsOracle, TwentyStepsWithClippingAndDecay) {
  const auto backend = ng::make_cpu_backend({});
  std::mt19937_64 bits(9);
  std::normal_distribution<double> normal;
  const auto uploaded = [&](const Doubles& values) {
    const std::vector<float> data(values.begin(), values.end());
    ng::Tensor t = backend->tensor(ng::Dtype::f32, 1, static_cast<std::int64_t>(data.size()));
    backend->upload(t.view, data.data());
    return t;
  };
  const auto floats = [&](std::size_t n, double size) {
    Doubles values(n);
    for (double& value : values) value = static_cast<double>(static_cast<float>(size * normal(bits)));
    return values;
  };

  std::vector<TensorPair> tensors;
  for (const double size : {1.0, 1e-3, 1e-7, 0.0}) {
    for (const bool decay : {true, false}) {
      TensorPair t;
      t.size = size;
      t.decay = decay;
      t.p = floats(301, 1.0);
      t.m.assign(t.p.size(), 0.0);
      t.v.assign(t.p.size(), 0.0);
      t.master = uploaded(t.p);
      t.first = uploaded(t.m);
      t.second = uploaded(t.v);
      tensors.push_back(t);
    }
  }

  const ng::AdamWSpec spec{0.9f, 0.95f, 1e-8f, 0.1f};
  int clipped = 0;
  double tolerance_steps = 0.0;
  for (int step = 0; step < kSteps; ++step) {
    const double lr = 0.02 * (step + 1) / kSteps;
    // Some steps below the clipping norm, some above.
    const double clip = step % 3 == 0 ? 1e6 : 5.0;
    std::vector<Doubles> gradients;
    double squares = 0.0;
    for (TensorPair& t : tensors) {
      gradients.push_back(floats(t.p.size(), t.size * (1.0 + step % 4)));
      t.gradient = uploaded(gradients.back());
      squares += backend->sum_of_squares(t.gradient.view);
    }
    const double norm = ng_oracle::global_norm(gradients);
    EXPECT_NEAR(std::sqrt(squares), norm, 1e-12 * norm);
    const double factor = ng_oracle::clip_factor(norm, clip);
    clipped += factor < 1.0 ? 1 : 0;
    const int t = step + 1;
    const ng::StepScalars now{
        static_cast<float>(lr), static_cast<float>(std::min(1.0, clip / (std::sqrt(squares) + 1e-6))),
        static_cast<float>(1.0 / (1.0 - std::pow(0.9, t))), static_cast<float>(1.0 / (1.0 - std::pow(0.95, t)))};
    tolerance_steps += lr * kRatio * (47.0 + 80.0) * kUnit;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      TensorPair& pair = tensors[i];
      backend->adamw(spec, now, {pair.master.view, pair.gradient.view, pair.first.view, pair.second.view, pair.decay});
      for (double& g : gradients[i]) g *= factor;
      ng_oracle::adamw_update({lr, 0.9, 0.95, 1e-8, pair.decay ? 0.1 : 0.0}, t, gradients[i], pair.m, pair.v, pair.p);
    }
  }
  EXPECT_GT(clipped, 5);
  EXPECT_LT(clipped, kSteps);

  double worst = 0.0;
  for (const TensorPair& t : tensors) {
    const float* const p = t.master.view.as<const float>();
    for (std::size_t i = 0; i < t.p.size(); ++i) {
      const double tolerance = tolerance_steps + kSteps * 2.0 * kUnit * (std::abs(t.p[i]) + 1.0);
      const double error = std::abs(static_cast<double>(p[i]) - t.p[i]);
      EXPECT_LE(error, tolerance) << "gradients of size " << t.size << ", element " << i << ": " << p[i]
                                  << ", expected " << t.p[i];
      worst = std::max(worst, error / tolerance);
    }
  }
  std::printf("worst error %.3f of the tolerance\n", worst);
}

}  // namespace
