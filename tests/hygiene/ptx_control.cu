// SPDX-License-Identifier: Apache-2.0
//
// Two instructions that the PTX test must find: an approximate function, and a flush of subnormals to zero. In no library.

__global__ void approximate(float* x) { x[threadIdx.x] = __expf(x[threadIdx.x]); }

__global__ void flushes(float* x) {
  asm("add.ftz.f32 %0, %1, %1;" : "=f"(x[1]) : "f"(x[0]));
}
