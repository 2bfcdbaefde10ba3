// SPDX-License-Identifier: Apache-2.0
//
// The rotation of one pair of a head by RoPE's angle, in FP32.
#pragma once

#include "narrowgauge/numerics/ieee_rn.hpp"

namespace ng {

struct RotatedPair {
  float a;
  float b;
};

/// a' = fma(a, cos, -(b*sin)), b' = fma(b, cos, a*sin); with the sine's sign turned around the way back.
NG_HD RotatedPair rotate_pair(float a, float b, float cosine, float sine) {
  return {fma_rn(a, cosine, -mul_rn(b, sine)), fma_rn(b, cosine, mul_rn(a, sine))};
}

}  // namespace ng
