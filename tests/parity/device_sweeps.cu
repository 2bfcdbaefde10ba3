// SPDX-License-Identifier: Apache-2.0
//
// The sweeps: each thread takes a run of consecutive inputs. Sums and counts are of integers, whose order does not matter.
#include "device_sweeps.hpp"

#include <cuda_fp8.h>

#include "fast/packed_e2m1.cuh"
#include "narrowgauge/numerics/hadamard.hpp"
#include "narrowgauge/quantize/encode_span.hpp"
#include "narrowgauge/quantize/estimator_table.hpp"
#include "runtime/device.hpp"
#include "runtime/launch.cuh"

namespace ng_test {

namespace {

using namespace ng;
using cuda::launch;
using cuda::thread_number;

constexpr std::uint64_t kRun = 1024;  ///< inputs of one thread
constexpr std::int64_t kAllThreads = static_cast<std::int64_t>((1ull << 32) / kRun);

__global__ void encode_sums_kernel(ElementFormat format, CastChoices choices, unsigned long long* sums) {
  const std::uint64_t first = static_cast<std::uint64_t>(thread_number()) * kRun;
  unsigned long long sum = 0;
  for (std::uint64_t i = first; i < first + kRun; ++i) {
    const std::uint32_t input = static_cast<std::uint32_t>(i);
    sum += sweep_term(input, encode(format, choices, float_of(input), sweep_draw(input, choices.random_bits)));
  }
  atomicAdd(&sums[first / kSweepBlock], sum);
}

struct DeviceDifferences {
  unsigned long long count;
  unsigned long long first;
};

__device__ void note(DeviceDifferences* differences, std::uint64_t input) {
  atomicAdd(&differences->count, 1ull);
  atomicMin(&differences->first, static_cast<unsigned long long>(input));
}

__global__ void hardware_kernel(ElementFormat format, bool e4m3, Overflow overflow, DeviceDifferences* differences) {
  CastChoices choices;
  choices.overflow = overflow;
  choices.nan = NanChoice::cuda;
  const std::uint64_t first = static_cast<std::uint64_t>(thread_number()) * kRun;
  for (std::uint64_t i = first; i < first + kRun; ++i) {
    const float x = float_of(static_cast<std::uint32_t>(i));
    const std::uint32_t hardware = __nv_cvt_float_to_fp8(x, overflow == Overflow::saturate ? __NV_SATFINITE : __NV_NOSAT,
                                                         e4m3 ? __NV_E4M3 : __NV_E5M2);
    if (encode(format, choices, x) != hardware) note(differences, i);
  }
}

template <FormatId kFormat>
__global__ void branchless_kernel(SpecialCodes special, SpecialCodes exact, DeviceDifferences* differences) {
  constexpr ElementFormat f = kFormatOf<kFormat>;
  const CastChoices keep;
  CastChoices exact_positive;
  exact_positive.zero_sign = ZeroSign::exact_positive;
  const std::uint64_t first = static_cast<std::uint64_t>(thread_number()) * kRun;
  for (std::uint64_t i = first; i < first + kRun; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(i);
    const std::uint32_t wanted = encode(f, keep, float_of(bits));
    const std::uint32_t wanted_exact = encode(f, exact_positive, float_of(bits));
    bool equal = encode_branchless<OneLane, kFormat, Rounding::nearest_even, Inputs::any>(special, 0, bits, 0u) == wanted &&
                 encode_branchless<OneLane, kFormat, Rounding::nearest_even, Inputs::any>(exact, 0, bits, 0u) == wanted_exact;
    if (!is_nan_bits(bits))
      equal = equal &&
              encode_branchless<OneLane, kFormat, Rounding::nearest_even, Inputs::plain>(special, 0, bits, 0u) == wanted &&
              encode_branchless<OneLane, kFormat, Rounding::nearest_even, Inputs::plain_exact_positive>(
                  special, 0, bits, 0u) == wanted_exact;
    if (!equal) note(differences, i);
  }
}

/// Eight neighbouring inputs at once, so that a code at another's place shows. Magnitudes of 8 and more are not the packed
/// functions' business.
__global__ void packed_e2m1_kernel(bool stochastic, DeviceDifferences* differences) {
  constexpr ElementFormat f = kFormatOf<FormatId::e2m1>;
  CastChoices choices;
  choices.rounding = stochastic ? Rounding::stochastic : Rounding::nearest_even;
  choices.random_bits = stochastic ? 8 : 0;
  const std::uint64_t first = static_cast<std::uint64_t>(thread_number()) * kRun;
  for (std::uint64_t i = first; i < first + kRun; i += 8) {
    float value[8];
    float scaled[8];
    for (int k = 0; k < 8; ++k) {
      const std::uint32_t bits = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(k);
      value[k] = (bits & kMagnitudeMask) < 0x41000000u ? float_of(bits) : 0.0f;
      scaled[k] = stochastic ? mul_rn(value[k], cuda::fast::kStochasticScale) : value[k];
    }
    for (std::uint32_t draw = 0; draw < (stochastic ? 256u : 1u); ++draw) {
      const auto byte_of = [&](int k) { return draw + 37u * static_cast<std::uint32_t>(k) & 255u; };
      std::uint32_t bytes[4];
      for (int pair = 0; pair < 4; ++pair)
        bytes[pair] = byte_of(cuda::fast::pair_first(pair)) | byte_of(cuda::fast::pair_first(pair) + 2) << 16;
      const std::uint32_t codes = stochastic ? cuda::fast::e2m1_stochastic(scaled, bytes) : cuda::fast::e2m1_nearest(scaled);
      for (int k = 0; k < 8; ++k)
        if ((codes >> 4 * k & 15u) != encode(f, choices, value[k], stochastic ? byte_of(k) : 0u))
          note(differences, i + static_cast<std::uint64_t>(k));
    }
  }
}

__global__ void estimator_kernel(ElementFormat format, EstimatorSpec spec, EstimatorConstants constants,
                                 const __grid_constant__ EstimatorTable table, DeviceDifferences* differences,
                                 DeviceDifferences* doubts) {
  const std::uint64_t first = static_cast<std::uint64_t>(thread_number()) * kRun;
  unsigned long long in_doubt = 0;
  for (std::uint64_t i = first; i < first + kRun; ++i) {
    const float x = float_of(static_cast<std::uint32_t>(i));
    float factor = 0.0f;
    if (!estimator_factor_of_table(table, table, x, factor))
      ++in_doubt;
    else if (bits_of(factor) != bits_of(estimator_factor(format, spec, constants, x)))
      note(differences, i);
  }
  if (in_doubt != 0) atomicAdd(&doubts->count, in_doubt);
}

__global__ void tile_scales_kernel(const __grid_constant__ QuantizerSpec spec, TensorScale tensor, const std::uint32_t* amax,
                                   std::int64_t count, TileScale* out) {
  if (thread_number() < count) out[thread_number()] = tile_scale(spec, amax[thread_number()], tensor);
}

__global__ void draws_kernel(RandomStream stream, std::uint64_t first, std::int64_t count, int bits, std::uint32_t* out) {
  const std::int64_t i = thread_number();
  if (i < count) out[i] = random_draw(stream, first + static_cast<std::uint64_t>(i), bits);
}

__global__ void functions_kernel(Function f, const std::uint64_t* in, std::int64_t count, std::uint64_t* out) {
  if (thread_number() < count) out[thread_number()] = function_bits(f, in[thread_number()]);
}

__global__ void fill_normal_kernel(void* to, bool bf16, std::int64_t count) {
  const std::int64_t i = thread_number();
  if (i >= count) return;
  const PhiloxBlock b = random_block(RandomStream{1, RandomPurpose::test_vectors, 2, 3}, static_cast<std::uint64_t>(i));
  const float x = static_cast<float>(normal_from_bits(b.word[0], b.word[1]));
  if (bf16)
    static_cast<std::uint16_t*>(to)[i] = static_cast<std::uint16_t>(bits_of(round_to_bf16(x)) >> 16);
  else
    static_cast<float*>(to)[i] = x;
}

template <class T>
Buffer on_device(const std::vector<T>& values) {
  Buffer buffer = cuda::allocate(values.size() * sizeof(T));
  cuda::copy_to_device(buffer.data.get(), values.data(), values.size() * sizeof(T));
  return buffer;
}

template <class T>
std::vector<T> on_host(const Buffer& buffer, std::size_t count) {
  cuda::synchronize();
  std::vector<T> values(count);
  cuda::copy_to_host(values.data(), buffer.data.get(), count * sizeof(T));
  return values;
}

Buffer no_differences() { return on_device(std::vector<DeviceDifferences>{{0, ~0ull}}); }
Differences read_differences(const Buffer& buffer) {
  const DeviceDifferences d = on_host<DeviceDifferences>(buffer, 1)[0];
  return {d.count, d.first};
}

}  // namespace

std::vector<std::uint64_t> encode_sums_on_device(const ElementFormat& format, const CastChoices& choices) {
  const Buffer sums = on_device(std::vector<unsigned long long>(kSweepBlocks, 0));
  launch("encode_sums", encode_sums_kernel, kAllThreads, nullptr, format, choices, sums.as<unsigned long long>());
  return on_host<std::uint64_t>(sums, kSweepBlocks);
}

Differences encode_against_hardware(FormatId format, Overflow overflow) {
  const Buffer differences = no_differences();
  launch("hardware", hardware_kernel, kAllThreads, nullptr, format_of(format), format == FormatId::e4m3, overflow,
         differences.as<DeviceDifferences>());
  return read_differences(differences);
}

Differences branchless_against_encode(FormatId format) {
  const Buffer differences = no_differences();
  const ElementFormat f = format_of(format);
  CastChoices exact;
  exact.zero_sign = ZeroSign::exact_positive;
  const auto kernel = format == FormatId::e2m1   ? branchless_kernel<FormatId::e2m1>
                      : format == FormatId::e4m3 ? branchless_kernel<FormatId::e4m3>
                                                 : branchless_kernel<FormatId::e5m2>;
  launch("branchless", kernel, kAllThreads, nullptr, special_codes(f, CastChoices{}), special_codes(f, exact),
         differences.as<DeviceDifferences>());
  return read_differences(differences);
}

Differences packed_e2m1_against_encode(bool stochastic) {
  const Buffer differences = no_differences();
  launch("packed_e2m1", packed_e2m1_kernel, kAllThreads, nullptr, stochastic, differences.as<DeviceDifferences>());
  return read_differences(differences);
}

TableDifferences table_against_estimator(FormatId format, const EstimatorSpec& spec) {
  const Buffer differences = no_differences();
  const Buffer doubts = no_differences();
  const ElementFormat f = format_of(format);
  const EstimatorConstants constants = estimator_constants(f, spec);
  launch("estimator", estimator_kernel, kAllThreads, nullptr, f, spec, constants, estimator_table(f, spec, constants),
         differences.as<DeviceDifferences>(), doubts.as<DeviceDifferences>());
  return {read_differences(differences), read_differences(doubts).count};
}

std::vector<TileScale> tile_scales_on_device(const QuantizerSpec& spec, const TensorScale& tensor,
                                             const std::vector<std::uint32_t>& amax) {
  const Buffer in = on_device(amax);
  const Buffer out = cuda::allocate(amax.size() * sizeof(TileScale));
  launch("tile_scales", tile_scales_kernel, static_cast<std::int64_t>(amax.size()), nullptr, spec, tensor,
         in.as<std::uint32_t>(), static_cast<std::int64_t>(amax.size()), out.as<TileScale>());
  return on_host<TileScale>(out, amax.size());
}

std::vector<std::uint32_t> draws_on_device(const RandomStream& stream, std::uint64_t first, std::size_t count, int bits) {
  const Buffer out = cuda::allocate(count * sizeof(std::uint32_t));
  launch("draws", draws_kernel, static_cast<std::int64_t>(count), nullptr, stream, first, static_cast<std::int64_t>(count),
         bits, out.as<std::uint32_t>());
  return on_host<std::uint32_t>(out, count);
}

std::vector<std::uint64_t> functions_on_device(Function f, const std::vector<std::uint64_t>& in) {
  const Buffer from = on_device(in);
  const Buffer out = cuda::allocate(in.size() * sizeof(std::uint64_t));
  launch("functions", functions_kernel, static_cast<std::int64_t>(in.size()), nullptr, f, from.as<std::uint64_t>(),
         static_cast<std::int64_t>(in.size()), out.as<std::uint64_t>());
  return on_host<std::uint64_t>(out, in.size());
}

void fill_normal_on_device(void* to, bool bf16, std::int64_t count) {
  launch("fill_normal", fill_normal_kernel, count, nullptr, to, bf16, count);
  cuda::synchronize();
}

}  // namespace ng_test
