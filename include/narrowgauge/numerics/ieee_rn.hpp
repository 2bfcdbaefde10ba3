// SPDX-License-Identifier: Apache-2.0
//
// IEEE 754 operations, each rounded once, to nearest even, subnormals kept. All floating-point arithmetic whose bits
// matter goes through these names; this is the only file with a device branch. The host side relies on
// -ffp-contract=off (a hygiene test checks the flag): then one C++ operation is one IEEE operation.
#pragma once

#include "narrowgauge/numerics/host_device.hpp"

namespace ng {

#if defined(__CUDA_ARCH__)
NG_HD float add_rn(float a, float b) {
  return __fadd_rn(a, b);
}
NG_HD float sub_rn(float a, float b) {
  return __fsub_rn(a, b);
}
NG_HD float mul_rn(float a, float b) {
  return __fmul_rn(a, b);
}
NG_HD float div_rn(float a, float b) {
  return __fdiv_rn(a, b);
}
NG_HD float fma_rn(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
NG_HD float sqrt_rn(float a) {
  return __fsqrt_rn(a);
}
NG_HD double add_rn(double a, double b) {
  return __dadd_rn(a, b);
}
NG_HD double sub_rn(double a, double b) {
  return __dsub_rn(a, b);
}
NG_HD double mul_rn(double a, double b) {
  return __dmul_rn(a, b);
}
NG_HD double div_rn(double a, double b) {
  return __ddiv_rn(a, b);
}
NG_HD double fma_rn(double a, double b, double c) {
  return __fma_rn(a, b, c);
}
NG_HD double sqrt_rn(double a) {
  return __dsqrt_rn(a);
}
#else
NG_HD float add_rn(float a, float b) {
  return a + b;
}
NG_HD float sub_rn(float a, float b) {
  return a - b;
}
NG_HD float mul_rn(float a, float b) {
  return a * b;
}
NG_HD float div_rn(float a, float b) {
  return a / b;
}
NG_HD float fma_rn(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
NG_HD float sqrt_rn(float a) {
  return __builtin_sqrtf(a);
}
NG_HD double add_rn(double a, double b) {
  return a + b;
}
NG_HD double sub_rn(double a, double b) {
  return a - b;
}
NG_HD double mul_rn(double a, double b) {
  return a * b;
}
NG_HD double div_rn(double a, double b) {
  return a / b;
}
NG_HD double fma_rn(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
NG_HD double sqrt_rn(double a) {
  return __builtin_sqrt(a);
}
#endif

}  // namespace ng
