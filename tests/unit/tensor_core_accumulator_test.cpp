// SPDX-License-Identifier: Apache-2.0
//
// Claim: the accumulator machine does what its definition says where no golden vector looks: discriminating vectors of
// the literature, order inside a step, negation, special values, grids among the subnormals, and one row per key.
// Alone: bin/unit_tensor_core --gtest_filter='Accumulator.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"

namespace ng {
namespace {

constexpr auto kF32 = StepResult::fp32_toward_zero;
constexpr auto kF16 = StepResult::fp16_nearest_even;

float dot(const char* arithmetic, FormatId id, std::vector<float> a, std::vector<float> b, float c,
          StepResult result = kF32) {
  const AccumulatorRow* row = find_accumulator(arithmetic, id, id, result);
  EXPECT_NE(row, nullptr) << arithmetic;
  const int smallest = smallest_exponent(format_of(id));
  const StepOperands in{a.data(), b.data(), nullptr, nullptr, smallest, smallest, 0};
  return accumulate(row->spec, in, 0, static_cast<std::int64_t>(a.size()), c);
}

// MMA-Sim's vector that tells generations apart: c = 2^23, products -2^23, -1/2, -1/4, -1/8; exact -0.875.
TEST(Accumulator, GenerationsAnswerOneVectorDifferently) {
  const std::vector<float> a = {-8192.0f, -0.5f, -0.25f, -0.125f}, b = {1024.0f, 1.0f, 1.0f, 1.0f};
  const float c = 8388608.0f;
  EXPECT_EQ(dot("volta", FormatId::fp16, a, b, c), 0.0f);
  for (const char* name : {"turing", "ampere", "ada"}) EXPECT_EQ(dot(name, FormatId::fp16, a, b, c), -0.5f) << name;
  for (const char* name : {"hopper", "blackwell"}) EXPECT_EQ(dot(name, FormatId::fp16, a, b, c), -0.75f) << name;
  for (const char* name : {"ada", "hopper"}) EXPECT_EQ(dot(name, FormatId::e5m2, a, b, c), 0.0f) << name;
  EXPECT_EQ(dot("blackwell", FormatId::e5m2, a, b, c), -0.75f);
}

// The same vector's NVFP4 unit keeps everything; and products are not normalised before alignment: 12*24 and 18*16 are
// 288 both, but the first has the smaller exponent and so the finer grid.
TEST(Accumulator, ProductsAreNotNormalised) {
  std::vector<float> a(16, 0.0f), b(16, 0.0f);
  a[0] = 12.0f, b[0] = 24.0f, a[1] = 0.0078125f, b[1] = 0.00390625f;  // 2^-15
  const std::vector<float> coarse_a = [&] {
    auto x = a;
    x[0] = 18.0f;
    return x;
  }();
  const std::vector<float> coarse_b = [&] {
    auto x = b;
    x[0] = 16.0f;
    return x;
  }();
  EXPECT_EQ(bits_of(dot("hopper", FormatId::bf16, a, b, 0.0f)), 0x43900001u);
  EXPECT_EQ(bits_of(dot("ampere", FormatId::bf16, coarse_a, coarse_b, 0.0f)), 0x43900001u);
  a[1] = b[1] = 0.00390625f;  // 2^-16: below ampere's grid of either, above hopper's
  EXPECT_EQ(bits_of(dot("hopper", FormatId::bf16, a, b, 0.0f)), 0x43900000u);
}

// Three product exponents below the accumulator's last bit vanish in a step and survive in the next.
TEST(Accumulator, StepsAndInterleavingShowInWhatSurvives) {
  for (int q = 2; q < 64; ++q) {
    std::vector<float> a(64, 0.0f), b(64, 0.0f);
    a[0] = 16.0f, b[0] = 16.0f, a[1] = 16.0f, b[1] = -16.0f, a[static_cast<std::size_t>(q)] = 0.125f,
    b[static_cast<std::size_t>(q)] = 0.125f;
    const float small = 0.015625f;  // 2^-6
    EXPECT_EQ(dot("hopper", FormatId::e4m3, a, b, 0.0f), q < 32 ? 0.0f : small) << q;
    EXPECT_EQ(dot("ada", FormatId::e4m3, a, b, 0.0f), q < 16 ? 0.0f : small) << q;
    EXPECT_EQ(dot("blackwell", FormatId::e4m3, a, b, 0.0f), small) << q;
    a[0] = a[1] = 256.0f, b[0] = 256.0f, b[1] = -256.0f, a[static_cast<std::size_t>(q)] = 0.015625f,
    b[static_cast<std::size_t>(q)] = 0.015625f;  // 2^16 against 2^-12
    const bool same_step = q < 32 && q % 4 < 2;
    EXPECT_EQ(dot("hopper_mma_fp8", FormatId::e5m2, a, b, 0.0f), same_step ? 0.0f : 0.000244140625f) << q;
  }
}

TEST(Accumulator, AStepHasNoOrderAndCommutesWithNegation) {
  std::mt19937 random(5);
  for (const AccumulatorRow& row : accumulator_catalog()) {
    if (row.spec.scales != StepScales::none || row.spec.order != StepOrder::consecutive) continue;
    const bool wide = row.types == OperandTypes::bf16 || row.types == OperandTypes::tf32;
    for (int trial = 0; trial < 200; ++trial) {
      const auto terms = static_cast<std::size_t>(row.spec.terms);
      std::vector<float> a(terms), b(terms);
      const auto draw = [&](int spread) {
        return static_cast<float>(static_cast<int>(random() % 15) - 7) *
               power_of_two(static_cast<int>(random() % static_cast<unsigned>(spread)) - spread / 2);
      };
      for (auto& x : a) x = draw(wide ? 40 : 6);
      for (auto& x : b) x = draw(wide ? 40 : 6);
      const float c = draw(8);
      const int smallest = wide ? -126 : -6;
      const auto run = [&](float from) {
        const StepOperands in{a.data(), b.data(), nullptr, nullptr, smallest, smallest, 0};
        return accumulate(row.spec, in, 0, row.spec.terms, from);
      };
      const float d = run(c);
      for (auto& x : a) x = -x;
      const float minus_d = run(-c);
      EXPECT_EQ(magnitude_bits(d), magnitude_bits(minus_d)) << row.arithmetic;
      EXPECT_TRUE(d == 0.0f || d == -minus_d) << row.arithmetic;
      for (auto& x : a) x = -x;
      for (std::size_t i = terms; i > 1; --i) {
        const std::size_t j = random() % i;
        std::swap(a[i - 1], a[j]);
        std::swap(b[i - 1], b[j]);
      }
      EXPECT_EQ(bits_of(run(c)), bits_of(d)) << row.arithmetic;
    }
  }
}

TEST(Accumulator, SpecialValuesFollowThePublicModels) {
  const float inf = float_of(kInfinityBits), nan = float_of(kQuietNanBits | kSignBit);
  for (const char* name : {"volta", "ampere", "hopper", "blackwell"}) {
    const auto d = [&](std::vector<float> a, std::vector<float> b, float c, StepResult r = kF32) {
      return bits_of(dot(name, FormatId::fp16, std::move(a), std::move(b), c, r));
    };
    for (const StepResult r : {kF32, kF16}) {
      EXPECT_EQ(d({nan, 1}, {1, 1}, 0, r), kTensorCoreNanBits);
      EXPECT_EQ(d({1, 1}, {1, 1}, nan, r), kTensorCoreNanBits);
      EXPECT_EQ(d({inf, 1}, {0, 1}, 0, r), kTensorCoreNanBits);
      EXPECT_EQ(d({inf, inf}, {1, -1}, 0, r), kTensorCoreNanBits);
      EXPECT_EQ(d({inf, 1}, {1, 1}, -inf, r), kTensorCoreNanBits);
      EXPECT_EQ(d({-inf, 1}, {1, 1}, 5, r), kInfinityBits | kSignBit);
      EXPECT_EQ(d({1, 1}, {1, 1}, inf, r), kInfinityBits);
      EXPECT_EQ(d({-0.0f, 0}, {1, 1}, -0.0f, r), 0u);
      EXPECT_EQ(d({1, -1}, {1, 1}, 0, r), 0u);
    }
    EXPECT_EQ(d({65504, 65504}, {1, 1}, 0, kF16), kInfinityBits);
    EXPECT_EQ(d({60000, 0}, {1, 1}, 5519, kF16), bits_of(65504.0f));  // 65519 rounds down
    EXPECT_EQ(d({60000, 0}, {1, 1}, 5520, kF16), kInfinityBits) << name;
  }
  const std::vector<float> big(16, 3.0e38f), two(16, 2.0f);
  EXPECT_EQ(bits_of(dot("hopper", FormatId::bf16, big, two, 0.0f)), kInfinityBits);
}

TEST(Accumulator, ResultsAmongTheSubnormalsKeepTheirGrid) {
  const float least = power_of_two(-149);
  EXPECT_EQ(dot("hopper", FormatId::bf16, {power_of_two(-100), 0}, {power_of_two(-49), 0}, 0.0f), least);
  EXPECT_EQ(dot("hopper", FormatId::bf16, {power_of_two(-100), 0}, {1.5f * power_of_two(-49), 0}, 0.0f), least);
  EXPECT_EQ(dot("hopper", FormatId::bf16, {0, 0}, {1, 1}, 3.0f * least), 3.0f * least);
  EXPECT_EQ(rounded_to_fp16(power_of_two(-25)), 0.0f);  // a tie, to even
  EXPECT_EQ(rounded_to_fp16(1.5f * power_of_two(-25)), power_of_two(-24));
  EXPECT_EQ(rounded_to_fp16(3.0f * power_of_two(-25)), power_of_two(-23));
}

// zero_exponent, as the public models have it: an FP16 accumulator of the `volta` kind drops what is below its grid.
TEST(Accumulator, ZerosCountWithTheirExponent) {
  const std::vector<float> a = {power_of_two(-14), power_of_two(-24), 0, 0};
  const std::vector<float> b = {power_of_two(-11), power_of_two(-24), 1, 1};
  EXPECT_EQ(dot("ampere", FormatId::fp16, a, b, 0.0f, kF16), 0.0f);  // 2^-25 + 2^-48 with a grid of 2^-45: a tie
  AccumulatorSpec low = find_accumulator("ampere", FormatId::fp16, FormatId::fp16, kF16)->spec;
  low.zero_exponent = -29;
  const StepOperands in{a.data(), b.data(), nullptr, nullptr, -14, -14, 0};
  EXPECT_EQ(accumulate(low, in, 0, 4, 0.0f), power_of_two(-24));
}

TEST(Accumulator, EveryKeyHasOneRow) {
  for (std::size_t i = 0; i < kAccumulatorRows; ++i) {
    const AccumulatorRow& row = accumulator_catalog()[i];
    EXPECT_EQ(row.spec.instruction_k % row.spec.terms, 0) << i;
    for (std::size_t j = 0; j < i; ++j) {
      const AccumulatorRow& other = accumulator_catalog()[j];
      EXPECT_FALSE(row.chip == other.chip && row.instructions == other.instructions && row.types == other.types &&
                   row.spec.result == other.spec.result)
          << i << " " << j;
    }
  }
  EXPECT_EQ(find_accumulator("volta", FormatId::bf16, FormatId::bf16, kF32), nullptr);
  EXPECT_EQ(find_accumulator("hopper_mma", FormatId::e4m3, FormatId::e4m3, kF32), nullptr);
  EXPECT_EQ(find_accumulator("hopper", FormatId::e2m1, FormatId::e2m1, kF32), nullptr);
}

}  // namespace
}  // namespace ng
