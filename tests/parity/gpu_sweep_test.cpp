// SPDX-License-Identifier: Apache-2.0
//
// Claim: the numerics' functors give the same bits in device code as on the host: casts over all 2^32 FP32 inputs,
// scale rules, elementary functions, random draws; and E4M3 and E5M2 are the hardware's own conversions. Alone:
// build/release/bin/parity_gpu --gtest_filter='Sweep.*'
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "device_sweeps.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "runtime/device.hpp"

namespace ng_test {
namespace {

using namespace ng;

class Sweep : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto problem = cuda::device_problem()) GTEST_SKIP() << "NOT TESTED, no GPU: " << *problem;
  }
};

std::vector<std::uint64_t> encode_sums_on_host(const ElementFormat& format, const CastChoices& choices) {
  std::vector<std::uint64_t> sums(kSweepBlocks, 0);
  std::atomic<std::uint64_t> next{0};
  const auto work = [&, format, choices] {
    for (std::uint64_t block = next++; block < kSweepBlocks; block = next++) {
      std::uint64_t sum = 0;
      for (std::uint64_t i = block * kSweepBlock; i < (block + 1) * kSweepBlock; ++i) {
        const std::uint32_t input = static_cast<std::uint32_t>(i);
        sum += sweep_term(input, encode(format, choices, float_of(input), sweep_draw(input, choices.random_bits)));
      }
      sums[block] = sum;
    }
  };
  std::vector<std::jthread> pool;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) pool.emplace_back(work);
  pool.clear();
  return sums;
}

void expect_equal_sums(FormatId id, const CastChoices& choices) {
  const std::vector<std::uint64_t> device = encode_sums_on_device(format_of(id), choices);
  const std::vector<std::uint64_t> host = encode_sums_on_host(format_of(id), choices);
  for (std::size_t block = 0; block < kSweepBlocks; ++block)
    if (device[block] != host[block]) {
      ADD_FAILURE() << name_of(id) << " rounding " << int(choices.rounding) << ": inputs 0x" << std::hex
                    << block * kSweepBlock << " to +2^20 differ";
      return;
    }
}

TEST_F(Sweep, EveryFp32NearestEvenAllFormats) {
  for (const NamedFormat& f : format_catalog())
    if (f.id != FormatId::e8m0 && bit_count(f.format) <= 16) expect_equal_sums(f.id, CastChoices{});
}

TEST_F(Sweep, EveryFp32OtherRoundings) {
  for (const FormatId id : {FormatId::e2m1, FormatId::e4m3, FormatId::e5m2}) {
    for (const Rounding rounding :
         {Rounding::nearest_away, Rounding::toward_zero, Rounding::half_up, Rounding::stochastic}) {
      CastChoices choices;
      choices.rounding = rounding;
      choices.random_bits = rounding == Rounding::stochastic ? 8 : 0;
      choices.overflow = Overflow::nonfinite;
      choices.zero_sign = ZeroSign::exact_positive;
      expect_equal_sums(id, choices);
    }
  }
}

TEST_F(Sweep, EveryFp32LikeTheHardware) {
  for (const FormatId id : {FormatId::e4m3, FormatId::e5m2})
    for (const Overflow overflow : {Overflow::saturate, Overflow::nonfinite}) {
      const Differences d = encode_against_hardware(id, overflow);
      EXPECT_EQ(d.count, 0u) << name_of(id) << " overflow " << int(overflow) << ": first 0x" << std::hex << d.first;
    }
}

TEST_F(Sweep, EveryFp32Branchless) {
  for (const FormatId id : {FormatId::e2m1, FormatId::e4m3, FormatId::e5m2}) {
    const Differences d = branchless_against_encode(id);
    EXPECT_EQ(d.count, 0u) << name_of(id) << ": first 0x" << std::hex << d.first;
  }
}

TEST_F(Sweep, EveryFp32PackedE2m1) {
  for (const bool stochastic : {false, true}) {
    const Differences d = packed_e2m1_against_encode(stochastic);
    EXPECT_EQ(d.count, 0u) << (stochastic ? "stochastic" : "nearest") << ": first 0x" << std::hex << d.first;
  }
}

TEST_F(Sweep, ScaleRules) {
  std::vector<std::uint32_t> amax = {0,          1,          2,          0x007fffff, 0x00800000,
                                     0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff};
  for (std::uint64_t bits = 0; bits < 0x80000000u; bits += 1021) amax.push_back(static_cast<std::uint32_t>(bits));
  std::size_t checked = 0;
  const auto check = [&](const QuantizerSpec& spec, std::uint32_t tensor_amax) {
    const TensorScale tensor = tensor_scale(spec, tensor_amax);
    const std::vector<TileScale> device = tile_scales_on_device(spec, tensor, amax);
    for (std::size_t i = 0; i < amax.size(); ++i) {
      const TileScale host = tile_scale(spec, amax[i], tensor);
      const bool nan = std::isnan(host.encode) && std::isnan(device[i].encode);
      ASSERT_TRUE(host.code == device[i].code && host.poisoned == device[i].poisoned &&
                  (nan || bits_of(host.encode) == bits_of(device[i].encode)))
          << name_of(spec.element_id) << " rule " << int(spec.rule) << " amax 0x" << std::hex << amax[i] << " host 0x"
          << host.code << " device 0x" << device[i].code;
    }
    ++checked;
  };
  for (const FormatId id : {FormatId::e2m1, FormatId::e4m3, FormatId::e5m2, FormatId::e2m3, FormatId::int8}) {
    for (const ScaleRule rule : {ScaleRule::floor, ScaleRule::ceil, ScaleRule::even, ScaleRule::rceil})
      check(preset_literals::scaled(id, ScaleFormat::e8m0, rule, 1, 32), 0);
    for (const ScaleRule rule : {ScaleRule::absmax, ScaleRule::absmax_pow2, ScaleRule::msamp_pow2})
      check(preset_literals::scaled(id, ScaleFormat::f32, rule, 1, 128), 0);
  }
  for (const ScaleRule rule : {ScaleRule::te_v2_14, ScaleRule::te_v2_13, ScaleRule::nvfp4_paper,
                               ScaleRule::four_over_six, ScaleRule::ao_one_level, ScaleRule::ao_two_level})
    for (const std::uint32_t tensor_amax : {0u, 1u, 0x3f800000u, 0x40490fdbu, 0x7f7fffffu, 0x7f800000u, 0x7fc00000u})
      check(preset_literals::scaled(FormatId::e2m1, ScaleFormat::e4m3, rule, 1, 16), tensor_amax);
  EXPECT_EQ(checked, 35u + 42u);
}

TEST_F(Sweep, RandomDraws) {
  constexpr std::size_t kCount = 1 << 20;
  for (const int bits : {8, 16, 32})
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{12345}, (std::uint64_t{1} << 36) + 7}) {
      const RandomStream stream{0xdeadbeef, RandomPurpose::stochastic_rounding, 0x12345678, 99};
      const std::vector<std::uint32_t> device = draws_on_device(stream, first, kCount, bits);
      for (std::size_t i = 0; i < kCount; ++i)
        ASSERT_EQ(device[i], random_draw(stream, first + i, bits)) << bits << " bits, element " << first + i;
    }
}

// Infinities and NaN are left to the formula; of the values within the grid one in 2^15 may be in doubt.
TEST_F(Sweep, EstimatorTableAgainstTheFormula) {
  constexpr std::uint64_t kNan = 2 * (0x7fffffffull - 0x7f800000ull);
  for (const FormatId format : {FormatId::e2m1, FormatId::e4m3})
    for (const float k : {5.0f, 3.25f})
      for (const EstimatorMean mean : {EstimatorMean::as_published, EstimatorMean::normalized}) {
        const EstimatorSpec spec{EstimatorKind::differentiable, EstimatorBeyond::zero, mean, k, 3.0f};
        const TableDifferences d = table_against_estimator(format, spec);
        EXPECT_EQ(d.differences.count, 0u) << name_of(format) << ", k " << k << ", first 0x" << std::hex << d.differences.first;
        EXPECT_GE(d.in_doubt, kNan);
        EXPECT_LT(d.in_doubt, kNan + (1ull << 17)) << name_of(format) << ", k " << k;
      }
}

// NaN results are equal as NaN: their bits differ between machines and nothing reads them.
TEST_F(Sweep, ElementaryFunctions) {
  std::vector<std::uint64_t> floats;
  for (std::uint64_t bits = 0; bits < 1ull << 32; bits += 251) floats.push_back(bits);
  for (const Function f : {Function::exp2, Function::exp, Function::log, Function::sigmoid, Function::rsqrt}) {
    const std::vector<std::uint64_t> device = functions_on_device(f, floats);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      const std::uint64_t host = function_bits(f, floats[i]);
      const bool nan =
          is_nan_bits(static_cast<std::uint32_t>(host)) && is_nan_bits(static_cast<std::uint32_t>(device[i]));
      ASSERT_TRUE(nan || host == device[i]) << "function " << int(f) << " of 0x" << std::hex << floats[i] << ": host 0x"
                                            << host << " device 0x" << device[i];
    }
  }
  for (const Function f :
       {Function::exp_double, Function::log_double, Function::sine, Function::cosine, Function::normal}) {
    std::vector<std::uint64_t> in;
    for (std::uint64_t i = 0; i < 1 << 20; ++i) {
      const PhiloxBlock b = random_block(RandomStream{3, RandomPurpose::test_vectors, 4, 5}, i);
      const std::uint64_t word = static_cast<std::uint64_t>(b.word[1]) << 32 | b.word[0];
      const double unit = static_cast<double>(word >> 11) * 0x1p-53;
      double x = 0.0;
      if (f == Function::exp_double) x = (unit - 0.5) * 1400.0;
      if (f == Function::log_double) x = std::ldexp(1.0 + unit, static_cast<int>(b.word[2] % 2000u) - 1000);
      if (f == Function::sine || f == Function::cosine) x = (unit - 0.5) * 2e6;
      in.push_back(f == Function::normal ? word : __builtin_bit_cast(std::uint64_t, x));
    }
    const std::vector<std::uint64_t> device = functions_on_device(f, in);
    for (std::size_t i = 0; i < in.size(); ++i)
      ASSERT_EQ(function_bits(f, in[i]), device[i]) << "function " << int(f) << " of 0x" << std::hex << in[i];
  }
}

}  // namespace
}  // namespace ng_test
