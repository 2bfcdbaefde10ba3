// SPDX-License-Identifier: Apache-2.0
//
// Optimizer and schedules as defined in optimizer_oracle.hpp.
#include "optimizer_oracle.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ng_oracle {

void adamw_update(const AdamW& s, std::int64_t t, const std::vector<double>& gradient, std::vector<double>& m,
                  std::vector<double>& v, std::vector<double>& parameter) {
  for (std::size_t i = 0; i < parameter.size(); ++i) {
    const double g = gradient.at(i);
    m.at(i) = s.beta1 * m[i] + (1.0 - s.beta1) * g;
    v.at(i) = s.beta2 * v[i] + (1.0 - s.beta2) * g * g;
    const double m_hat = m[i] / (1.0 - std::pow(s.beta1, static_cast<double>(t)));
    const double v_hat = v[i] / (1.0 - std::pow(s.beta2, static_cast<double>(t)));
    parameter[i] -= s.lr * (m_hat / (std::sqrt(v_hat) + s.epsilon) + s.weight_decay * parameter[i]);
  }
}

double global_norm(const std::vector<std::vector<double>>& gradients) {
  double sum = 0.0;
  for (const auto& tensor : gradients)
    for (double g : tensor) sum += g * g;
  return std::sqrt(sum);
}

double clip_factor(double norm, double clip) {
  return clip == 0.0 ? 1.0 : std::min(1.0, clip / (norm + 1e-6));
}

void update_router_bias(double bias_rate, const std::vector<std::int64_t>& counts, std::vector<double>& bias) {
  std::int64_t sum = 0;
  for (const std::int64_t count : counts) sum += count;
  const std::int64_t experts = static_cast<std::int64_t>(counts.size());
  for (std::size_t e = 0; e < counts.size(); ++e) {
    const std::int64_t mine = counts[e] * experts;  // against the sum: exact
    if (mine < sum) bias.at(e) += bias_rate;
    if (mine > sum) bias.at(e) -= bias_rate;
  }
}

double cosine_rate(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak, double min_ratio) {
  if (step < warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const double x = static_cast<double>(step - warmup_steps) / static_cast<double>(steps - warmup_steps);
  return peak * (min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + std::cos(std::numbers::pi * x)));
}

double wsd_rate(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak, double min_ratio,
                double decay_fraction, Decay decay) {
  if (step < warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const std::int64_t decay_steps = std::llround(decay_fraction * static_cast<double>(steps));
  if (step < steps - decay_steps) return peak;
  const double x = static_cast<double>(step - (steps - decay_steps)) / static_cast<double>(decay_steps);
  return peak * (1.0 - (1.0 - min_ratio) * (decay == Decay::linear ? x : std::sqrt(x)));
}

}  // namespace ng_oracle
