// SPDX-License-Identifier: Apache-2.0
//
// Loops over one row: conversions, sums of products, norm, rotation, SwiGLU. FP32, each operation rounded once.
#include "kernels.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/rms_norm.hpp"
#include "narrowgauge/numerics/rotation.hpp"
#include "narrowgauge/numerics/row_sums.hpp"
#include "narrowgauge/numerics/swiglu.hpp"

namespace ng::cpu::NG_ISA {

namespace {

void widen_bf16(const std::uint16_t* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = float_of(static_cast<std::uint32_t>(from[i]) << 16);
}

void round_bf16(const float* from, std::uint16_t* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<std::uint16_t>(bits_of(round_to_bf16(from[i])) >> 16);
}

void add(const float* a, const float* b, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = add_rn(a[i], b[i]);
}

void scale(float weight, const float* x, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = mul_rn(weight, x[i]);
}

void multiply_add(float weight, const float* x, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = fma_rn(weight, x[i], out[i]);
}

float dot(const float* a, const float* b, std::int64_t n) {
  return dot_of_chains(a, b, n);
}

float rms_norm(const float* x, const float* gain, float epsilon, float* y, std::int64_t n) {
  const float rstd = rms_norm_rstd_of(x, epsilon, n);
  for (std::int64_t i = 0; i < n; ++i) y[i] = rms_norm_value(x[i], rstd, gain[i]);
  return rstd;
}

void rms_norm_backward(const float* x, const float* gain, float rstd, const float* dy, float* dx, bool accumulate,
                       std::int64_t n) {
  const float mean = rms_norm_mean_of(x, gain, rstd, dy, n);
  if (accumulate) {
    for (std::int64_t i = 0; i < n; ++i) dx[i] = add_rn(dx[i], rms_norm_gradient(x[i], gain[i], rstd, dy[i], mean));
  } else {
    for (std::int64_t i = 0; i < n; ++i) dx[i] = rms_norm_gradient(x[i], gain[i], rstd, dy[i], mean);
  }
}

void gain_gradient(const float* x, float rstd, const float* dy, float* d_gain, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) d_gain[i] = rms_norm_gain_step(d_gain[i], x[i], rstd, dy[i]);
}

void rope(const float* angles, bool inverse, float* head, std::int64_t n) {
  const std::int64_t half = n / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const float sine = inverse ? -angles[half + i] : angles[half + i];
    const RotatedPair pair = rotate_pair(head[i], head[half + i], angles[i], sine);
    head[i] = pair.a;
    head[half + i] = pair.b;
  }
}

void swiglu(const float* gate, const float* up, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = swiglu_value(gate[i], up[i]);
}

void swiglu_backward(const float* gate, const float* up, const float* dy, float* d_gate, float* d_up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const SwigluGradient gradient = swiglu_gradient(gate[i], up[i], dy[i]);
    d_up[i] = gradient.up;
    d_gate[i] = gradient.gate;
  }
}

}  // namespace

void add_row_kernels(CpuKernels& table) {
  table.widen_bf16 = widen_bf16;
  table.round_bf16 = round_bf16;
  table.add = add;
  table.scale = scale;
  table.multiply_add = multiply_add;
  table.dot = dot;
  table.rms_norm = rms_norm;
  table.rms_norm_backward = rms_norm_backward;
  table.gain_gradient = gain_gradient;
  table.rope = rope;
  table.swiglu = swiglu;
  table.swiglu_backward = swiglu_backward;
}

}  // namespace ng::cpu::NG_ISA
