// SPDX-License-Identifier: Apache-2.0
//
// AdamW of one parameter: each operation one FP32 rounding, products from left to right, no fma.
#pragma once

#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

/// What all parameters of a tensor share in one step; `decay` is 0 for tensors without weight decay.
struct AdamWScalars {
  float beta1, beta2, epsilon, decay;
  float learning_rate;
  float clip_factor;
  float bias_correction1;  ///< 1 / (1 - beta1^t)
  float bias_correction2;  ///< 1 / (1 - beta2^t)
};

struct AdamWState {
  float master;
  float first;   ///< m
  float second;  ///< v
};

NG_HD AdamWState adamw_step(const AdamWScalars& s, AdamWState state, float gradient) {
  const float g = mul_rn(s.clip_factor, gradient);
  const float m = add_rn(mul_rn(s.beta1, state.first), mul_rn(sub_rn(1.0f, s.beta1), g));
  const float v = add_rn(mul_rn(s.beta2, state.second), mul_rn(mul_rn(sub_rn(1.0f, s.beta2), g), g));
  const float update = div_rn(mul_rn(m, s.bias_correction1), add_rn(sqrt_rn(mul_rn(v, s.bias_correction2)), s.epsilon));
  const float p = state.master;
  return {sub_rn(p, mul_rn(s.learning_rate, add_rn(update, mul_rn(s.decay, p)))), m, v};
}

}  // namespace ng
