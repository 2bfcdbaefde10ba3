// SPDX-License-Identifier: Apache-2.0
//
// What a block of 256 threads does with a line: eight elements a thread, its bounds, its clamped values and entries.
// The first histogram leaves out what is far from both tails, by the bounds of the block's line before; where that was
// too much it is counted again with everything. Later passes find the line in the cache.
#pragma once

#include <cuda_bf16.h>

#include "fast/outlier_select.cuh"
#include "plain/outlier_job.hpp"

namespace ng::cuda::fast {

constexpr std::int64_t kChunk = kThreadsPerBlock * kEight;  ///< elements that a block looks at together

/// Up to eight elements as FP32 bits.
struct EightBits {
  std::uint32_t bits[kEight];
  int count;
};

/// Elements of line `line` from number `i` on, before `end`. kVector: lines are rows, and their multiples of eight
/// elements are 16-byte aligned.
template <bool kBf16, bool kVector>
__device__ __forceinline__ EightBits load_eight(const OutlierJob& job, std::int64_t line, std::int64_t i,
                                                std::int64_t end) {
  EightBits x;
  x.count = end - i < kEight ? static_cast<int>(end - i) : kEight;
  if (x.count < 0) x.count = 0;
  const bool row_form = kVector || job.turned || job.orientation == Orientation::row;
  const std::int64_t first = row_form ? line * job.x.stride + i : i * job.x.stride + line;
  const std::int64_t step = row_form ? 1 : job.x.stride;
  if (kVector && x.count == kEight) {
    if constexpr (kBf16) {
      const uint4 four = *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(job.x.data) + first);
      const std::uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int k = 0; k < kEight; ++k) x.bits[k] = k % 2 == 0 ? words[k / 2] << 16 : words[k / 2] & 0xffff0000u;
    } else {
      const uint4* from = reinterpret_cast<const uint4*>(static_cast<const float*>(job.x.data) + first);
      const uint4 a = from[0];
      const uint4 b = from[1];
      const std::uint32_t words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
      for (int k = 0; k < kEight; ++k) x.bits[k] = words[k];
    }
    return x;
  }
#pragma unroll
  for (int k = 0; k < kEight; ++k) {
    x.bits[k] = 0;
    if (k >= x.count) continue;
    if constexpr (kBf16)
      x.bits[k] = static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(job.x.data)[first + k * step]) << 16;
    else
      x.bits[k] = static_cast<const std::uint32_t*>(job.x.data)[first + k * step];
  }
  return x;
}

template <bool kBf16, bool kVector>
__device__ __forceinline__ void store_eight(const OutlierJob& job, std::int64_t line, std::int64_t i,
                                            const EightBits& x) {
  const bool row_form = kVector || job.turned || job.orientation == Orientation::row;
  const std::int64_t first = row_form ? line * job.clamped.stride + i : i * job.clamped.stride + line;
  const std::int64_t step = row_form ? 1 : job.clamped.stride;
  if (kVector && x.count == kEight) {
    if constexpr (kBf16) {
      std::uint32_t words[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) words[k] = __byte_perm(x.bits[2 * k], x.bits[2 * k + 1], 0x7632);
      *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(job.clamped.data) + first) =
          uint4{words[0], words[1], words[2], words[3]};
    } else {
      uint4* to = reinterpret_cast<uint4*>(static_cast<float*>(job.clamped.data) + first);
      to[0] = uint4{x.bits[0], x.bits[1], x.bits[2], x.bits[3]};
      to[1] = uint4{x.bits[4], x.bits[5], x.bits[6], x.bits[7]};
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kEight; ++k) {
    if (k >= x.count) continue;
    if constexpr (kBf16)
      static_cast<std::uint16_t*>(job.clamped.data)[first + k * step] = static_cast<std::uint16_t>(x.bits[k] >> 16);
    else
      static_cast<std::uint32_t*>(job.clamped.data)[first + k * step] = x.bits[k];
  }
}

/// Counts the keys of elements [begin, end) of a line for `pass`, those of magnitudes below `threshold` left out in the
/// first one.
template <bool kBf16, bool kVector>
__device__ __forceinline__ void count_line(const OutlierJob& job, Selector<kBf16>& sm, int pass,
                                           const std::uint32_t (&prefix)[2], std::uint32_t threshold, std::int64_t line,
                                           std::int64_t begin, std::int64_t end) {
  bool has_nan = false;
  for (std::int64_t i = begin + threadIdx.x * kEight; i < end; i += kChunk) {
    const EightBits x = load_eight<kBf16, kVector>(job, line, i, end);
#pragma unroll
    for (int k = 0; k < kEight; ++k) {
      if (k >= x.count) continue;
      const std::uint32_t magnitude = x.bits[k] & kMagnitudeMask;
      if (pass == 0 && magnitude < threshold) continue;
      has_nan |= magnitude > kInfinityBits;
      sm.count(pass, prefix, sort_key(float_of(x.bits[k])));
    }
  }
  if (pass == 0 && has_nan) sm.has_nan = 1;
}

/// FP32 bits of the magnitudes that a line like the one with these bounds may leave out of its first histogram; 0:
/// none.
__device__ inline std::uint32_t next_threshold(const OutlierBounds& bounds) {
  if (!(bounds.low < 0.0f && bounds.high > 0.0f)) return 0;
  const float nearer = -bounds.low < bounds.high ? -bounds.low : bounds.high;
  return magnitude_bits(mul_rn(nearer, 0.85f));
}

/// Both bounds of a segment. `threshold`: what the first pass may leave out, and in the end what the next one may.
template <bool kBf16, bool kVector>
__device__ OutlierBounds select_bounds(const OutlierJob& job, Selector<kBf16>& sm, const Segment& segment,
                                       std::uint32_t& threshold) {
  const std::int64_t count = segment.end - segment.begin;
  if (count == 0) return {};
  const OutlierRanks ranks = outlier_ranks(job.spec.quantile, count);
  std::uint32_t prefix[2] = {0, 0};
  for (;;) {
    sm.clear(0);
    if (threadIdx.x == 0) {
      sm.rank[0] = static_cast<std::uint32_t>(ranks.low);
      sm.rank[1] = static_cast<std::uint32_t>(count - 1 - ranks.high);
      sm.digit[0] = kBins;  // not found
      sm.digit[1] = 0;
      sm.has_nan = 0;
    }
    __syncthreads();
    count_line<kBf16, kVector>(job, sm, 0, prefix, threshold, segment.line, segment.begin, segment.end);
    __syncthreads();
    sm.pick(0);
    // Negative keys are the lower half: with all of a tail counted its rank is exact, whatever was left out between.
    if (threshold == 0 || (sm.digit[0] < kBins / 2 && sm.digit[1] >= kBins / 2)) break;
    threshold = 0;
    __syncthreads();
  }
  if (sm.has_nan != 0) return {};
  prefix[0] = sm.digit[0];
  prefix[1] = sm.digit[1];
#pragma unroll
  for (int pass = 1; pass < Digits<kBf16>::kPasses; ++pass) {
    sm.clear(pass);
    __syncthreads();
    count_line<kBf16, kVector>(job, sm, pass, prefix, 0, segment.line, segment.begin, segment.end);
    __syncthreads();
    sm.pick(pass);
    prefix[0] = prefix[0] << Digits<kBf16>::bits(pass) | sm.digit[0];
    prefix[1] = prefix[1] << Digits<kBf16>::bits(pass) | sm.digit[1];
  }
  const OutlierBounds bounds{value_of_sort_key(whole_key<kBf16>(prefix[0])),
                             value_of_sort_key(whole_key<kBf16>(prefix[1]))};
  threshold = next_threshold(bounds);
  return bounds;
}

/// Number of set bits of the threads before this one, and of all of the block in `total`. Two barriers.
__device__ inline int place_in_block(int mine, std::uint32_t (&warp_sum)[kWarps], int& total) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int through = mine;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, through, distance);
    if (lane >= distance) through += other;
  }
  if (lane == 31) warp_sum[warp] = static_cast<std::uint32_t>(through);
  __syncthreads();
  int before = through - mine;
  total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const int sum = static_cast<int>(warp_sum[w]);
    before += w < warp ? sum : 0;
    total += sum;
  }
  __syncthreads();
  return before;
}

/// store_residual with the hardware's rounding to BF16: nearest even, overflow to the largest value.
__device__ __forceinline__ void store_residual_of(const OutlierJob& job, const OutlierBounds& bounds,
                                                  std::int64_t entry, std::int64_t i, float value) {
  if (job.spec.residual != OutlierResidual::bf16) return store_residual(job, bounds, entry, i, value);
  const float rest = sub_rn(value, clamp_outlier(bounds, value));
  const std::uint32_t code = __bfloat16_as_ushort(__float2bfloat16_rn(rest));
  job.columns[entry] = static_cast<std::int32_t>(i);
  static_cast<std::uint16_t*>(job.values)[entry] =
      static_cast<std::uint16_t>((code & 0x7fffu) == 0x7f80u ? code - 1u : code);
}

/// Clamps a segment; its entries in the order of columns from number `entry` on. Their count.
template <bool kBf16, bool kVector>
__device__ std::int64_t clamp_segment(const OutlierJob& job, const Segment& segment, const OutlierBounds& bounds,
                                      std::int64_t entry, std::uint32_t (&warp_sum)[kWarps]) {
  std::int64_t count = 0;
  for (std::int64_t chunk = segment.begin; chunk < segment.end; chunk += kChunk) {
    const std::int64_t i = chunk + threadIdx.x * kEight;
    EightBits x = load_eight<kBf16, kVector>(job, segment.line, i, segment.end);
    EightBits clamped = x;
    std::uint32_t outliers = 0;
#pragma unroll
    for (int k = 0; k < kEight; ++k) {
      const float value = float_of(x.bits[k]);
      if (k < x.count && is_outlier(bounds, value)) outliers |= 1u << k;
      clamped.bits[k] = bits_of(clamp_outlier(bounds, value));
    }
    if (x.count > 0) store_eight<kBf16, kVector>(job, segment.line, i, clamped);
    if (job.columns == nullptr) continue;
    int total = 0;
    std::int64_t at = entry + count + place_in_block(__popc(outliers), warp_sum, total);
    count += total;
#pragma unroll
    for (int k = 0; k < kEight; ++k)
      if ((outliers >> k & 1u) != 0) store_residual_of(job, bounds, at++, i + k, float_of(x.bits[k]));
  }
  return count;
}

}  // namespace ng::cuda::fast
