// SPDX-License-Identifier: Apache-2.0
//
// Loops over one row: conversions, sums of products, norm, rotation, SwiGLU. FP32, each operation rounded once.
#include "kernels.hpp"
#include "narrowgauge/numerics/elementary.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/numerics/row_sums.hpp"

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
  const float mean = div_rn(dot_of_chains(x, x, n), static_cast<float>(n));
  const float rstd = rsqrt_rn(add_rn(mean, epsilon));
  for (std::int64_t i = 0; i < n; ++i) y[i] = mul_rn(mul_rn(x[i], rstd), gain[i]);
  return rstd;
}

void rms_norm_backward(const float* x, const float* gain, float rstd, const float* dy, float* dx, bool accumulate,
                       std::int64_t n) {
  float sum[kRowChains] = {};
  const std::int64_t whole = n - n % kRowChains;
  for (std::int64_t i = 0; i < whole; i += kRowChains)
    for (int lane = 0; lane < kRowChains; ++lane)
      sum[lane] = fma_rn(mul_rn(dy[i + lane], gain[i + lane]), mul_rn(x[i + lane], rstd), sum[lane]);
  for (std::int64_t i = whole; i < n; ++i)
    sum[i - whole] = fma_rn(mul_rn(dy[i], gain[i]), mul_rn(x[i], rstd), sum[i - whole]);
  const float mean = div_rn(pairwise(sum), static_cast<float>(n));
  if (accumulate) {
    for (std::int64_t i = 0; i < n; ++i) {
      const float centered = fma_rn(-mul_rn(x[i], rstd), mean, mul_rn(dy[i], gain[i]));
      dx[i] = add_rn(dx[i], mul_rn(rstd, centered));
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      const float centered = fma_rn(-mul_rn(x[i], rstd), mean, mul_rn(dy[i], gain[i]));
      dx[i] = mul_rn(rstd, centered);
    }
  }
}

void gain_gradient(const float* x, float rstd, const float* dy, float* d_gain, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) d_gain[i] = fma_rn(dy[i], mul_rn(x[i], rstd), d_gain[i]);
}

void rope(const float* angles, bool inverse, float* head, std::int64_t n) {
  const std::int64_t half = n / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const float cosine = angles[i];
    const float sine = inverse ? -angles[half + i] : angles[half + i];
    const float a = head[i];
    const float b = head[half + i];
    head[i] = fma_rn(a, cosine, -mul_rn(b, sine));
    head[half + i] = fma_rn(b, cosine, mul_rn(a, sine));
  }
}

void swiglu(const float* gate, const float* up, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = mul_rn(mul_rn(gate[i], sigmoid_rn(gate[i])), up[i]);
}

void swiglu_backward(const float* gate, const float* up, const float* dy, float* d_gate, float* d_up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = gate[i];
    const float s = sigmoid_rn(g);
    const float slope = mul_rn(s, fma_rn(g, sub_rn(1.0f, s), 1.0f));  // silu'
    const float dy_up = mul_rn(dy[i], up[i]);
    d_up[i] = mul_rn(dy[i], mul_rn(g, s));
    d_gate[i] = mul_rn(dy_up, slope);
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
