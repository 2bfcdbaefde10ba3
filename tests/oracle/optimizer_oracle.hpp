// SPDX-License-Identifier: Apache-2.0
//
// The judge of optimizer and schedules, in double precision, straight from their definitions:
//
//   AdamW, t = 1 for the first update:
//     m = b1 m + (1-b1) g;   v = b2 v + (1-b2) g^2;   mhat = m / (1-b1^t);   vhat = v / (1-b2^t)
//     p = p - lr (mhat / (sqrt(vhat) + eps) + weight_decay p)                (Loshchilov and Hutter, decoupled)
//   clipping: every gradient times min(1, clip / (norm + 1e-6)), norm over all gradients together; clip 0 = off.
//   schedules, step = 0 for the first update, W = warmup_steps, S = steps:
//     step < W: lr = peak (step+1) / W, so that W steps of warm-up end exactly at the peak.
//     cosine:   x = (step-W) / (S-W); lr = peak (r + (1-r) (1 + cos(pi x)) / 2), r = min_ratio; x = 1 lies one step
//               beyond the last.
//     wsd:      N = round(decay_fraction S) last steps decay; x = (step - (S-N)) / N;
//               lr = peak (1 - (1-r) x) (linear) or peak (1 - (1-r) sqrt(x)) (one_minus_sqrt); peak before.
//   router bias, after each update: b_e += bias_rate * sign(mean count - count_e), counts: the slots of the whole step
//     that chose each expert, dropped ones included; sign(0) = 0.
#pragma once

#include <cstdint>
#include <vector>

namespace ng_oracle {

struct AdamW {
  double lr = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// One update in place; t counts from 1. All vectors have the same length.
void adamw_update(const AdamW& settings, std::int64_t t, const std::vector<double>& gradient, std::vector<double>& m,
                  std::vector<double>& v, std::vector<double>& parameter);

/// Euclidean norm over all tensors together.
double global_norm(const std::vector<std::vector<double>>& gradients);

/// Factor on every gradient; 1 if clip is 0.
double clip_factor(double norm, double clip);

enum class Decay { linear, one_minus_sqrt };

/// Moves the bias of one layer's router in place; counts [E].
void update_router_bias(double bias_rate, const std::vector<std::int64_t>& counts, std::vector<double>& bias);

/// Learning rate of `step` (from 0).
double cosine_rate(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak, double min_ratio);
double wsd_rate(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak, double min_ratio,
                double decay_fraction, Decay decay);

}  // namespace ng_oracle
