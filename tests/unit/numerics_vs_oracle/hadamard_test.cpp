// SPDX-License-Identifier: Apache-2.0
//
// Claim: the Hadamard transform of every size, sign choice, order of summation and result type gives the oracle's bits;
// it cancels exactly on small integers where 1/sqrt(n) is exact.
// Alone: ctest -R numerics_vs_oracle.Hadamard
#include <gtest/gtest.h>

#include "choices.hpp"
#include "narrowgauge/numerics/hadamard.hpp"
#include "oracle/transforms.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;

constexpr std::uint32_t kSeed = 20;

std::vector<float> transform(const ng::HadamardSpec& spec, std::vector<float> x) {
  const ng::HadamardSignMask mask = ng::hadamard_sign_mask(spec, kSeed);
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(spec.size)) {
    ng::hadamard_transform(spec, mask, x.data() + at);
  }
  return x;
}

std::vector<float> inputs(std::size_t count) {
  std::mt19937 engine(5);
  std::normal_distribution<float> normal;
  std::vector<float> x;
  for (std::size_t i = 0; i < count; ++i) {
    const int kind = static_cast<int>(i / 512 % 6);
    float v = normal(engine);
    if (kind == 1) v *= std::ldexp(1.0F, static_cast<int>(engine() % 40) - 20);
    if (kind == 2) v *= 0x1p-132F;  // subnormal sums
    if (kind == 3) v = (engine() % 2 == 0) ? 0.0F : -0.0F;
    if (kind == 4) v *= 0x1p125F;  // sums near overflow
    if (kind == 5) v = static_cast<float>(static_cast<int>(engine() % 257) - 128);
    x.push_back(v);
  }
  return x;
}

TEST(Hadamard, EverySizeOrderSignAndResult) {
  const std::vector<float> x = inputs(6144);
  for (std::size_t n = 2; n <= 128; n *= 2) {
    for (const auto signs :
         {ng_oracle::HadamardSigns::none, ng_oracle::HadamardSigns::te_fixed, ng_oracle::HadamardSigns::seeded}) {
      if (signs == ng_oracle::HadamardSigns::te_fixed && n != 16) continue;
      for (const bool serial : {false, true}) {
        for (const bool bf16 : {false, true}) {
          ng::HadamardSpec spec;
          spec.size = static_cast<std::int16_t>(n);
          spec.signs = static_cast<ng::HadamardSigns>(static_cast<int>(signs));
          spec.order = serial ? ng::HadamardOrder::serial : ng::HadamardOrder::butterfly;
          spec.result = bf16 ? ng::HadamardResult::bf16 : ng::HadamardResult::f32;
          const auto got = transform(spec, x);
          const auto expected = ng_oracle::hadamard(
              x, 1, x.size(), n, signs, serial ? ng_oracle::HadamardOrder::serial : ng_oracle::HadamardOrder::butterfly,
              bf16 ? ng_oracle::HadamardResult::bf16 : ng_oracle::HadamardResult::f32, kSeed);
          for (std::size_t i = 0; i < x.size(); ++i) {
            if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
            ASSERT_EQ(bits_of(got[i]), bits_of(expected[i]))
                << "n " << n << (serial ? " serial" : " butterfly") << (bf16 ? " bf16" : " f32") << " element " << i
                << " input " << std::hexfloat << x[i] << " got " << got[i] << " expected " << expected[i];
          }
        }
      }
    }
  }
}

TEST(Hadamard, CancelsInAProductOfIntegers) {
  // n = 16 and 64: 1/sqrt(n) is a power of two, sums of integers up to 128 are exact in FP32, so is every product.
  for (const int n : {4, 16, 64}) {
    ng::HadamardSpec spec;
    spec.size = static_cast<std::int16_t>(n);
    spec.signs = n == 16 ? ng::HadamardSigns::te_fixed : ng::HadamardSigns::none;
    spec.result = ng::HadamardResult::f32;
    std::mt19937 engine(9);
    std::vector<float> a, b;
    for (int k = 0; k < 128; ++k) {
      a.push_back(static_cast<float>(static_cast<int>(engine() % 33) - 16));
      b.push_back(static_cast<float>(static_cast<int>(engine() % 33) - 16));
    }
    double plain = 0, rotated = 0;
    const auto ra = transform(spec, a), rb = transform(spec, b);
    for (std::size_t k = 0; k < a.size(); ++k) {
      plain += static_cast<double>(a[k]) * static_cast<double>(b[k]);
      rotated += static_cast<double>(ra[k]) * static_cast<double>(rb[k]);
    }
    EXPECT_EQ(plain, rotated) << "n " << n;
  }
}

}  // namespace
}  // namespace ng_test
