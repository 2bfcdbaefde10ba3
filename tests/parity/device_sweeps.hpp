// SPDX-License-Identifier: Apache-2.0
//
// Whole input spaces through device code: the numerics' functors on the GPU, against the hardware's own conversions or
// as sums that the host recomputes. Results are in host memory.
#pragma once

#include <cstdint>
#include <vector>

#include "narrowgauge/numerics/counter_rng.hpp"
#include "narrowgauge/numerics/format_catalog.hpp"
#include "narrowgauge/numerics/gradient_estimator.hpp"
#include "narrowgauge/numerics/rounding.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"

namespace ng_test {

/// Inputs of one sum; 4096 sums cover all FP32.
constexpr std::uint64_t kSweepBlock = 1u << 20;
constexpr std::uint64_t kSweepBlocks = (1ull << 32) / kSweepBlock;

/// What one input adds to the sum of its block: no two inputs weigh the same, so swapped codes show.
NG_HD std::uint64_t sweep_term(std::uint32_t input, std::uint32_t code) {
  return static_cast<std::uint64_t>(code + 1u) * (static_cast<std::uint64_t>(input) * 0x9E3779B97F4A7C15ull | 1u);
}
/// The draw of stochastic rounding in a sweep.
NG_HD std::uint32_t sweep_draw(std::uint32_t input, int bits) { return bits == 0 ? 0u : (input * 2654435761u) >> (32 - bits); }

struct Differences {
  std::uint64_t count = 0;
  std::uint64_t first = ~0ull;  ///< lowest FP32 input that differs
};

/// encode() on the device over all FP32: one sum per block.
std::vector<std::uint64_t> encode_sums_on_device(const ng::ElementFormat& format, const ng::CastChoices& choices);

/// encode() against __nv_cvt_float_to_fp8 in device code, all 2^32 FP32. `format`: e4m3 or e5m2.
Differences encode_against_hardware(ng::FormatId format, ng::Overflow overflow);

/// encode_branchless() against encode() in device code, all 2^32 FP32, nearest even; every form of `Inputs` where its
/// promise holds. `format`: e2m1, e4m3 or e5m2.
Differences branchless_against_encode(ng::FormatId format);

/// The fast kernels' packed E2M1 functions against encode() in device code: all FP32 magnitudes below 8, both signs;
/// nearest even, or stochastic with each of the 256 random bytes.
Differences packed_e2m1_against_encode(bool stochastic);

/// The table of quantize/estimator_table.hpp against estimator_factor() in device code, all 2^32 FP32: factors that
/// differ where the table gives one (NaN equal to NaN), and how often it gives none.
struct TableDifferences {
  Differences differences;
  std::uint64_t in_doubt = 0;
};
TableDifferences table_against_estimator(ng::FormatId format, const ng::EstimatorSpec& spec);

std::vector<ng::TileScale> tile_scales_on_device(const ng::QuantizerSpec& spec, const ng::TensorScale& tensor,
                                                 const std::vector<std::uint32_t>& amax);

std::vector<std::uint32_t> draws_on_device(const ng::RandomStream& stream, std::uint64_t first, std::size_t count, int bits);

enum class Function : std::uint8_t { exp2, exp, log, sigmoid, rsqrt, exp_double, log_double, sine, cosine, normal };

/// Bits of f(x): `in` are FP32 or FP64 bits (normal: two 32-bit draws); out likewise.
NG_HD std::uint64_t function_bits(Function f, std::uint64_t in);
std::vector<std::uint64_t> functions_on_device(Function f, const std::vector<std::uint64_t>& in);

/// Normal numbers as BF16 (or FP32), rows * cols of them in device memory.
void fill_normal_on_device(void* to, bool bf16, std::int64_t count);

}  // namespace ng_test

#include "narrowgauge/numerics/elementary.hpp"

namespace ng_test {

NG_HD std::uint64_t function_bits(Function f, std::uint64_t in) {
  const float x = ng::float_of(static_cast<std::uint32_t>(in));
  const double d = __builtin_bit_cast(double, in);
  double wide = 0.0;
  switch (f) {
    case Function::exp2: return ng::bits_of(ng::exp2_rn(x));
    case Function::exp: return ng::bits_of(ng::exp_rn(x));
    case Function::log: return ng::bits_of(ng::log_rn(x));
    case Function::sigmoid: return ng::bits_of(ng::sigmoid_rn(x));
    case Function::rsqrt: return ng::bits_of(ng::rsqrt_rn(x));
    case Function::exp_double: wide = ng::exp_rn(d); break;
    case Function::log_double: wide = ng::log_rn(d); break;
    case Function::sine: wide = ng::sine_cosine_rn(d).sine; break;
    case Function::cosine: wide = ng::sine_cosine_rn(d).cosine; break;
    case Function::normal:
      wide = ng::normal_from_bits(static_cast<std::uint32_t>(in), static_cast<std::uint32_t>(in >> 32));
      break;
  }
  return __builtin_bit_cast(std::uint64_t, wide);
}

}  // namespace ng_test
