// SPDX-License-Identifier: Apache-2.0
//
// The kernels of the split: blocks walk over segments, or over the rows of groups.
#include "fast/outliers.hpp"

#include "fast/outlier_lines.cuh"
#include "fast/outlier_rows.cuh"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

template <bool kBf16, bool kVector>
__global__ void __launch_bounds__(kThreadsPerBlock)
    split_by_row_kernel(const __grid_constant__ OutlierJob job, std::int64_t capacity) {
  __shared__ Selector<kBf16> sm;
  std::uint32_t threshold = 0;
  for (std::int64_t s = blockIdx.x; s < job.segments; s += gridDim.x) {
    const Segment segment = segment_of(job, s);
    const OutlierBounds bounds = select_bounds<kBf16, kVector>(job, sm, segment, threshold);
    __syncthreads();
    const std::int64_t count = clamp_segment<kBf16, kVector>(job, segment, bounds, s * capacity, sm.warp_sum);
    if (threadIdx.x == 0 && job.positions != nullptr) job.positions[s + 1] = count;
    __syncthreads();
  }
}

template <bool kBf16, bool kVector>
__global__ void __launch_bounds__(kThreadsPerBlock) split_by_bounds_kernel(const __grid_constant__ OutlierJob job) {
  __shared__ std::uint32_t sm_sum[kWarps];
  for (std::int64_t s = blockIdx.x; s < job.segments; s += gridDim.x) {
    const Segment segment = segment_of(job, s);
    clamp_segment<kBf16, kVector>(job, segment, bounds_of(job, s, segment),
                                  job.columns != nullptr ? job.positions[s] : 0, sm_sum);
  }
}

template <bool kBf16, bool kVector>
__global__ void __launch_bounds__(kThreadsPerBlock) count_outliers_kernel(const __grid_constant__ OutlierJob job) {
  __shared__ std::uint32_t sm_sum[kWarps];
  for (std::int64_t s = blockIdx.x; s < job.segments; s += gridDim.x) {
    const Segment segment = segment_of(job, s);
    const OutlierBounds bounds = bounds_of(job, s, segment);
    int mine = 0;
    for (std::int64_t i = segment.begin + threadIdx.x * kEight; i < segment.end; i += kChunk) {
      const EightBits x = load_eight<kBf16, kVector>(job, segment.line, i, segment.end);
#pragma unroll
      for (int k = 0; k < kEight; ++k) mine += k < x.count && is_outlier(bounds, float_of(x.bits[k])) ? 1 : 0;
    }
    int total = 0;
    place_in_block(mine, sm_sum, total);
    if (threadIdx.x == 0) job.positions[s + 1] = total;
  }
}

// ---- bounds of whole groups: histograms of blocks, added up in global memory.

struct GroupSelection {
  std::uint32_t bins[2][kBins];
  std::uint32_t prefix[2];
  std::uint32_t rank[2];
  std::uint32_t has_nan;
  std::uint32_t unused[3];
};

template <bool kBf16, bool kVector>
__global__ void __launch_bounds__(kThreadsPerBlock)
    count_groups_kernel(const __grid_constant__ OutlierJob job, GroupSelection* selections, int pass) {
  __shared__ Selector<kBf16> sm;
  const int bins = 1 << Digits<kBf16>::bits(pass);
  const int histograms = pass == 0 ? 1 : 2;
  const std::int64_t rows_each = (job.x.rows + gridDim.x - 1) / gridDim.x;
  const std::int64_t first = blockIdx.x * rows_each;
  const std::int64_t last = first + rows_each < job.x.rows ? first + rows_each : job.x.rows;
  std::int64_t group = -1;
  std::uint32_t prefix[2] = {0, 0};
  const auto flush = [&] {
    __syncthreads();
    GroupSelection& to = selections[group];
    for (int h = 0; h < histograms; ++h)
      for (int b = static_cast<int>(threadIdx.x); b < bins; b += kThreadsPerBlock)
        if (const std::uint32_t n = sm.bins[(h == 0 ? 0 : sm.upper(pass)) + place(b)]; n != 0)
          atomicAdd(&to.bins[h][b], n);
    if (threadIdx.x == 0 && sm.has_nan != 0) atomicMax(&to.has_nan, 1u);
    __syncthreads();
  };
  for (std::int64_t row = first; row < last; ++row) {
    const std::int64_t now = plain::group_of_row(job.groups, job.group_count, row);
    if (now != group) {
      if (group >= 0) flush();
      group = now;
      sm.clear(pass);
      if (threadIdx.x == 0) sm.has_nan = 0;
      prefix[0] = selections[group].prefix[0];
      prefix[1] = selections[group].prefix[1];
      __syncthreads();
    }
    count_line<kBf16, kVector>(job, sm, pass, prefix, 0, row, 0, job.x.cols);
  }
  if (group >= 0) flush();
}

/// One block, one group: its bins picked, and cleared for the next pass; the bounds after the last one.
template <bool kBf16>
__global__ void __launch_bounds__(kThreadsPerBlock)
    pick_groups_kernel(const __grid_constant__ OutlierJob job, GroupSelection* selections, int pass) {
  __shared__ Selector<kBf16> sm;
  GroupSelection& group = selections[blockIdx.x];
  const GroupExtent& extent = job.groups[blockIdx.x];
  const std::int64_t count = (extent.end - extent.begin) * job.x.cols;
  if (count == 0 || group.has_nan != 0) {
    if (threadIdx.x == 0) job.bounds[blockIdx.x] = OutlierBounds{};
    return;
  }
  const int bits = Digits<kBf16>::bits(pass);
  for (int h = 0; h < (pass == 0 ? 1 : 2); ++h)
    for (int b = static_cast<int>(threadIdx.x); b < 1 << bits; b += kThreadsPerBlock) {
      sm.bins[(h == 0 ? 0 : sm.upper(pass)) + place(b)] = group.bins[h][b];
      group.bins[h][b] = 0;
    }
  if (threadIdx.x == 0) {
    const OutlierRanks ranks = outlier_ranks(job.spec.quantile, count);
    sm.rank[0] = pass == 0 ? static_cast<std::uint32_t>(ranks.low) : group.rank[0];
    sm.rank[1] = pass == 0 ? static_cast<std::uint32_t>(count - 1 - ranks.high) : group.rank[1];
  }
  __syncthreads();
  sm.pick(pass);
  if (threadIdx.x != 0) return;
  for (int h = 0; h < 2; ++h) {
    group.prefix[h] = group.prefix[h] << bits | sm.digit[h];
    group.rank[h] = sm.rank[h];
  }
  if (pass == Digits<kBf16>::kPasses - 1)
    job.bounds[blockIdx.x] = OutlierBounds{value_of_sort_key(whole_key<kBf16>(group.prefix[0])),
                                           value_of_sort_key(whole_key<kBf16>(group.prefix[1]))};
}

// ---- positions

/// One block: running sums of the counts, eight a thread at a time.
__global__ void __launch_bounds__(kThreadsPerBlock)
    sum_positions_kernel(std::int64_t* positions, std::int64_t segments) {
  __shared__ std::uint32_t sm_sum[kWarps];
  std::int64_t done = 0;
  if (threadIdx.x == 0) positions[0] = 0;
  for (std::int64_t chunk = 0; chunk < segments; chunk += kChunk) {
    const std::int64_t first = chunk + threadIdx.x * kEight;
    int counts[kEight];
    int mine = 0;
#pragma unroll
    for (int k = 0; k < kEight; ++k) {
      counts[k] = first + k < segments ? static_cast<int>(positions[first + k + 1]) : 0;
      mine += counts[k];
    }
    int total = 0;
    std::int64_t at = done + place_in_block(mine, sm_sum, total);
#pragma unroll
    for (int k = 0; k < kEight; ++k) {
      at += counts[k];
      if (first + k < segments) positions[first + k + 1] = at;
    }
    done += total;
  }
}

/// One warp, one segment.
__global__ void __launch_bounds__(kThreadsPerBlock)
    pack_residual_kernel(const __grid_constant__ OutlierJob job, const std::int32_t* columns, const void* values,
                         std::int64_t capacity) {
  const std::int64_t s = thread_number() / 32;
  if (s >= job.segments) return;
  const std::int64_t first = job.positions[s];
  const std::int64_t count = job.positions[s + 1] - first;
  const bool wide = job.spec.residual == OutlierResidual::bf16;
  for (std::int64_t i = threadIdx.x % 32; i < count; i += 32) {
    const std::int64_t from = s * capacity + i;
    job.columns[first + i] = columns[from];
    if (wide)
      static_cast<std::uint16_t*>(job.values)[first + i] = static_cast<const std::uint16_t*>(values)[from];
    else
      static_cast<std::uint8_t*>(job.values)[first + i] = static_cast<const std::uint8_t*>(values)[from];
  }
}

bool is_aligned(const TensorView& x) {
  return reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 &&
         x.stride * static_cast<std::int64_t>(size_of(x.dtype)) % 16 == 0;
}

/// call(kBf16, kVector) with the constants that fit the job. `by_row`: x is read by its rows, whatever the form.
template <class Call>
void visit(const OutlierJob& job, bool by_row, const Call& call) {
  const bool vector = by_row && job.aligned && is_aligned(job.x) && is_aligned(job.clamped);
  if (job.x.dtype == Dtype::bf16)
    vector ? call(std::true_type{}, std::true_type{}) : call(std::true_type{}, std::false_type{});
  else
    vector ? call(std::false_type{}, std::true_type{}) : call(std::false_type{}, std::false_type{});
}

bool is_row_form(const OutlierJob& job) {
  return job.orientation == Orientation::row;
}

}  // namespace

bool outliers_serve(const OutlierJob& job) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const std::int64_t length = is_row_form(job) ? job.x.cols : job.x.rows;
  return length < (1 << 20) && job.segments * 32 < kMost * kThreadsPerBlock &&
         (job.spec.scope == OutlierScope::row || job.x.rows * job.x.cols < 2 * kMost);
}

void split_by_row(const OutlierJob& job, std::int64_t capacity, cudaStream_t stream) {
  const bool whole_lines = is_row_form(job) || (job.turned && job.group_count == 1);
  if (job.x.dtype == Dtype::bf16 && whole_lines && is_aligned(job.x) && is_aligned(job.clamped) &&
      job.x.cols % kEight == 0 && job.x.cols <= kMostChunks * kChunk) {
    const auto kernel = job.x.cols <= kChunk       ? split_rows_kernel<1>
                        : job.x.cols <= 2 * kChunk ? split_rows_kernel<2>
                                                   : split_rows_kernel<kMostChunks>;
    return launch_resident("split_rows", kernel, job.segments, 0, stream, job,
                           outlier_ranks(job.spec.quantile, job.x.cols), capacity);
  }
  visit(job, is_row_form(job) || job.turned, [&](auto bf16, auto vector) {
    launch_resident("split_by_row", split_by_row_kernel<bf16(), vector()>, job.segments, 0, stream, job, capacity);
  });
}

std::size_t tensor_bounds_bytes(const OutlierJob& job) {
  return static_cast<std::size_t>(job.group_count) * sizeof(GroupSelection);
}

void tensor_bounds(const OutlierJob& job, void* workspace, cudaStream_t stream) {
  NG_CUDA_CHECK(cudaMemsetAsync(workspace, 0, tensor_bounds_bytes(job), stream));
  OutlierJob rows = job;
  rows.orientation = Orientation::row;
  GroupSelection* selections = static_cast<GroupSelection*>(workspace);
  visit(rows, true, [&](auto bf16, auto vector) {
    for (int pass = 0; pass < Digits<bf16()>::kPasses; ++pass) {
      launch_resident("count_groups", count_groups_kernel<bf16(), vector()>, job.x.rows, 0, stream, rows, selections,
                      pass);
      launch("pick_groups", pick_groups_kernel<bf16()>, job.group_count * kThreadsPerBlock, stream, rows, selections,
             pass);
    }
  });
}

void count_outliers(const OutlierJob& job, cudaStream_t stream) {
  visit(job, is_row_form(job) || job.turned, [&](auto bf16, auto vector) {
    launch_resident("count_outliers", count_outliers_kernel<bf16(), vector()>, job.segments, 0, stream, job);
  });
}

void split_by_bounds(const OutlierJob& job, cudaStream_t stream) {
  visit(job, is_row_form(job) || job.turned, [&](auto bf16, auto vector) {
    launch_resident("split_by_bounds", split_by_bounds_kernel<bf16(), vector()>, job.segments, 0, stream, job);
  });
}

void sum_positions(const OutlierJob& job, cudaStream_t stream) {
  launch("sum_positions", sum_positions_kernel, kThreadsPerBlock, stream, job.positions, job.segments);
}

void pack_residual(const OutlierJob& job, const OutlierJob& from, std::int64_t capacity, cudaStream_t stream) {
  launch("pack_residual", pack_residual_kernel, job.segments * 32, stream, job,
         static_cast<const std::int32_t*>(from.columns), static_cast<const void*>(from.values), capacity);
}

}  // namespace ng::cuda::fast
