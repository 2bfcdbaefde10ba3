// SPDX-License-Identifier: Apache-2.0
//
// Counts of codes and sums of logarithms: threads gather for themselves, blocks in shared memory, the GPU once a block.
#include <cuda_runtime.h>

#include <cstdint>

#include "fast/measure_errors.hpp"
#include "narrowgauge/quantize/measure_terms.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kCounters = 4096;       ///< of a block
constexpr std::int64_t kPiece = 64;   ///< codes of a row that a thread takes at a time
constexpr std::int64_t kScales = 16;  ///< that a thread takes at a time

/// Every code has kCounters / bins counters, which the threads share evenly.
__global__ void __launch_bounds__(kThreadsPerBlock)
    count_codes_kernel(const __grid_constant__ CountJob job, std::int64_t pieces_per_row, std::int64_t pieces) {
  __shared__ unsigned sm_count[kCounters];
  for (int i = static_cast<int>(threadIdx.x); i < kCounters; i += kThreadsPerBlock) sm_count[i] = 0;
  __syncthreads();
  const unsigned copies = static_cast<unsigned>(kCounters / job.bins);
  const unsigned own = threadIdx.x % copies;
  for (std::int64_t piece = thread_number(); piece < pieces;
       piece += static_cast<std::int64_t>(gridDim.x) * kThreadsPerBlock) {
    const std::int64_t row = piece / pieces_per_row;
    if (job.counted_rows != nullptr && job.counted_rows[row] == 0) continue;
    const std::int64_t first = piece % pieces_per_row * kPiece;
    const std::int64_t last = first + kPiece < job.cols ? first + kPiece : job.cols;
    const std::uint8_t* codes = job.codes + row * job.row_bytes;
    for (std::int64_t c = first; c < last; ++c)
      if (job.counted_cols == nullptr || job.counted_cols[c] != 0)
        atomicAdd(&sm_count[load_code(codes, job.storage, static_cast<std::size_t>(c)) * copies + own], 1u);
  }
  __syncthreads();
  for (std::int64_t bin = threadIdx.x; bin < job.bins; bin += kThreadsPerBlock) {
    unsigned long long count = 0;
    for (unsigned i = 0; i < copies; ++i) count += sm_count[static_cast<unsigned>(bin) * copies + i];
    if (count != 0) atomicAdd(&job.counts[bin], count);
  }
}

__global__ void __launch_bounds__(kThreadsPerBlock)
    measure_scales_kernel(const __grid_constant__ ScaleJob job, std::int64_t count, std::int64_t pieces) {
  __shared__ unsigned long long sm_word[SumLimbs::kWords];
  for (int i = static_cast<int>(threadIdx.x); i < SumLimbs::kWords; i += kThreadsPerBlock) sm_word[i] = 0;
  __syncthreads();
  const bool row_form = job.coded.orientation == Orientation::row;
  SumLimbs limbs;
  limbs.clear();
  unsigned counted = 0;
  std::uint32_t largest = 0, smallest = 0;  // the complement
  for (std::int64_t piece = thread_number(); piece < pieces;
       piece += static_cast<std::int64_t>(gridDim.x) * kThreadsPerBlock) {
    const std::int64_t last = (piece + 1) * kScales < count ? (piece + 1) * kScales : count;
    for (std::int64_t i = piece * kScales; i < last; ++i) {
      const std::int64_t tile = row_form ? i / job.coded.scale_cols : i % job.coded.scale_cols;
      const float scale = static_cast<const float*>(job.coded.scales)[i];
      if ((job.counted != nullptr && job.counted[tile] == 0) || !has_log(scale)) continue;
      limbs.add(log2_rn(static_cast<double>(scale)));
      ++counted;
      largest = largest < bits_of(scale) ? bits_of(scale) : largest;
      smallest = smallest < ~bits_of(scale) ? ~bits_of(scale) : smallest;
    }
  }
  for (int w = 0; w < SumLimbs::kWords; ++w)
    if (limbs.word[w] != 0) atomicAdd(&sm_word[w], limbs.word[w]);
  counted = __reduce_add_sync(0xffffffffu, counted);
  largest = __reduce_max_sync(0xffffffffu, largest);
  smallest = __reduce_max_sync(0xffffffffu, smallest);
  if (threadIdx.x % 32 == 0 && counted != 0) {
    atomicAdd(&job.totals->scale_count, static_cast<unsigned long long>(counted));
    atomicMax(&job.totals->largest_scale, largest);
    atomicMax(&job.totals->smallest_scale, smallest);
  }
  __syncthreads();
  SumLimbs& sum = job.totals->sums[static_cast<int>(MeasuredSum::scale_log2)];
  for (int w = static_cast<int>(threadIdx.x); w < SumLimbs::kWords; w += kThreadsPerBlock)
    if (sm_word[w] != 0) atomicAdd(&sum.word[w], sm_word[w]);
}

}  // namespace

bool serves_count_codes(const CountJob& job) {
  return job.bins <= kCounters;
}

void count_codes(const CountJob& job, cudaStream_t stream) {
  const std::int64_t pieces_per_row = (job.cols + kPiece - 1) / kPiece;
  const std::int64_t pieces = job.rows * pieces_per_row;
  launch_resident("count_codes", count_codes_kernel, (pieces + kThreadsPerBlock - 1) / kThreadsPerBlock, 0, stream, job,
                  pieces_per_row, pieces);
}

bool serves_measure_scales() {
  return true;
}

void measure_scales(const ScaleJob& job, cudaStream_t stream) {
  const std::int64_t count = job.scale_rows * job.coded.scale_cols;
  const std::int64_t pieces = (count + kScales - 1) / kScales;
  launch_resident("measure_scales", measure_scales_kernel, (pieces + kThreadsPerBlock - 1) / kThreadsPerBlock, 0,
                  stream, job, count, pieces);
}

}  // namespace ng::cuda::fast
