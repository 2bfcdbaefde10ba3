// SPDX-License-Identifier: Apache-2.0
//
// See contraction.hpp.
#include "hygiene/contraction.hpp"

namespace ng::hygiene::NG_ISA {

float product_plus(float a, float b, float c) {
  const float product = a * b;
  return product + c;
}

}  // namespace ng::hygiene::NG_ISA
