// SPDX-License-Identifier: Apache-2.0
//
// chain_matmul.hpp: a block has 256 threads and one tile of outputs; pieces of 16 values of k of both operands go
// through shared memory, the next piece is on its way while one is multiplied. Values of k beyond K take no part: a
// chain that is -0 would become +0 by a product of zeros.
#include "fast/chain_matmul.hpp"

#include <algorithm>

#include "narrowgauge/numerics/ieee_rn.hpp"
#include "plain/elements.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kTile = 128;
constexpr int kPieceK = 16;
constexpr int kRow = kTile + 4;  // of shared memory: keeps 16-byte rows, spreads the banks
constexpr int kPerThread = kTile * kPieceK / kThreadsPerBlock;
constexpr int kMostProducts = 64;

struct Products {
  int count = 0;
  bool a_along_k = true, b_along_k = true;
  std::int64_t first_tile[kMostProducts + 1] = {};
  ChainProduct list[kMostProducts] = {};
};

/// What of a piece a thread moves: eight neighbours in memory. Along k: eight k of one row; along the rows: eight rows
/// of one k.
template <bool kAlongK>
__device__ __forceinline__ int piece_k() {
  return kAlongK ? static_cast<int>(threadIdx.x) % 2 * kPerThread : static_cast<int>(threadIdx.x) / 16;
}
template <bool kAlongK>
__device__ __forceinline__ int piece_row() {
  return kAlongK ? static_cast<int>(threadIdx.x) / 2 : static_cast<int>(threadIdx.x) % 16 * kPerThread;
}

/// One operand as its threads see it.
struct Lane {
  const void* at;     ///< this thread's first element of the piece
  std::int64_t step;  ///< bytes from piece to piece
  int count;          ///< of neighbours that exist: k or rows, from the first piece's on
  bool f32, wide;
};

template <bool kAlongK>
__device__ __forceinline__ Lane lane_of(const StridedReals& x, std::int64_t row0, std::int64_t rows, int k) {
  const std::int64_t row = row0 + piece_row<kAlongK>();
  const std::int64_t stride = kAlongK ? x.row_stride : x.col_stride;
  const std::int64_t offset = kAlongK ? row * stride + piece_k<kAlongK>() : piece_k<kAlongK>() * stride + row;
  const bool f32 = x.dtype == Dtype::f32;
  Lane lane;
  lane.f32 = f32;
  lane.at = static_cast<const char*>(x.data) + offset * (f32 ? 4 : 2);
  lane.step = (kAlongK ? kPieceK : kPieceK * stride) * (f32 ? 4 : 2);
  const std::int64_t there = rows - row;
  lane.count =
      kAlongK ? (there > 0 ? k - piece_k<kAlongK>() : 0) : static_cast<int>(there < kPerThread ? there : kPerThread);
  lane.wide = reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && stride % 8 == 0;
  return lane;
}

/// The neighbours of the piece at k0, zeros where there are none; moves on to the next piece.
template <bool kAlongK>
__device__ __forceinline__ void load_piece(Lane& lane, int k0, int k, float (&values)[kPerThread]) {
  const int count = kAlongK ? lane.count - k0 : k0 + piece_k<kAlongK>() < k ? lane.count : 0;
  if (count >= kPerThread && lane.wide) {
    if (lane.f32) {
#pragma unroll
      for (int i = 0; i < kPerThread; i += 4)
        *reinterpret_cast<float4*>(values + i) = static_cast<const float4*>(lane.at)[i / 4];
    } else {
      const uint4 bits = *static_cast<const uint4*>(lane.at);
      const std::uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int i = 0; i < kPerThread; ++i)
        values[i] = float_of(i % 2 == 0 ? pairs[i / 2] << 16 : pairs[i / 2] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i)
      values[i] = i >= count ? 0.0f
                  : lane.f32 ? static_cast<const float*>(lane.at)[i]
                             : widen_bf16(static_cast<const std::uint16_t*>(lane.at)[i]);
  }
  lane.at = static_cast<const char*>(lane.at) + lane.step;
}

template <bool kAlongK>
__device__ __forceinline__ void keep_piece(const float (&values)[kPerThread], float (*sm)[kRow]) {
  if (kAlongK) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) sm[piece_k<true>() + i][piece_row<true>()] = values[i];
  } else {
#pragma unroll
    for (int i = 0; i < kPerThread; i += 4)
      *reinterpret_cast<float4*>(&sm[piece_k<false>()][piece_row<false>() + i]) =
          *reinterpret_cast<const float4*>(values + i);
  }
}

/// Row or column of the tile that belongs to number i of a thread's eight.
__device__ __forceinline__ int of_eight(int thread, int i) {
  return thread * 4 + i % 4 + i / 4 * (kTile / 2);
}

__device__ __forceinline__ void multiply_k(const float* sm_a, const float* sm_b, int ty, int tx, float (&sums)[8][8]) {
  alignas(16) float a[8], b[8];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    *reinterpret_cast<float4*>(a + 4 * half) = *reinterpret_cast<const float4*>(sm_a + ty * 4 + half * (kTile / 2));
    *reinterpret_cast<float4*>(b + 4 * half) = *reinterpret_cast<const float4*>(sm_b + tx * 4 + half * (kTile / 2));
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) sums[i][j] = fma_rn(a[i], b[j], sums[i][j]);
}

template <bool kAAlongK, bool kBAlongK>
__global__ void __launch_bounds__(kThreadsPerBlock, 2) chain_kernel(const __grid_constant__ Products products) {
  __shared__ alignas(16) float sm_a[2][kPieceK][kRow];
  __shared__ alignas(16) float sm_b[2][kPieceK][kRow];
  // 1. The product and the tile of this block.
  int low = 0;
  for (int high = products.count - 1; low < high;) {
    const int middle = (low + high) / 2;
    if (blockIdx.x < products.first_tile[middle + 1])
      high = middle;
    else
      low = middle + 1;
  }
  const ChainProduct& p = products.list[low];
  const std::int64_t tile = blockIdx.x - products.first_tile[low];
  const std::int64_t tiles_n = (p.out.cols + kTile - 1) / kTile;
  const std::int64_t m0 = tile / tiles_n * kTile;
  const std::int64_t n0 = tile % tiles_n * kTile;
  const int ty = static_cast<int>(threadIdx.x) / 16;
  const int tx = static_cast<int>(threadIdx.x) % 16;
  const bool scaled = p.scale_a != nullptr || p.scale_b != nullptr;

  // 2. Where the chains start.
  float sums[8][8];
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const std::int64_t r = m0 + of_eight(ty, i);
      const std::int64_t c = n0 + of_eight(tx, j);
      sums[i][j] = p.accumulate && !scaled && r < p.out.rows && c < p.out.cols ? load_real(p.out, r, c) : 0.0f;
    }

  // 3. The chains.
  alignas(16) float next_a[kPerThread], next_b[kPerThread];
  const int k_end = static_cast<int>(p.k);
  Lane lane_a = lane_of<kAAlongK>(p.a, m0, p.out.rows, k_end);
  Lane lane_b = lane_of<kBAlongK>(p.b, n0, p.out.cols, k_end);
  load_piece<kAAlongK>(lane_a, 0, k_end, next_a);
  load_piece<kBAlongK>(lane_b, 0, k_end, next_b);
  int buffer = 0;
  for (int k = 0; k < k_end; k += kPieceK) {
    keep_piece<kAAlongK>(next_a, sm_a[buffer]);
    keep_piece<kBAlongK>(next_b, sm_b[buffer]);
    __syncthreads();
    if (k + kPieceK <= k_end) {
      load_piece<kAAlongK>(lane_a, k + kPieceK, k_end, next_a);
      load_piece<kBAlongK>(lane_b, k + kPieceK, k_end, next_b);
#pragma unroll 2  // more would spill
      for (int i = 0; i < kPieceK; ++i) multiply_k(sm_a[buffer][i], sm_b[buffer][i], ty, tx, sums);
    } else {
      const int rest = k_end - k;
      for (int i = 0; i < rest; ++i) multiply_k(sm_a[buffer][i], sm_b[buffer][i], ty, tx, sums);
    }
    buffer ^= 1;
  }

  // 4. Into the output.
  const float scale =
      scaled ? mul_rn(p.scale_a != nullptr ? *p.scale_a : 1.0f, p.scale_b != nullptr ? *p.scale_b : 1.0f) : 1.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const std::int64_t r = m0 + of_eight(ty, i);
      const std::int64_t c = n0 + of_eight(tx, j);
      if (r >= p.out.rows || c >= p.out.cols) continue;
      float sum = sums[i][j];
      if (scaled) {
        sum = mul_rn(sum, scale);
        if (p.accumulate) sum = add_rn(load_real(p.out, r, c), sum);
      }
      store_real(p.out, r, c, sum);
    }
}

bool lies_along_k(const StridedReals& x) {
  return x.col_stride == 1;
}

}  // namespace

bool chain_matmul_serves(std::span<const ChainProduct> products) {
  return std::all_of(products.begin(), products.end(), [&](const ChainProduct& p) {
    const ChainProduct& first = products.front();
    return p.k < 0x7fff0000 && (lies_along_k(p.a) || p.a.row_stride == 1) &&
           (lies_along_k(p.b) || p.b.row_stride == 1) && lies_along_k(p.a) == lies_along_k(first.a) &&
           lies_along_k(p.b) == lies_along_k(first.b);
  });
}

void chain_matmul(std::span<const ChainProduct> products, Stream stream) {
  while (!products.empty()) {
    const std::size_t count = std::min<std::size_t>(products.size(), kMostProducts);
    Products chunk;
    chunk.count = static_cast<int>(count);
    chunk.a_along_k = lies_along_k(products.front().a);
    chunk.b_along_k = lies_along_k(products.front().b);
    for (std::size_t i = 0; i < count; ++i) {
      const TensorView& out = products[i].out;
      chunk.list[i] = products[i];
      chunk.first_tile[i + 1] = chunk.first_tile[i] + (out.rows + kTile - 1) / kTile * ((out.cols + kTile - 1) / kTile);
    }
    const std::int64_t threads = chunk.first_tile[count] * kThreadsPerBlock;
    if (chunk.a_along_k && chunk.b_along_k)
      launch("chain_matmul", chain_kernel<true, true>, threads, stream, chunk);
    else if (chunk.a_along_k)
      launch("chain_matmul", chain_kernel<true, false>, threads, stream, chunk);
    else if (chunk.b_along_k)
      launch("chain_matmul", chain_kernel<false, true>, threads, stream, chunk);
    else
      launch("chain_matmul", chain_kernel<false, false>, threads, stream, chunk);
    products = products.subspan(count);
  }
}

}  // namespace ng::cuda::fast
