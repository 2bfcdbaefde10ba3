// SPDX-License-Identifier: Apache-2.0
//
// Claim: the exact product is the correctly rounded one: equal to 128-bit integer sums where those suffice, to
// constructed answers where only thousands of bits do (cancellation over the whole range, ties, subnormals, overflow),
// and it follows IEEE 754 for special values. Alone: bin/unit_tensor_core --gtest_filter='ExactMatmul.*'
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "narrowgauge/backend_cpu/tensor_core_matmul.hpp"

namespace ng::cpu {
namespace {

float exact(const std::vector<float>& a, const std::vector<float>& b, ProductOutput output = ProductOutput::f32,
            ScaleMode mode = ScaleMode::none, ProductScales scales = {}) {
  const auto k = static_cast<std::int64_t>(a.size());
  float out = -1.0f;
  exact_matmul(mode, output, {a.data(), 1, k, FormatId::fp32}, {b.data(), 1, k, FormatId::fp32}, scales, {k}, &out, 1);
  return out;
}

__extension__ typedef __int128 Int128;

/// sum * 2^exponent to FP32, nearest even, by counting: no rounding but the last.
float rounded(Int128 sum, int exponent) {
  const bool minus = sum < 0;
  if (minus) sum = -sum;
  int drop = 0;
  while ((sum >> drop) >= (Int128{1} << 24)) ++drop;
  Int128 kept = sum >> drop;
  const Int128 rest = sum - (kept << drop), half = drop > 0 ? Int128{1} << (drop - 1) : 0;
  if (drop > 0 && (rest > half || (rest == half && (kept & 1) != 0))) ++kept;
  const float value = static_cast<float>(std::ldexp(static_cast<double>(kept), drop + exponent));
  return minus ? -value : value;
}

TEST(ExactMatmul, EqualsIntegerSums) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 3000; ++trial) {
    std::vector<float> a, b;
    Int128 sum = 0;
    for (int k = 0; k < 40; ++k) {
      const auto x = static_cast<std::int32_t>(random() & 0xffffff) - 0x800000;
      const auto y = static_cast<std::int32_t>(random() & 0xffffff) - 0x800000;
      const int ex = static_cast<int>(random() % 30), ey = static_cast<int>(random() % 30);
      a.push_back(std::ldexp(static_cast<float>(x), ex));
      b.push_back(std::ldexp(static_cast<float>(y), ey));
      sum += static_cast<Int128>(x) * y * (Int128{1} << (ex + ey));
      if (trial % 3 == 0 && k > 0) {  // nearly cancel
        a.push_back(-a[a.size() - 1]);
        b.push_back(b[b.size() - 1]);
        sum -= static_cast<Int128>(x) * y * (Int128{1} << (ex + ey));
      }
    }
    ASSERT_EQ(bits_of(exact(a, b)), bits_of(rounded(sum, 0))) << trial;
  }
}

TEST(ExactMatmul, ScalesAreExactFactors) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 500; ++trial) {
    const std::int64_t k = 300;
    std::vector<float> a, b, sa, sb;
    for (int i = 0; i < 3; ++i) {
      sa.push_back(static_cast<float>(1 + random() % 0xffff));
      sb.push_back(static_cast<float>(1 + random() % 0xffff) * (random() % 2 != 0 ? 1.0f : -1.0f));
    }
    Int128 blocks = 0, whole = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      const int x = static_cast<int>(random() % 511) - 255, y = static_cast<int>(random() % 511) - 255;
      a.push_back(static_cast<float>(x));
      b.push_back(static_cast<float>(y));
      const auto at = static_cast<std::size_t>(i / 128);
      blocks += static_cast<Int128>(x * y) * static_cast<Int128>(sa[at]) * static_cast<Int128>(sb[at]);
      whole += static_cast<Int128>(x * y) * static_cast<Int128>(sa[0]) * static_cast<Int128>(sb[0]);
    }
    const ProductScales scales{sa.data(), 3, sb.data(), 3, 1};
    for (const ScaleMode mode : {ScaleMode::block_1x128, ScaleMode::block_128x128})
      ASSERT_EQ(bits_of(exact(a, b, ProductOutput::f32, mode, scales)), bits_of(rounded(blocks, 0))) << trial;
    for (const ScaleMode mode : {ScaleMode::tensor, ScaleMode::outer})
      ASSERT_EQ(bits_of(exact(a, b, ProductOutput::f32, mode, scales)), bits_of(rounded(whole, 0))) << trial;
  }
}

TEST(ExactMatmul, TheWholeRangeCancels) {
  const float huge = kLargestFinite, tiny = power_of_two(-149);
  EXPECT_EQ(exact({huge, tiny, -huge}, {huge, 1, huge}), tiny);
  EXPECT_EQ(exact({huge, tiny, -huge}, {huge, tiny, huge}), 0.0f);              // 2^-298: rounds to zero
  EXPECT_EQ(exact({huge, tiny, tiny, -huge}, {huge, 0.5f, tiny, huge}), tiny);  // just above half of the least
  EXPECT_EQ(exact({tiny, 0}, {0.5f, 0}), 0.0f);                                 // the tie, to even
  EXPECT_EQ(exact({tiny, tiny}, {1.0f, 0.5f}), 2.0f * tiny);
  EXPECT_EQ(bits_of(exact({1, power_of_two(-24), tiny}, {1, 1, tiny})), bits_of(1.0f) + 1);  // above a tie
  EXPECT_EQ(exact({1, power_of_two(-24), tiny}, {1, 1, -tiny}), 1.0f);                       // below it
  EXPECT_EQ(exact({1, power_of_two(-24)}, {1, 1}), 1.0f);                                    // the tie
  EXPECT_EQ(bits_of(exact({1, power_of_two(-9), power_of_two(-8)}, {1, 1, 0}, ProductOutput::bf16)), 0x3f800000u);
  // Rounded once: through FP32 this would be the tie 1 + 2^-8 and go to even, 1.
  EXPECT_EQ(bits_of(exact({1, power_of_two(-8), power_of_two(-30)}, {1, 1, 1}, ProductOutput::bf16)), 0x3f810000u);
  EXPECT_EQ(exact({1, power_of_two(-11), power_of_two(-40)}, {1, 1, 1}, ProductOutput::f16), 1.0f + power_of_two(-10));
  EXPECT_EQ(exact({power_of_two(-25), power_of_two(-60)}, {1, 1}, ProductOutput::f16), power_of_two(-24));
  EXPECT_EQ(exact({power_of_two(-25)}, {1}, ProductOutput::f16), 0.0f);
  EXPECT_EQ(exact({65504, 16, power_of_two(-40)}, {1, 1, -1}, ProductOutput::f16), 65504.0f);
  EXPECT_EQ(bits_of(exact({65504, 16}, {1, 1}, ProductOutput::f16)), kInfinityBits);
  EXPECT_EQ(bits_of(exact({huge, power_of_two(103)}, {1, 1})), kInfinityBits);  // the tie above the largest
  EXPECT_EQ(exact({huge, power_of_two(103), tiny}, {1, 1, -tiny}), huge);
  const float least_scale = tiny;
  const ProductScales scales{&least_scale, 0, &huge, 0, 1};
  EXPECT_EQ(exact({huge, -huge, tiny}, {huge, huge, power_of_two(100)}, ProductOutput::f32, ScaleMode::tensor, scales),
            huge * power_of_two(-99) * power_of_two(-99));
}

TEST(ExactMatmul, SpecialValues) {
  const float inf = float_of(kInfinityBits), nan = float_of(kQuietNanBits);
  EXPECT_EQ(bits_of(exact({inf, 1}, {1, 1})), kInfinityBits);
  EXPECT_EQ(bits_of(exact({inf, inf}, {1, -1})), kTensorCoreNanBits);
  EXPECT_EQ(bits_of(exact({inf, 1}, {0, 1})), kTensorCoreNanBits);
  EXPECT_EQ(bits_of(exact({nan, 1}, {0, 1})), kTensorCoreNanBits);
  EXPECT_EQ(bits_of(exact({nan, 1}, {0, 1}, ProductOutput::bf16)), 0x7fff0000u);
  EXPECT_EQ(bits_of(exact({-0.0f}, {1})), 0u);
  EXPECT_EQ(bits_of(exact({}, {})), 0u);
  const float zero = 0.0f, one = -1.0f;
  EXPECT_EQ(bits_of(exact({inf}, {1}, ProductOutput::f32, ScaleMode::tensor, {&zero, 0, &one, 0, 1})),
            kTensorCoreNanBits);
  EXPECT_EQ(bits_of(exact({2}, {1}, ProductOutput::f32, ScaleMode::tensor, {&zero, 0, &one, 0, 1})), 0u);
  EXPECT_EQ(bits_of(exact({inf}, {1}, ProductOutput::f32, ScaleMode::tensor, {&one, 0, &one, 0, 1})), kInfinityBits);
  EXPECT_EQ(exact({3}, {2}, ProductOutput::f32, ScaleMode::outer, {&one, 0, &one, 0, 1}), 6.0f);
}

}  // namespace
}  // namespace ng::cpu
