// SPDX-License-Identifier: Apache-2.0
//
// One kernel text for all served specs: a tile of T elements belongs to T/16 neighbouring threads, which find its amax by
// shuffles, make its scale each for itself, and write eight or sixteen bytes of codes. Tiles with a value that is not
// finite take encode_scaled itself.
#include "fast/quantize_rows.hpp"

#include <cuda_fp8.h>

#include "fast/loads.cuh"
#include "fast/packed_e2m1.cuh"
#include "fast/scales.cuh"
#include "fast/served_specs.hpp"
#include "narrowgauge/base/error.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

/// The codes of eight elements, first lowest: one word of nibbles.
template <class Spec, class Elements>
__device__ std::uint32_t eight_nibbles(const Elements& x, int first, float factor) {
  std::uint32_t pair[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    pair[i] = bf16_pair_to_odd(mul_rn(x.element(first + i), factor), mul_rn(x.element(first + i + 4), factor));
  return e2m1_nearest<Spec::kZeroSign>(pair);
}

/// The codes of four elements, first lowest: one word of bytes, by the hardware's saturating conversion.
template <class Spec, class Elements>
__device__ std::uint32_t four_bytes(const Elements& x, int first, float factor) {
  constexpr __nv_fp8_interpretation_t kHardware = Spec::kId == FormatId::e4m3 ? __NV_E4M3 : __NV_E5M2;
  std::uint32_t word = 0;
#pragma unroll
  for (int i = 2; i >= 0; i -= 2) {
    const float2 pair{mul_rn(x.element(first + i), factor), mul_rn(x.element(first + i + 1), factor)};
    word = word << 16 | __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, kHardware);
  }
  return word;
}

template <class Elements, class Spec>
__global__ void __launch_bounds__(kThreadsPerBlock) quantize_rows_kernel(const __grid_constant__ QuantizeJob job,
                                                                         std::int64_t units) {
  constexpr int kLanes = Spec::kTile / kElements;
  const std::int64_t unit = thread_number();
  const bool inside = unit < units;
  Elements x;
  if (inside)
    x.load(job.source, unit);
  else
    x.clear();  // stays for the shuffles

  std::uint32_t amax = x.amax();
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const std::uint32_t other = __shfl_xor_sync(0xffffffffu, amax, distance);
    amax = other > amax ? other : amax;
  }
  if (!inside) return;

  QuantizerSpec spec;
  spec.element = kFormatOf<Spec::kId>;
  spec.element_id = Spec::kId;
  spec.scale_format = Spec::kScale;
  spec.rule = Spec::kRule;
  spec.cast.zero_sign = Spec::kZeroSign;
  spec.cast.nan = job.spec.cast.nan;
  spec.infinite_scale_code = job.spec.infinite_scale_code;
  spec.amax_floor = job.spec.amax_floor;
  const TensorScale tensor = Spec::kScale == ScaleFormat::e4m3 ? job.tensor[0] : TensorScale{};
  const TileScale scale = scale_of<Spec>(spec, amax, tensor);
  if (unit % kLanes == 0) {
    if constexpr (Spec::kScale == ScaleFormat::f32)
      static_cast<float*>(job.scales)[unit / kLanes] = float_of(scale.code);
    else
      static_cast<std::uint8_t*>(job.scales)[unit / kLanes] = static_cast<std::uint8_t>(scale.code);
  }

  constexpr int kBits = Spec::kBits;
  constexpr int kWords = kElements * kBits / 32;
  std::uint32_t words[kWords];
  if (amax < kInfinityBits && is_finite_bits(bits_of(scale.encode))) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      if constexpr (kBits == 4)
        words[w] = eight_nibbles<Spec>(x, 8 * w, scale.encode);
      else
        words[w] = four_bytes<Spec>(x, 4 * w, scale.encode);
    }
  } else {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      words[w] = 0;
#pragma unroll
      for (int i = 0; i < 32 / kBits; ++i)
        words[w] |= encode_scaled(spec, scale, x.element(w * (32 / kBits) + i)) << (kBits * i);
    }
  }
  if constexpr (kWords == 2)
    reinterpret_cast<uint2*>(job.codes)[unit] = uint2{words[0], words[1]};
  else
    reinterpret_cast<uint4*>(job.codes)[unit] = uint4{words[0], words[1], words[2], words[3]};
}

template <class Elements>
__global__ void __launch_bounds__(kThreadsPerBlock) tensor_amax_kernel(const __grid_constant__ QuantizeJob job,
                                                                       std::int64_t units, std::int64_t threads) {
  std::uint32_t amax = 0;
  for (std::int64_t unit = thread_number(); unit < units; unit += threads) {
    Elements x;
    x.load(job.source, unit);
    const std::uint32_t here = x.amax();
    amax = here > amax ? here : amax;
  }
  amax = __reduce_max_sync(0xffffffffu, amax);
  if (threadIdx.x % 32 == 0) atomicMax(job.group_amax, amax);
}

bool is_flat(const QuantizeJob& job) {
  return job.stride == job.cols && job.rows * job.cols % kElements == 0 &&
         reinterpret_cast<std::uintptr_t>(job.source) % 16 == 0;
}

}  // namespace

bool serves(const QuantizeJob& job, Dtype source) {
  const QuantizerSpec& spec = job.spec;
  if (source != Dtype::f32 && source != Dtype::bf16) return false;
  if (!is_flat(job) || job.orientation != Orientation::row || spec.hadamard.size != 0) return false;
  if (spec.cast.rounding != Rounding::nearest_even || spec.cast.overflow != Overflow::saturate) return false;
  if (spec.cast.nan == NanChoice::error || spec.application != ScaleApplication::multiply) return false;
  if (needs_tensor_amax(spec.rule) && job.group_count != 1) return false;
  if (reinterpret_cast<std::uintptr_t>(job.codes) % 16 != 0) return false;
  return spec.tile_cols > 0 && job.cols % spec.tile_cols == 0 && visit_spec(spec, [](auto) {});
}

void quantize_rows(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  const std::int64_t units = job.rows * job.cols / kElements;
  const bool served = visit_spec(job.spec, [&]<class Spec>(Spec) {
    if (source == Dtype::f32)
      launch("quantize_rows", quantize_rows_kernel<FloatElements, Spec>, units, stream, job, units);
    else
      launch("quantize_rows", quantize_rows_kernel<Bf16Elements, Spec>, units, stream, job, units);
  });
  if (!served) throw MachineError("kernel quantize_rows does not serve this quantizer");
}

bool serves_tensor_amax(const QuantizeJob& job) { return job.group_count == 1 && is_flat(job); }

void tensor_amax(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  constexpr std::int64_t kMostThreads = 2048 * 132 * 2;  // some waves of a large GPU
  const std::int64_t units = job.rows * job.cols / kElements;
  const std::int64_t blocks = (units + kThreadsPerBlock - 1) / kThreadsPerBlock;
  const std::int64_t threads = blocks * kThreadsPerBlock < kMostThreads ? blocks * kThreadsPerBlock : kMostThreads;
  if (source == Dtype::f32)
    launch("tensor_amax", tensor_amax_kernel<FloatElements>, threads, stream, job, units, threads);
  else
    launch("tensor_amax", tensor_amax_kernel<Bf16Elements>, threads, stream, job, units, threads);
}

}  // namespace ng::cuda::fast
