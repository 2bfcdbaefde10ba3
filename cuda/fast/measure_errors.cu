// SPDX-License-Identifier: Apache-2.0
//
// A leaf of a row's summation tree belongs to one lane. Row forms: the lanes of a warp take neighbouring leaves, and
// shuffles add them up in the tree's order. Column forms: the lanes take one leaf of neighbouring rows, whose codes lie
// together; all leaves are written.
#include <cuda_runtime.h>

#include <cstdint>

#include "fast/measure_errors.hpp"
#include "narrowgauge/quantize/measure_terms.hpp"
#include "plain/quantize_threads.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kLeaf = static_cast<int>(kSummationLeaf);
constexpr int kChunk = 32;  ///< columns whose elements are loaded together
constexpr int kWarps = kThreadsPerBlock / 32;
constexpr unsigned kAllLanes = 0xffffffffu;

/// Elements of 16 bytes each.
template <class Source>
struct Chunk {
  static constexpr int kPerVector = 16 / static_cast<int>(sizeof(Source));
  uint4 vector[kChunk / kPerVector];

  __device__ void load(const Source* from) {
#pragma unroll
    for (int i = 0; i < kChunk / kPerVector; ++i) vector[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
  }
  __device__ std::uint32_t word(int i) const {
    const uint4& four = vector[i / 4];
    return i % 4 == 0 ? four.x : i % 4 == 1 ? four.y : i % 4 == 2 ? four.z : four.w;
  }
  __device__ float element(int i) const {
    if constexpr (sizeof(Source) == 4) return float_of(word(i));
    return float_of(i % 2 == 0 ? word(i / 2) << 16 : word(i / 2) & 0xffff0000u);
  }
};

/// Codes of a chunk of a row form.
template <int kBits>
struct ChunkCodes {
  uint4 vector[kBits / 4];

  __device__ void load(const std::uint8_t* from) {
#pragma unroll
    for (int i = 0; i < kBits / 4; ++i) vector[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
  }
  __device__ std::uint32_t code(int i) const {
    constexpr int kPerWord = 32 / kBits;
    const uint4& four = vector[i / kPerWord / 4];
    const int w = i / kPerWord % 4;
    const std::uint32_t word = w == 0 ? four.x : w == 1 ? four.y : w == 2 ? four.z : four.w;
    return word >> (i % kPerWord * kBits) & ((1u << kBits) - 1u);
  }
};

/// What the codes of a tile are multiplied by, one after the other, and the largest value that it can hold.
struct TileFactors {
  float first, second, limit;
};

__device__ TileFactors tile_factors(const DequantizeJob& q, std::int64_t at, float tensor, float amax) {
  float scale = 1.0f;
  if (q.spec.scale_format == ScaleFormat::f32)
    scale = __ldg(static_cast<const float*>(q.scales) + at);
  else if (q.spec.scale_format != ScaleFormat::none)
    scale = stored_scale_value(q.spec.scale_format, __ldg(static_cast<const std::uint8_t*>(q.scales) + at));
  TileFactors factors;
  const bool te = q.spec.decode == DecodeOrder::te;
  factors.first = te ? te_decode_factor(scale, amax) : scale;
  factors.second = te ? 1.0f : tensor;
  factors.limit = block_limit(q.spec, scale, tensor, amax);
  return factors;
}

/// ErrorTerms with the same bits from fewer instructions: products of FP32 numbers are exact in double, so that one fma
/// is a product and a sum; the largest errors are looked for in FP32 first.
struct LeafTerms {
  double error2 = 0, square = 0, decoded2 = 0, product = 0, signed_error = 0, absolute = 0;

  __device__ double& of(int sum) {
    return sum == 0   ? error2
           : sum == 1 ? square
           : sum == 2 ? decoded2
           : sum == 3 ? product
           : sum == 4 ? signed_error
                      : absolute;
  }
};

struct LaneCounts {
  std::uint32_t nonzero = 0, underflow = 0, saturated = 0;
  float max_abs = 0, max_rel = 0;

  /// float(distance / size) into max_rel. Only what can exceed it is divided:
  /// 1. A larger quotient has an error of at least fp32(max_rel * |x|), by the monotony of rounding; zero never is one.
  /// 2. To round to a larger FP32 number it must exceed max_rel by 2^-25 of itself; 2^-26 leaves room for rounding.
  __device__ void see_relative(float x, float absolute_error, double error) {
    const float magnitude = float_of(magnitude_bits(x));
    const float least = mul_rn(max_rel, magnitude);
    if (x != 0 && absolute_error > 0 && !(absolute_error < least)) {
      const double distance = measure_detail::magnitude(error);
      const double size = static_cast<double>(magnitude);
      const double above = mul_rn(static_cast<double>(max_rel), 1.0 + 0x1p-26);
      if (!(distance < mul_rn(above, size))) {
        const float relative_error = static_cast<float>(div_rn(distance, size));
        max_rel = max_rel < relative_error ? relative_error : max_rel;
      }
    }
  }
};

__device__ void add_element(LeafTerms& leaf, LaneCounts& counts, float x, float element, const TileFactors& tile) {
  const float d = mul_rn(mul_rn(element, tile.first), tile.second);  // a NaN's sign is not seen
  const double value = x;
  const double got = d;
  const double error = sub_rn(got, value);
  leaf.error2 = add_rn(leaf.error2, mul_rn(error, error));
  leaf.square = fma_rn(value, value, leaf.square);
  leaf.decoded2 = fma_rn(got, got, leaf.decoded2);
  leaf.product = fma_rn(got, value, leaf.product);
  leaf.signed_error = add_rn(leaf.signed_error, x < 0 ? -error : x > 0 ? error : 0.0);
  leaf.absolute = add_rn(leaf.absolute, measure_detail::magnitude(value));
  // fp32(double(d - x)) = fp32(d - x): where the double is rounded, the smaller of the two is below 2^-27 of the
  // larger.
  const float absolute_error = float_of(magnitude_bits(sub_rn(d, x)));
  counts.max_abs = counts.max_abs < absolute_error ? absolute_error : counts.max_abs;
  const bool nonzero = x != 0;
  counts.nonzero += nonzero ? 1 : 0;
  counts.underflow += nonzero && d == 0 ? 1 : 0;
  counts.saturated += float_of(magnitude_bits(x)) > tile.limit ? 1 : 0;
  counts.see_relative(x, absolute_error, error);
}

/// Which leaf a lane takes in unit `unit`.
struct LanePlace {
  std::int64_t row, leaf;
};

template <class Source, int kBits, Orientation kOrientation>
__global__ void __launch_bounds__(kThreadsPerBlock, 2)
    measure_errors_kernel(const __grid_constant__ MeasureJob job, int leaves, int lanes_per_row, std::int64_t units) {
  constexpr bool kRowForm = kOrientation == Orientation::row;
  constexpr int kCodes = 1 << kBits;
  const DequantizeJob& q = job.coded;
  __shared__ float sm_value[kCodes];
  for (int code = static_cast<int>(threadIdx.x); code < kCodes; code += kThreadsPerBlock)
    sm_value[code] =
        code < 1 << bit_count(q.spec.element) ? decode(q.spec.element, static_cast<std::uint32_t>(code)) : 0.0f;
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t cols = job.x.cols;
  LaneCounts counts;
  for (std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; unit < units;
       unit += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    // The largest relative error that anybody has seen: nothing smaller needs a division.
    counts.max_rel = fmaxf(counts.max_rel, float_of(__ldcg(&job.totals->max_rel)));
    LanePlace place;
    if constexpr (kRowForm) {
      const int nodes = static_cast<int>(job.partials.nodes);
      place.row = unit / nodes * (32 / lanes_per_row) + lane / lanes_per_row;
      place.leaf = unit % nodes * 32 + lane % lanes_per_row;
    } else {
      place.row = unit / leaves * 32 + lane;
      place.leaf = unit % leaves;
    }
    const bool counted = place.row < job.x.rows && job.partials.counts(place.row);
    LeafTerms leaf;
    if (counted && place.leaf < leaves) {
      const std::int64_t g = plain::group_of_row(q.groups, q.group_count, place.row);
      const float tensor = q.tensor_scales != nullptr ? q.tensor_scales[g] : 1.0f;
      const float amax = q.tensor_amaxes != nullptr ? q.tensor_amaxes[g] : 0.0f;
      const std::int64_t in_group = place.row - q.groups[g].begin;
      const auto height = static_cast<std::int64_t>(kRowForm ? q.spec.tile_rows : q.spec.tile_cols);
      const auto width = static_cast<std::uint32_t>(kRowForm ? q.spec.tile_cols : q.spec.tile_rows);
      const std::int64_t tile_row = q.groups[g].first_tile + (height == 0 ? 0 : in_group / height);
      const auto begin = static_cast<std::uint32_t>(place.leaf * kLeaf);
      const std::uint32_t end = begin + kLeaf < cols ? begin + kLeaf : static_cast<std::uint32_t>(cols);
      const Source* x = static_cast<const Source*>(job.x.data) + place.row * job.x.stride;
      std::uint32_t seen = 0xffffffffu;  // column of tiles whose factors are there
      TileFactors tile{1.0f, 1.0f, 0.0f};
      const auto tile_of = [&](std::uint32_t c) {
        const std::uint32_t j = width == 0 ? 0 : width == 1 ? c : c / width;
        if (j == seen) return;
        seen = j;
        tile = tile_factors(q, kRowForm ? tile_row * q.scale_cols + j : j * q.scale_cols + tile_row, tensor, amax);
      };
      for (std::uint32_t c = begin; c < end; c += kChunk) {
        Chunk<Source> chunk;
        chunk.load(x + c);
        if constexpr (kRowForm) {
          ChunkCodes<kBits> codes;
          codes.load(q.codes + place.row * q.row_bytes + c * kBits / 8);
#pragma unroll
          for (int i = 0; i < kChunk; ++i) {
            if (i % 16 == 0) tile_of(c + static_cast<std::uint32_t>(i));
            add_element(leaf, counts, chunk.element(i), sm_value[codes.code(i)], tile);
          }
        } else {
          const std::uint8_t* codes = q.codes + c * q.row_bytes + place.row * kBits / 8;
          const int shift = kBits == 4 ? static_cast<int>(place.row % 2) * 4 : 0;
#pragma unroll
          for (int half = 0; half < kChunk; half += kChunk / 2) {
            std::uint32_t code[kChunk / 2];
#pragma unroll
            for (int i = 0; i < kChunk / 2; ++i) code[i] = __ldg(codes + (half + i) * q.row_bytes);
#pragma unroll
            for (int i = 0; i < kChunk / 2; ++i) {
              tile_of(c + static_cast<std::uint32_t>(half + i));
              add_element(leaf, counts, chunk.element(half + i), sm_value[code[i] >> shift & (kCodes - 1)], tile);
            }
          }
        }
      }
    }

    if constexpr (kRowForm) {
      // Level after level: node j of a level lies in the lane of its first leaf; an odd last one moves up alone.
      const int number = lane % lanes_per_row;
      const std::int64_t first_leaf = place.leaf - number;
      const std::int64_t present = leaves - first_leaf < lanes_per_row ? leaves - first_leaf : lanes_per_row;
      for (int stride = 1; stride < lanes_per_row; stride *= 2) {
        const bool adds = number % (2 * stride) == 0 && number + stride < present;
#pragma unroll
        for (int s = 0; s < kErrorSums; ++s) {
          const double other = __shfl_down_sync(kAllLanes, leaf.of(s), static_cast<unsigned>(stride));
          if (adds) leaf.of(s) = add_rn(leaf.of(s), other);
        }
      }
      if (counted && number == 0) {
#pragma unroll
        for (int s = 0; s < kErrorSums; ++s) job.partials.of(s, place.row)[unit % job.partials.nodes] = leaf.of(s);
      }
    } else if (counted) {
#pragma unroll
      for (int s = 0; s < kErrorSums; ++s) job.partials.of(s, place.row)[place.leaf] = leaf.of(s);
    }

    const std::uint32_t largest = __reduce_max_sync(kAllLanes, bits_of(counts.max_rel));
    if (lane == 0 && largest > __ldcg(&job.totals->max_rel)) atomicMax(&job.totals->max_rel, largest);
    counts.max_rel = float_of(largest);
  }

  const std::uint32_t numbers[] = {__reduce_add_sync(kAllLanes, counts.nonzero),
                                   __reduce_add_sync(kAllLanes, counts.underflow),
                                   __reduce_add_sync(kAllLanes, counts.saturated)};
  const std::uint32_t max_abs = __reduce_max_sync(kAllLanes, bits_of(counts.max_abs));
  if (lane != 0) return;
  atomicAdd(&job.totals->nonzero, static_cast<unsigned long long>(numbers[0]));
  atomicAdd(&job.totals->underflow, static_cast<unsigned long long>(numbers[1]));
  atomicAdd(&job.totals->saturated, static_cast<unsigned long long>(numbers[2]));
  atomicMax(&job.totals->max_abs, max_abs);
}

std::int64_t leaves_of(const MeasureJob& job) {
  return static_cast<std::int64_t>(summation_leaves(static_cast<std::size_t>(job.x.cols)));
}

bool is_aligned(const void* pointer, std::int64_t pitch_bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0 && pitch_bytes % 16 == 0;
}

template <class Source, int kBits, Orientation kOrientation>
void launch_errors(const MeasureJob& job, cudaStream_t stream) {
  const std::int64_t leaves = leaves_of(job);
  int lanes_per_row = 1;
  while (lanes_per_row < 32 && lanes_per_row < leaves) lanes_per_row *= 2;
  const std::int64_t rows_per_unit = kOrientation == Orientation::row ? 32 / lanes_per_row : 32;
  const std::int64_t units = (job.x.rows + rows_per_unit - 1) / rows_per_unit * job.partials.nodes;
  launch_resident("measure_errors", measure_errors_kernel<Source, kBits, kOrientation>, (units + kWarps - 1) / kWarps,
                  0, stream, job, static_cast<int>(leaves), lanes_per_row, units);
}

template <class Source, int kBits>
void launch_errors(const MeasureJob& job, cudaStream_t stream) {
  if (job.coded.orientation == Orientation::row)
    launch_errors<Source, kBits, Orientation::row>(job, stream);
  else
    launch_errors<Source, kBits, Orientation::column>(job, stream);
}

template <class Source>
void launch_errors(const MeasureJob& job, cudaStream_t stream) {
  if (job.coded.storage == CodeStorage::nibble)
    launch_errors<Source, 4>(job, stream);
  else
    launch_errors<Source, 8>(job, stream);
}

}  // namespace

bool serves_measure_errors(const MeasureJob& job) {
  const DequantizeJob& q = job.coded;
  const bool row_form = q.orientation == Orientation::row;
  if (job.decoded != nullptr || q.storage == CodeStorage::half) return false;
  if (job.x.cols % kChunk != 0 || job.x.cols > 0x10000000) return false;
  if (!is_aligned(job.x.data, job.x.stride * static_cast<std::int64_t>(size_of(job.x.dtype)))) return false;
  if (row_form && (!is_aligned(q.codes, q.row_bytes) || q.spec.tile_cols % 16 != 0)) return false;
  return true;
}

std::int64_t measure_error_nodes(const MeasureJob& job) {
  return job.coded.orientation == Orientation::row ? (leaves_of(job) + 31) / 32 : leaves_of(job);
}

void measure_errors(const MeasureJob& job, cudaStream_t stream) {
  if (job.x.dtype == Dtype::f32)
    launch_errors<float>(job, stream);
  else
    launch_errors<std::uint16_t>(job, stream);
}

}  // namespace ng::cuda::fast
