// SPDX-License-Identifier: Apache-2.0
//
// Rows of BF16 of at most 8192 elements, held in the registers of a block: magnitudes near the bounds of the row before
// are counted one by one, so that one histogram finds both bounds; two elements a word are compared, clamped and looked
// over at a time. Rows that are unlike the one before, or have a bound that is not finite, take the way of
// outlier_lines.cuh.
#pragma once

#include "fast/outlier_lines.cuh"

namespace ng::cuda::fast {

constexpr int kNear = 512;  ///< magnitudes from a threshold on that are told apart
constexpr int kMostChunks = 4;

/// Words of a row in a thread: pairs of elements, chunk by chunk. Elements behind the row's end are zeros.
template <int kChunks>
struct RowWords {
  std::uint32_t word[4 * kChunks];

  __device__ void load(const void* row, std::int64_t cols) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const std::int64_t i = c * kChunk + threadIdx.x * kEight;
      uint4 four{0, 0, 0, 0};
      if (i < cols) four = *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(row) + i);
      word[4 * c] = four.x;
      word[4 * c + 1] = four.y;
      word[4 * c + 2] = four.z;
      word[4 * c + 3] = four.w;
    }
  }
};

/// Counts the magnitudes from `threshold` (BF16 bits, not 0) on: negative ones in the first kNear bins, positive ones
/// in the second; the last bin of each has all that are larger. Whether there is a NaN.
template <int kChunks>
__device__ __forceinline__ bool count_near(const RowWords<kChunks>& x, std::uint32_t threshold, std::uint32_t* bins) {
  const std::uint32_t twice = threshold << 16 | threshold;
  std::uint32_t largest = 0;
#pragma unroll
  for (int w = 0; w < 4 * kChunks; ++w) {
    // Halves with the top bit set subtract without a borrow from each other: it stays where the magnitude reaches.
    const std::uint32_t above = (x.word[w] | 0x80008000u) - twice;
    largest = __vmaxu2(largest, above);
    if ((above & 0x80008000u) == 0) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const std::uint32_t half = h == 0 ? above & 0xffffu : above >> 16;
      if (half < 0x8000u) continue;
      const std::uint32_t near = half - 0x8000u;
      const std::uint32_t positive = ~x.word[w] >> (15 + 16 * h) & 1u;
      atomicAdd(&bins[place(static_cast<int>((near < kNear ? near : kNear - 1u) + positive * kNear))], 1u);
    }
  }
  const std::uint32_t most = 0x8000u + 0x7f80u - threshold;  // infinity
  return (largest & 0xffffu) > most || largest >> 16 > most;
}

/// The bins in which the ranks sm.rank, counted from the largest magnitude, lie, in sm.digit; kNear where there is
/// none. Begins after a barrier, ends with one.
__device__ inline void pick_near(Selector<true>& sm) {
  constexpr int kEach = kNear / (kThreadsPerBlock / 2);
  const int half = static_cast<int>(threadIdx.x) / (kThreadsPerBlock / 2);
  const int u = static_cast<int>(threadIdx.x) % (kThreadsPerBlock / 2);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t counts[kEach];
  std::uint32_t sum = 0;
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    counts[k] = sm.bins[place(half * kNear + kNear - 1 - (u * kEach + k))];
    sum += counts[k];
  }
  std::uint32_t through = sum;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const std::uint32_t other = __shfl_up_sync(0xffffffffu, through, distance);
    if (lane >= distance) through += other;
  }
  if (lane == 31) sm.warp_sum[warp] = through;
  __syncthreads();
  std::uint32_t before = through - sum;
  for (int w = half * (kWarps / 2); w < warp; ++w) before += sm.warp_sum[w];
  std::uint32_t rest = sm.rank[half] - before;
  if (sm.rank[half] >= before && rest < sum) {
    int k = 0;
#pragma unroll
    for (int j = 0; j < kEach - 1; ++j)
      if (k == j && rest >= counts[j]) {
        rest -= counts[j];
        ++k;
      }
    sm.digit[half] = static_cast<std::uint32_t>(kNear - 1 - (u * kEach + k));
  }
  __syncthreads();
}

/// Bounds of a row from its words, or false. `threshold`: FP32 bits as select_bounds leaves them, 2^16 or more.
template <int kChunks>
__device__ bool select_near(const OutlierJob& job, Selector<true>& sm, const RowWords<kChunks>& x,
                            const OutlierRanks& ranks, std::uint32_t threshold, OutlierBounds& bounds) {
  for (int b = static_cast<int>(threadIdx.x); b < place(2 * kNear); b += kThreadsPerBlock) sm.bins[b] = 0;
  if (threadIdx.x == 0) {
    sm.rank[0] = static_cast<std::uint32_t>(ranks.low);
    sm.rank[1] = static_cast<std::uint32_t>(job.x.cols - 1 - ranks.high);
    sm.digit[0] = sm.digit[1] = kNear;
    sm.has_nan = 0;
  }
  __syncthreads();
  if (count_near(x, threshold >> 16, sm.bins)) sm.has_nan = 1;
  __syncthreads();
  pick_near(sm);
  if (sm.has_nan != 0 || sm.digit[0] >= kNear - 1 || sm.digit[1] >= kNear - 1) return false;
  bounds.low = float_of(kSignBit | ((threshold >> 16) + sm.digit[0]) << 16);
  bounds.high = float_of(((threshold >> 16) + sm.digit[1]) << 16);
  return true;
}

/// Clamps a row between a negative and a positive bound, both finite; its entries from number `entry` on. Their count.
template <int kChunks>
__device__ std::int64_t clamp_words(const OutlierJob& job, std::int64_t row, const RowWords<kChunks>& x,
                                    const OutlierBounds& bounds, std::int64_t entry,
                                    std::uint32_t (&warp_sum)[kWarps]) {
  static_assert(kChunks <= kMostChunks && sizeof(__nv_bfloat162) == sizeof(std::uint32_t));
  const std::uint32_t low_bits = bits_of(bounds.low) >> 16;
  const std::uint32_t high_bits = bits_of(bounds.high) >> 16;
  const std::uint32_t low_pair = low_bits << 16 | low_bits;
  const std::uint32_t high_pair = high_bits << 16 | high_bits;
  const __nv_bfloat162 low = *reinterpret_cast<const __nv_bfloat162*>(&low_pair);
  const __nv_bfloat162 high = *reinterpret_cast<const __nv_bfloat162*>(&high_pair);
  std::uint16_t* to = static_cast<std::uint16_t*>(job.clamped.data) + row * job.clamped.stride;
  std::uint32_t outliers = 0;  // bit 8 c + k: element k of chunk c
  int counts[2] = {0, 0};      // of two chunks each, 16 bits: a block has at most 2048 a chunk
  uint4 clamped[kChunks];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    std::uint32_t words[4];
    std::uint32_t here = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t word = x.word[4 * c + k];
      const __nv_bfloat162 pair = __hmax2(__hmin2(*reinterpret_cast<const __nv_bfloat162*>(&word), high), low);
      words[k] = *reinterpret_cast<const std::uint32_t*>(&pair);
      const std::uint32_t changed = words[k] ^ word;
      if ((changed & 0xffffu) != 0) here |= 1u << (2 * k);
      if (changed >> 16 != 0) here |= 2u << (2 * k);
    }
    clamped[c] = uint4{words[0], words[1], words[2], words[3]};
    counts[c / 2] += __popc(here) << (16 * (c % 2));
    outliers |= here << (8 * c);
  }
  std::int64_t done = 0;
  if (job.columns != nullptr) {
    int totals[2] = {0, 0};
    int before[2] = {0, 0};
    before[0] = place_in_block(counts[0], warp_sum, totals[0]);
    if constexpr (kChunks > 2) before[1] = place_in_block(counts[1], warp_sum, totals[1]);
    const std::uint16_t* from = static_cast<const std::uint16_t*>(job.x.data) + row * job.x.stride;
    int at[kChunks];  // first entry of this thread in each chunk
    int sum = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      at[c] = sum + (before[c / 2] >> (16 * (c % 2)) & 0xffff) - __popc(outliers & ((1u << (8 * c)) - 1u));
      sum += totals[c / 2] >> (16 * (c % 2)) & 0xffff;
    }
    done = sum;
    // Few lanes have one: the element comes from the cache again, so that all lanes' first ones are done together.
    for (std::uint32_t rest = outliers; rest != 0; rest &= rest - 1u) {
      const int bit = __ffs(static_cast<int>(rest)) - 1;
      int first = at[0];
#pragma unroll
      for (int c = 1; c < kChunks; ++c) first = bit >= 8 * c ? at[c] : first;
      const std::int64_t i = (bit >> 3) * kChunk + threadIdx.x * kEight + (bit & 7);
      store_residual_of(job, bounds, entry + first + __popc(outliers & ((1u << bit) - 1u)), i,
                        float_of(static_cast<std::uint32_t>(from[i]) << 16));
    }
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const std::int64_t i = c * kChunk + threadIdx.x * kEight;
    if (i < job.x.cols) *reinterpret_cast<uint4*>(to + i) = clamped[c];
  }
  return done;
}

/// The way of other rows; calls, so that they cost the common way no registers.
__device__ __noinline__ void select_other(const OutlierJob* job, Selector<true>* sm, std::int64_t s,
                                          std::uint32_t threshold, OutlierBounds* bounds) {
  *bounds = select_bounds<true, true>(*job, *sm, segment_of(*job, s), threshold);
}
__device__ __noinline__ std::int64_t clamp_other(const OutlierJob* job, Selector<true>* sm, std::int64_t s,
                                                 const OutlierBounds* bounds, std::int64_t entry) {
  return clamp_segment<true, true>(*job, segment_of(*job, s), *bounds, entry, sm->warp_sum);
}

/// split_by_row for rows of at most kChunks * kChunk elements, multiples of eight.
template <int kChunks>
__global__ void __launch_bounds__(kThreadsPerBlock, 4)
    split_rows_kernel(const __grid_constant__ OutlierJob job, const OutlierRanks ranks, std::int64_t capacity) {
  __shared__ Selector<true> sm;
  std::uint32_t threshold = 0;
  for (std::int64_t s = blockIdx.x; s < job.segments; s += gridDim.x) {
    RowWords<kChunks> x;
    x.load(static_cast<const std::uint16_t*>(job.x.data) + s * job.x.stride, job.x.cols);
    OutlierBounds bounds;
    if (threshold < 0x10000u || !select_near(job, sm, x, ranks, threshold, bounds)) {
      __syncthreads();
      OutlierBounds other;
      select_other(&job, &sm, s, threshold, &other);
      bounds = other;
    }
    __syncthreads();
    threshold = next_threshold(bounds);
    constexpr float kInfinity = float_of(kInfinityBits);
    std::int64_t count = 0;
    if (threshold != 0 && bounds.high < kInfinity && bounds.low > -kInfinity) {
      count = clamp_words(job, s, x, bounds, s * capacity, sm.warp_sum);
    } else {
      const OutlierBounds other = bounds;
      count = clamp_other(&job, &sm, s, &other, s * capacity);
    }
    if (threadIdx.x == 0 && job.positions != nullptr) job.positions[s + 1] = count;
    __syncthreads();
  }
}

}  // namespace ng::cuda::fast
