// SPDX-License-Identifier: Apache-2.0
//
// As many FP32 fused multiply-adds as the multiprocessors issue: eight chains in the registers of each thread.
#include "bench/fma_ceiling.hpp"

#include "narrowgauge/numerics/ieee_rn.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda {

namespace {

constexpr int kChains = 8;
constexpr int kRounds = 4096;

__global__ void fma_ceiling_kernel(float factor, float* out, std::int64_t threads) {
  if (thread_number() >= threads) return;
  float chain[kChains];
#pragma unroll
  for (int c = 0; c < kChains; ++c) chain[c] = static_cast<float>(threadIdx.x + c);
#pragma unroll 16
  for (int i = 0; i < kRounds; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) chain[c] = fma_rn(chain[c], factor, 1.0f);
  }
  float sum = 0.0f;
#pragma unroll
  for (int c = 0; c < kChains; ++c) sum += chain[c];
  out[thread_number()] = sum;
}

}  // namespace

double fma_ceiling_operations(std::int64_t threads) {
  return 2.0 * kChains * kRounds * static_cast<double>(threads);
}

void fma_ceiling(std::int64_t threads, float* out, Stream stream) {
  launch("fma_ceiling", fma_ceiling_kernel, threads, stream, 0.5f, out, threads);
}

}  // namespace ng::cuda
