// SPDX-License-Identifier: Apache-2.0
//
// One block, one row. With a scale for the row the weight is read for its amax first; the second read finds it in the
// cache.
#include "fast/estimator.hpp"

#include "narrowgauge/quantize/estimator_table.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kWarps = kThreadsPerBlock / 32;

/// The rare inputs.
__device__ __noinline__ float exact_factor(const EstimatorJob* job, float x) {
  return estimator_factor(job->weight.spec.element, job->spec, job->constants, x);
}

__device__ __forceinline__ float multiplied(const EstimatorJob& job, const EstimatorTable& table,
                                            const EstimatorTable& lookup, const TileScale& scale, float weight,
                                            float gradient) {
  // The sign of x does not matter.
  const bool divides = job.weight.spec.application == ScaleApplication::divide;
  const float x = divides ? div_rn(weight, scale.divisor) : mul_rn(weight, scale.encode);
  float factor = 0.0f;
  if (!estimator_factor_of_table(table, lookup, x, factor)) factor = exact_factor(&job, x);
  return mul_rn(gradient, factor);
}

__device__ __forceinline__ std::uint32_t amax_of(const float4& x) {
  return max(max(magnitude_bits(x.x), magnitude_bits(x.y)), max(magnitude_bits(x.z), magnitude_bits(x.w)));
}

/// Largest magnitude bits of a row, in every thread.
__device__ std::uint32_t row_amax(const float4* row, std::int64_t quads, std::uint32_t (&sm_amax)[kWarps]) {
  std::uint32_t amax = 0;
  for (std::int64_t q = threadIdx.x; q < quads; q += kThreadsPerBlock) amax = max(amax, amax_of(row[q]));
  amax = __reduce_max_sync(0xffffffffu, amax);
  if (threadIdx.x % 32 == 0) sm_amax[threadIdx.x / 32] = amax;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) amax = max(amax, sm_amax[w]);
  return amax;
}

/// Where scales come from: the row, neighbouring threads of a tile of 1 x 16 to 1 x 128, or job.weight.tiles.
enum class Scales : std::uint8_t { row, tile, given };

template <Scales kScales>
__global__ void __launch_bounds__(kThreadsPerBlock)
    multiply_by_estimator_kernel(const __grid_constant__ EstimatorJob job,
                                 const __grid_constant__ EstimatorTable table) {
  __shared__ EstimatorTable sm_table;
  __shared__ std::uint32_t sm_amax[kWarps];
  static_assert(sizeof(EstimatorTable) % 8 == 0 && sizeof(EstimatorTable) / 8 <= kThreadsPerBlock);
  if (threadIdx.x < sizeof(EstimatorTable) / 8)
    reinterpret_cast<std::uint64_t*>(&sm_table)[threadIdx.x] =
        reinterpret_cast<const std::uint64_t*>(&table)[threadIdx.x];
  __syncthreads();
  const QuantizeJob& w = job.weight;
  const std::int64_t r = blockIdx.x;
  const float4* weight = reinterpret_cast<const float4*>(static_cast<const float*>(w.source) + r * w.stride);
  float4* gradient = reinterpret_cast<float4*>(static_cast<float*>(job.gradient.data) + r * job.gradient.stride);
  const std::int64_t quads = w.cols / 4;
  TileScale scale;
  if constexpr (kScales == Scales::row) scale = tile_scale(w.spec, row_amax(weight, quads, sm_amax), TensorScale{});
  for (std::int64_t first = 0; first < quads; first += kThreadsPerBlock) {
    const std::int64_t q = first + threadIdx.x;
    const bool mine = q < quads;
    const float4 x = mine ? weight[q] : float4{0.0f, 0.0f, 0.0f, 0.0f};
    float4 d = mine ? gradient[q] : x;
    if constexpr (kScales == Scales::tile) {
      std::uint32_t amax = amax_of(x);
      for (int distance = 1; distance < w.tile_width / 4; distance *= 2)
        amax = max(amax, __shfl_xor_sync(0xffffffffu, amax, distance));
      scale = tile_scale(w.spec, amax, TensorScale{});
    }
    if (!mine) continue;
    if constexpr (kScales == Scales::given)
      if (w.spec.scale_format != ScaleFormat::none) scale = w.tiles[plain::tile_number(w, r, 4 * q)];
    d.x = multiplied(job, table, sm_table, scale, x.x, d.x);
    d.y = multiplied(job, table, sm_table, scale, x.y, d.y);
    d.z = multiplied(job, table, sm_table, scale, x.z, d.z);
    d.w = multiplied(job, table, sm_table, scale, x.w, d.w);
    gradient[q] = d;
  }
}

bool is_quads(const void* data, std::int64_t stride, std::int64_t cols) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % 4 == 0 && cols % 4 == 0;
}

Scales scales_of(const EstimatorJob& job) {
  const QuantizerSpec& spec = job.weight.spec;
  const int width = spec.tile_cols;
  if (spec.scale_format == ScaleFormat::none || spec.tile_rows != 1 || needs_tensor_amax(spec.rule))
    return Scales::given;
  if (width == 0) return Scales::row;
  return width >= 16 && width <= 128 && (width & (width - 1)) == 0 ? Scales::tile : Scales::given;
}

}  // namespace

bool estimator_serves(const EstimatorJob& job) {
  const QuantizeJob& w = job.weight;
  const TensorView& d = job.gradient;
  const bool scaled = w.spec.scale_format != ScaleFormat::none;
  return has_estimator_table(w.spec.element, job.spec) && is_quads(w.source, w.stride, w.cols) &&
         is_quads(d.data, d.stride, d.cols) && w.rows <= 0x7fffffff && (!scaled || w.tile_width % 4 == 0);
}

bool estimator_finds_scales(const EstimatorJob& job) {
  return scales_of(job) != Scales::given;
}

void multiply_by_estimator(const EstimatorJob& job, cudaStream_t stream) {
  const EstimatorTable table = estimator_table(job.weight.spec.element, job.spec, job.constants);
  const Scales scales = scales_of(job);
  const auto kernel = scales == Scales::row    ? multiply_by_estimator_kernel<Scales::row>
                      : scales == Scales::tile ? multiply_by_estimator_kernel<Scales::tile>
                                               : multiply_by_estimator_kernel<Scales::given>;
  launch("multiply_by_estimator", kernel, job.weight.rows * kThreadsPerBlock, stream, job, table);
}

}  // namespace ng::cuda::fast
