// SPDX-License-Identifier: Apache-2.0
//
// RMS norms: a block brings some rows into shared memory, eight lanes of a warp add up each row, one chain of the
// written order each, then all threads make the results from shared memory. Rows are padded by the eight chains, so
// that the lanes of four rows meet different banks.
#include "fast/rows.hpp"

#include "fast/eight_views.cuh"
#include "narrowgauge/numerics/rms_norm.hpp"

namespace ng::cuda::fast {

namespace {

constexpr int kMostRows = kThreadsPerBlock / kRowChains;  // of one block
constexpr int kSharedFloats = 8448;                       // wanted of one block: six of them share a multiprocessor
constexpr int kMostWidth = 16384;

/// Which rows a block does: parts of rows, numbered over the tokens and the parts of each.
struct RowBlocks {
  std::int64_t rows;   // parts of all tokens
  std::int64_t parts;  // of a token
  int width;
  int per_block;

  __device__ int padded() const { return width + kRowChains; }
  __device__ std::int64_t blocks() const { return (rows + per_block - 1) / per_block; }
  __device__ int rows_of(std::int64_t block) const {
    const std::int64_t left = rows - block * per_block;
    return static_cast<int>(left < per_block ? left : per_block);
  }
};

RowBlocks row_blocks(const TensorView& x, std::int64_t parts, int tensors) {
  const int width = static_cast<int>(x.cols / parts);
  const int fitting = kSharedFloats / (tensors * (width + kRowChains));
  return {x.rows * parts, parts, width, fitting < 1 ? 1 : fitting > kMostRows ? kMostRows : fitting};
}

/// Calls work(row in block, token, first column, column within the row) for all eights of a block.
template <class Work>
__device__ void for_block_eights(const RowBlocks& at, std::int64_t block, const Work& work) {
  const int per_row = at.width / kEight;
  const int units = at.rows_of(block) * per_row;
#pragma unroll 4
  for (int unit = static_cast<int>(threadIdx.x); unit < units; unit += kThreadsPerBlock) {
    const int row = unit / per_row;
    const int col = (unit - row * per_row) * kEight;
    const RowAndEight place = place_of(block * at.per_block + row, at.parts);
    work(row, place.row, place.eight * at.width + col, col);
  }
}

__device__ Eight eight_of(const float* from) {
  Eight v;
  v.load(from);
  return v;
}

/// The pairwise end of a sum whose chains lie in eight neighbouring lanes.
__device__ float pairwise_of_lanes(float sum) {
#pragma unroll
  for (int distance = 1; distance < kRowChains; distance *= 2)
    sum = add_rn(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
  return sum;
}

/// Row and chain of this thread, and whether there is such a row; warps without any have nothing to do.
struct Chain {
  int row = static_cast<int>(threadIdx.x) / kRowChains;
  int lane = static_cast<int>(threadIdx.x) % kRowChains;
  __device__ Chain() {}
};

__device__ bool warp_has_rows(int rows) {
  return static_cast<int>(threadIdx.x) / 32 * 32 < rows * kRowChains;
}

__global__ void __launch_bounds__(kThreadsPerBlock)
    rms_norm_kernel(const __grid_constant__ RowBlocks at, const __grid_constant__ TensorView x, const float* gain,
                    float epsilon, const __grid_constant__ TensorView y, const __grid_constant__ TensorView rstd) {
  extern __shared__ uint4 sm_memory[];
  __shared__ float sm_rstd[kMostRows];
  float* const sm_x = reinterpret_cast<float*>(sm_memory);
  for (std::int64_t block = blockIdx.x; block < at.blocks(); block += gridDim.x) {
    for_block_eights(at, block, [&](int row, std::int64_t token, std::int64_t c, int col) {
      load_eight(x, token, c).store(sm_x + row * at.padded() + col);
    });
    __syncthreads();
    const int rows = at.rows_of(block);
    if (warp_has_rows(rows)) {
      const Chain chain;
      float sum = 0.0f;
      if (chain.row < rows) {
        const float* const from = sm_x + chain.row * at.padded();
#pragma unroll 8
        for (int i = chain.lane; i < at.width; i += kRowChains) sum = fma_rn(from[i], from[i], sum);
      }
      const float value = rms_norm_rstd(pairwise_of_lanes(sum), epsilon, at.width);
      if (chain.row < rows && chain.lane == 0) {
        const RowAndEight place = place_of(block * at.per_block + chain.row, at.parts);
        sm_rstd[chain.row] = value;
        store_real(rstd, place.row, place.eight, value);
      }
    }
    __syncthreads();
    for_block_eights(at, block, [&](int row, std::int64_t token, std::int64_t c, int col) {
      Eight v = eight_of(sm_x + row * at.padded() + col);
      const Eight g = eight_of(gain + col);
#pragma unroll
      for (int i = 0; i < kEight; ++i) v.value[i] = rms_norm_value(v.value[i], sm_rstd[row], g.value[i]);
      store_eight(y, token, c, v);
    });
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreadsPerBlock)
    rms_norm_backward_kernel(const __grid_constant__ RowBlocks at, const __grid_constant__ TensorView x,
                             const float* gain, const __grid_constant__ TensorView rstd,
                             const __grid_constant__ TensorView dy, const __grid_constant__ TensorView dx,
                             bool accumulate) {
  extern __shared__ uint4 sm_memory[];
  __shared__ float sm_rstd[kMostRows];
  __shared__ float sm_mean[kMostRows];
  float* const sm_x = reinterpret_cast<float*>(sm_memory);
  float* const sm_dy = sm_x + at.per_block * at.padded();
  for (std::int64_t block = blockIdx.x; block < at.blocks(); block += gridDim.x) {
    for_block_eights(at, block, [&](int row, std::int64_t token, std::int64_t c, int col) {
      const Eight a = load_eight(x, token, c);
      const Eight b = load_eight(dy, token, c);
      a.store(sm_x + row * at.padded() + col);
      b.store(sm_dy + row * at.padded() + col);
    });
    __syncthreads();
    const int rows = at.rows_of(block);
    if (warp_has_rows(rows)) {
      const Chain chain;
      float sum = 0.0f;
      float scale = 0.0f;
      if (chain.row < rows) {
        const RowAndEight place = place_of(block * at.per_block + chain.row, at.parts);
        scale = load_real(rstd, place.row, place.eight);
        const float* const from_x = sm_x + chain.row * at.padded();
        const float* const from_dy = sm_dy + chain.row * at.padded();
#pragma unroll 8
        for (int i = chain.lane; i < at.width; i += kRowChains)
          sum = rms_norm_mean_step(sum, from_x[i], gain[i], scale, from_dy[i]);
      }
      const float mean = div_rn(pairwise_of_lanes(sum), static_cast<float>(at.width));
      if (chain.row < rows && chain.lane == 0) {
        sm_rstd[chain.row] = scale;
        sm_mean[chain.row] = mean;
      }
    }
    __syncthreads();
    for_block_eights(at, block, [&](int row, std::int64_t token, std::int64_t c, int col) {
      const Eight a = eight_of(sm_x + row * at.padded() + col);
      const Eight b = eight_of(sm_dy + row * at.padded() + col);
      const Eight g = eight_of(gain + col);
      Eight d;
#pragma unroll
      for (int i = 0; i < kEight; ++i)
        d.value[i] = rms_norm_gradient(a.value[i], g.value[i], sm_rstd[row], b.value[i], sm_mean[row]);
      if (accumulate) {
        const Eight before = load_eight(dx, token, c);
#pragma unroll
        for (int i = 0; i < kEight; ++i) d.value[i] = add_rn(before.value[i], d.value[i]);
      }
      store_eight(dx, token, c, d);
    });
    __syncthreads();
  }
}

std::int64_t blocks_of(const RowBlocks& at) {
  return (at.rows + at.per_block - 1) / at.per_block;
}
int shared_bytes(const RowBlocks& at, int tensors) {
  return tensors * at.per_block * (at.width + kRowChains) * static_cast<int>(sizeof(float));
}

}  // namespace

bool rms_norm_serves(std::initializer_list<const TensorView*> views, const float* gain, std::int64_t parts) {
  if (!are_eight_views(views) || reinterpret_cast<std::uintptr_t>(gain) % 16 != 0) return false;
  const std::int64_t cols = (*views.begin())->cols;
  return parts > 0 && cols > 0 && cols % (parts * kEight) == 0 && cols / parts <= kMostWidth;
}

void rms_norm(const TensorView& x, const float* gain, float epsilon, const TensorView& y, const TensorView& rstd,
              Stream stream) {
  const RowBlocks at = row_blocks(x, rstd.cols, 1);
  launch_resident("rms_norm", rms_norm_kernel, blocks_of(at), shared_bytes(at, 1), stream, at, x, gain, epsilon, y,
                  rstd);
}

void rms_norm_backward(const TensorView& x, const float* gain, const TensorView& rstd, const TensorView& dy,
                       const TensorView& dx, bool accumulate, Stream stream) {
  const RowBlocks at = row_blocks(x, rstd.cols, 2);
  launch_resident("rms_norm_backward", rms_norm_backward_kernel, blocks_of(at), shared_bytes(at, 2), stream, at, x,
                  gain, rstd, dy, dx, accumulate);
}

}  // namespace ng::cuda::fast
