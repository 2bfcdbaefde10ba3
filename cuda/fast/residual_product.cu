// SPDX-License-Identifier: Apache-2.0
//
// Turning through shared memory; then chains of as many outputs as 16 bytes of B hold, entries staged in shared memory.
#include "fast/residual_product.hpp"

#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kTile = 32;
constexpr int kStage = kThreadsPerBlock;  ///< entries in shared memory at once

template <class Element>
constexpr int kPerAccess = 16 / static_cast<int>(sizeof(Element));

template <class Element>
std::int64_t padded_rows(const TensorView& b) {
  return (b.rows + kPerAccess<Element> - 1) / kPerAccess<Element> * kPerAccess<Element>;
}

template <class Element>
__global__ void __launch_bounds__(kThreadsPerBlock)
    turn_kernel(const __grid_constant__ TensorView b, Element* turned, std::int64_t pitch, std::int64_t tiles_per_row) {
  __shared__ Element sm_tile[kTile][kTile + 1];
  const std::int64_t n0 = blockIdx.x / tiles_per_row * kTile;
  const std::int64_t k0 = blockIdx.x % tiles_per_row * kTile;
  const int x = static_cast<int>(threadIdx.x) % kTile;
  for (int y = static_cast<int>(threadIdx.x) / kTile; y < kTile; y += kThreadsPerBlock / kTile)
    if (n0 + y < b.rows && k0 + x < b.cols)
      sm_tile[y][x] = static_cast<const Element*>(b.data)[(n0 + y) * b.stride + k0 + x];
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.x) / kTile; y < kTile; y += kThreadsPerBlock / kTile)
    if (n0 + x < b.rows && k0 + y < b.cols) turned[(k0 + y) * pitch + n0 + x] = sm_tile[x][y];
}

template <class Element>
__device__ __forceinline__ void add_entry(float (&sum)[kPerAccess<Element>], float value, const uint4& four) {
  const std::uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
  for (int j = 0; j < kPerAccess<Element>; ++j) {
    std::uint32_t bits;
    if constexpr (sizeof(Element) == 2)
      bits = j % 2 == 0 ? words[j / 2] << 16 : words[j / 2] & 0xffff0000u;
    else
      bits = words[j];
    sum[j] = add_compensation(sum[j], value, float_of(bits));
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreadsPerBlock)
    add_residual_product_kernel(const __grid_constant__ ResidualView a, std::int64_t row0, const uint4* turned,
                                std::int64_t pitch, const __grid_constant__ TensorView out,
                                std::int64_t chunks_per_row) {
  constexpr int kPer = kPerAccess<Element>;
  __shared__ std::int32_t sm_column[kStage];
  __shared__ float sm_value[kStage];
  const std::int64_t m = blockIdx.x / chunks_per_row;
  const std::int64_t access = blockIdx.x % chunks_per_row * kThreadsPerBlock + threadIdx.x;
  const std::int64_t n = access * kPer;
  const bool mine = n < out.cols;
  float* to = static_cast<float*>(out.data) + m * out.stride + n;
  float sum[kPer];
#pragma unroll
  for (int j = 0; j < kPer; ++j) sum[j] = n + j < out.cols ? to[j] : 0.0f;
  const std::int64_t end = a.row_pointers[row0 + m + 1];
  for (std::int64_t first = a.row_pointers[row0 + m]; first < end; first += kStage) {
    const int count = end - first < kStage ? static_cast<int>(end - first) : kStage;
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < count) {
      sm_column[threadIdx.x] = a.columns[first + threadIdx.x];
      sm_value[threadIdx.x] = a.value(first + threadIdx.x);
    }
    __syncthreads();
    if (!mine) continue;
#pragma unroll 8
    for (int e = 0; e < count; ++e)
      add_entry<Element>(sum, sm_value[e], __ldg(turned + sm_column[e] * (pitch / kPer) + access));
  }
#pragma unroll
  for (int j = 0; j < kPer; ++j)
    if (n + j < out.cols) to[j] = sum[j];
}

template <class Element>
void turn_elements(const TensorView& b, void* turned, cudaStream_t stream) {
  const std::int64_t tiles_per_row = (b.cols + kTile - 1) / kTile;
  const std::int64_t tiles = (b.rows + kTile - 1) / kTile * tiles_per_row;
  launch("turn", turn_kernel<Element>, tiles * kThreadsPerBlock, stream, b, static_cast<Element*>(turned),
         padded_rows<Element>(b), tiles_per_row);
}

template <class Element>
void multiply(const ResidualView& a, std::int64_t row0, const TensorView& b, const void* turned, const TensorView& out,
              cudaStream_t stream) {
  constexpr std::int64_t kChunk = kThreadsPerBlock * kPerAccess<Element>;
  const std::int64_t chunks_per_row = (out.cols + kChunk - 1) / kChunk;
  launch("add_residual_product", add_residual_product_kernel<Element>, out.rows * chunks_per_row * kThreadsPerBlock,
         stream, a, row0, static_cast<const uint4*>(turned), padded_rows<Element>(b), out, chunks_per_row);
}

}  // namespace

bool residual_product_serves(const TensorView& b, const TensorView& out) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  return (b.rows / kTile + 1) * (b.cols / kTile + 1) < kMost &&
         out.rows * (out.cols / (kThreadsPerBlock * 4) + 1) < kMost;
}

std::size_t turned_bytes(const TensorView& b) {
  return static_cast<std::size_t>(b.cols) * size_of(b.dtype) *
         static_cast<std::size_t>(b.dtype == Dtype::bf16 ? padded_rows<std::uint16_t>(b) : padded_rows<float>(b));
}

void turn(const TensorView& b, void* turned, cudaStream_t stream) {
  b.dtype == Dtype::bf16 ? turn_elements<std::uint16_t>(b, turned, stream) : turn_elements<float>(b, turned, stream);
}

void add_residual_product(const ResidualView& a, std::int64_t row0, const TensorView& b, const void* turned,
                          const TensorView& out, cudaStream_t stream) {
  if (b.dtype == Dtype::bf16)
    multiply<std::uint16_t>(a, row0, b, turned, out, stream);
  else
    multiply<float>(a, row0, b, turned, out, stream);
}

}  // namespace ng::cuda::fast
