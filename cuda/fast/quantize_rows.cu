// SPDX-License-Identifier: Apache-2.0
//
// One kernel text for all served specs: a tile of T elements belongs to T/16 neighbouring threads, which find its amax
// by shuffles, make its scale each for itself, and write eight or sixteen bytes of codes. A thread's sixteen elements
// are one Hadamard group and one block of random bytes.
#include "fast/quantize_rows.hpp"

#include "fast/line.cuh"
#include "fast/scales.cuh"
#include "fast/served_specs.hpp"
#include "fast/special.cuh"
#include "narrowgauge/base/error.hpp"
#include "runtime/launch.cuh"

namespace ng::cuda::fast {

namespace {

constexpr int kUnit = 16;  ///< elements of a thread

template <class Elements>
__device__ Elements load_unit(const void* source, std::int64_t unit) {
  Elements x;
  const uint4* from = static_cast<const uint4*>(source) + unit * (Elements::kWords / 4);
#pragma unroll
  for (int i = 0; i < Elements::kWords / 4; ++i) x.set(4 * i, __ldg(from + i));
  return x;
}

/// A job and what the host can make ready for it.
struct RowJob : QuantizeJob {
  HadamardFactors hadamard;
  PhiloxKeys keys;
};

/// The unit as it is quantized.
template <bool kBf16, bool kTransform>
__device__ ElementsOf<kBf16, kUnit> transformed_unit(const RowJob& job, std::int64_t unit) {
  const auto x = load_unit<ElementsOf<kBf16, kUnit>>(job.source, unit);
  if constexpr (kTransform)
    return hadamard_16(x, job.hadamard);
  else
    return x;
}

/// The random bytes of a unit.
__device__ uint4 unit_bytes(const RowJob& job, std::int64_t unit) {
  if (job.row_ids == nullptr && job.logical_cols == job.cols && job.logical_col0 == 0)
    return sixteen_bytes(job, job.keys, 0, unit * kUnit);
  const std::uint32_t per_row = static_cast<std::uint32_t>(job.cols / kUnit);
  const std::uint32_t number = static_cast<std::uint32_t>(unit);  // serves(): there are less than 2^32
  return sixteen_bytes(job, job.keys, number / per_row, static_cast<std::int64_t>(number % per_row * kUnit));
}

template <bool kBf16, class Spec, bool kTransform, bool kStochastic>
__global__ void __launch_bounds__(kThreadsPerBlock)
    quantize_rows_kernel(const __grid_constant__ RowJob job, std::int64_t units) {
  constexpr int kLanes = Spec::kTile / kUnit;
  const std::int64_t thread = thread_number();
  const bool inside = thread < units;
  const std::int64_t unit = inside ? thread : units - 1;  // all stay for the shuffles
  auto x = transformed_unit<kBf16, kTransform>(job, unit);
  std::uint32_t amax = x.template amax<kUnit>(0);
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const std::uint32_t other = __shfl_xor_sync(0xffffffffu, amax, distance);
    amax = other > amax ? other : amax;
  }
  if (!inside) return;

  const TensorScale tensor = Spec::kScale == ScaleFormat::e4m3 ? job.tensor[0] : TensorScale{};
  const QuickScale scale =
      quick_scale<Spec>(amax, ScaleSource<false>{job.spec.amax_floor, wanted_by_te(tensor), tensor.decode});
  const bool writes_scale = unit % kLanes == 0;
  if (!scale.ordinary) {
    if (!scale.clamped) {
      const std::int64_t row = unit / (job.cols / kUnit);
      encode_special<kBf16, Spec::kBits>(&job, false, row, unit * kUnit - row * job.cols, kUnit, amax, tensor.encode,
                                         tensor.decode, writes_scale);
      return;
    }
    x.template clamp<kUnit>(0, clamp_bound(scale.factor));
  }
  if (writes_scale) {
    if constexpr (Spec::kScale == ScaleFormat::f32)
      static_cast<float*>(job.scales)[unit / kLanes] = float_of(scale.code);
    else
      static_cast<std::uint8_t*>(job.scales)[unit / kLanes] = static_cast<std::uint8_t>(scale.code);
  }
  constexpr int kWords = kUnit * Spec::kBits / 32;
  std::uint32_t words[kWords];
  if constexpr (kStochastic) {
    const uint4 bytes = unit_bytes(job, unit);
    encode_tile<Spec, true, kUnit>(scale.factor, x, 0, ElementBytes<kUnit>{{bytes.x, bytes.y, bytes.z, bytes.w}},
                                   words);
  } else {
    encode_tile<Spec, false, kUnit>(scale.factor, x, 0, NoBytes{}, words);
  }
  if constexpr (kWords == 2)
    reinterpret_cast<uint2*>(job.codes)[unit] = uint2{words[0], words[1]};
  else
    reinterpret_cast<uint4*>(job.codes)[unit] = uint4{words[0], words[1], words[2], words[3]};
}

template <bool kBf16, bool kTransform>
__global__ void __launch_bounds__(kThreadsPerBlock)
    tensor_amax_kernel(const __grid_constant__ RowJob job, std::int64_t units, std::int64_t threads) {
  std::uint32_t amax = 0;
  for (std::int64_t unit = thread_number(); unit < units; unit += threads) {
    const std::uint32_t here = transformed_unit<kBf16, kTransform>(job, unit).template amax<kUnit>(0);
    amax = here > amax ? here : amax;
  }
  if (kTransform && is_nan_bits(amax)) amax = kQuietNanBits;  // that of sums, whatever the hardware makes of it
  amax = __reduce_max_sync(0xffffffffu, amax);
  if (threadIdx.x % 32 == 0) atomicMax(job.group_amax, amax);
}

bool is_flat(const QuantizeJob& job) {
  return job.stride == job.cols && job.rows * job.cols % kUnit == 0 &&
         reinterpret_cast<std::uintptr_t>(job.source) % 16 == 0;
}

bool transforms(const QuantizeJob& job) {
  return job.spec.hadamard.size != 0;
}

RowJob row_job(const QuantizeJob& job) {
  return RowJob{job, hadamard_factors(job.signs), stream_keys(job.stream)};
}

std::int64_t units_of(const QuantizeJob& job) {
  return job.rows * job.cols / kUnit;
}

}  // namespace

bool serves_front(const QuantizerSpec& spec, Dtype source) {
  const HadamardSpec& h = spec.hadamard;
  const bool stochastic = spec.cast.rounding == Rounding::stochastic;
  if (source == Dtype::f32) return h.size == 0 && spec.cast.rounding == Rounding::nearest_even;
  if (source != Dtype::bf16) return false;
  if (h.size != 0 && (h.size != 16 || h.order != HadamardOrder::butterfly || h.result != HadamardResult::bf16))
    return false;
  if (stochastic) return spec.cast.random_bits == 8 && spec.element_id == FormatId::e2m1;
  return spec.cast.rounding == Rounding::nearest_even;
}

bool serves(const QuantizeJob& job, Dtype source) {
  const QuantizerSpec& spec = job.spec;
  if (!serves_front(spec, source)) return false;
  if (!is_flat(job) || job.orientation != Orientation::row) return false;
  if (spec.cast.overflow != Overflow::saturate) return false;
  if (spec.cast.nan == NanChoice::error || spec.application != ScaleApplication::multiply) return false;
  if (needs_tensor_amax(spec.rule) && job.group_count != 1) return false;
  if (reinterpret_cast<std::uintptr_t>(job.codes) % 16 != 0) return false;
  if (spec.cast.rounding == Rounding::stochastic &&
      (job.logical_cols % kUnit != 0 || job.logical_col0 % kUnit != 0 || units_of(job) > 0xffffffff))
    return false;
  return spec.tile_cols > 0 && job.cols % spec.tile_cols == 0 && visit_spec(spec, [](auto) {});
}

void quantize_rows(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  const std::int64_t units = units_of(job);
  const bool transform = transforms(job);
  const auto run = [&](auto kernel) { launch("quantize_rows", kernel, units, stream, row_job(job), units); };
  const bool served = visit_spec(job.spec, [&]<class Spec>(Spec) {
    if (source == Dtype::f32) return run(quantize_rows_kernel<false, Spec, false, false>);
    if constexpr (Spec::kBits == 4) {
      if (job.spec.cast.rounding == Rounding::stochastic)
        return transform ? run(quantize_rows_kernel<true, Spec, true, true>)
                         : run(quantize_rows_kernel<true, Spec, false, true>);
    }
    transform ? run(quantize_rows_kernel<true, Spec, true, false>)
              : run(quantize_rows_kernel<true, Spec, false, false>);
  });
  if (!served) throw MachineError("kernel quantize_rows does not serve this quantizer");
}

bool serves_tensor_amax(const QuantizeJob& job, Dtype source) {
  if (job.group_count != 1 || !is_flat(job)) return false;
  return !transforms(job) || (job.orientation == Orientation::row && serves_front(job.spec, source));
}

void tensor_amax(const QuantizeJob& job, Dtype source, cudaStream_t stream) {
  constexpr std::int64_t kMostThreads = 2048 * 132 * 2;  // some waves of a large GPU
  const std::int64_t units = units_of(job);
  const std::int64_t blocks = (units + kThreadsPerBlock - 1) / kThreadsPerBlock;
  const std::int64_t threads = blocks * kThreadsPerBlock < kMostThreads ? blocks * kThreadsPerBlock : kMostThreads;
  const auto run = [&](auto kernel) { launch("tensor_amax", kernel, threads, stream, row_job(job), units, threads); };
  if (source == Dtype::f32)
    run(tensor_amax_kernel<false, false>);
  else if (transforms(job))
    run(tensor_amax_kernel<true, true>);
  else
    run(tensor_amax_kernel<true, false>);
}

}  // namespace ng::cuda::fast
