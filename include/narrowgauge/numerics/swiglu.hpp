// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU of one element and its gradients, in FP32.
#pragma once

#include "narrowgauge/numerics/elementary.hpp"

namespace ng {

/// (gate * sigmoid(gate)) * up.
NG_HD float swiglu_value(float gate, float up) {
  return mul_rn(mul_rn(gate, sigmoid_rn(gate)), up);
}

struct SwigluGradient {
  float gate;
  float up;
};

NG_HD SwigluGradient swiglu_gradient(float gate, float up, float dy) {
  const float s = sigmoid_rn(gate);
  const float slope = mul_rn(s, fma_rn(gate, sub_rn(1.0f, s), 1.0f));  // silu'
  return {mul_rn(mul_rn(dy, up), slope), mul_rn(dy, mul_rn(gate, s))};
}

}  // namespace ng
