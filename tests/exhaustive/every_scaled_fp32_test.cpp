// SPDX-License-Identifier: Apache-2.0
//
// Claim: the row kernels of the CPU backend give every one of the 2^32 FP32 inputs the code that encode() gives it, for
// each format and rounding that has a packed form and both signs of zero, one code a byte and two. About a minute and
// a half per case on one core; not run by default (a sample is: unit_quantize_kernels).
// Alone: ctest -L exhaustive -R every_scaled_fp32
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "unit/quantize_kernels.hpp"

namespace ng_test {
namespace {

class EveryScaledFp32 : public testing::TestWithParam<std::tuple<ng::FormatId, PackedRounding>> {};

TEST_P(EveryScaledFp32, LikeEncode) {
  const auto& [id, rounding] = GetParam();
  for (const ng::ZeroSign zero_sign : {ng::ZeroSign::keep, ng::ZeroSign::exact_positive})
    EXPECT_EQ(row_differences(ng::cpu::cpu_kernels(false), id, rounding, zero_sign, 1), 0u);
}

INSTANTIATE_TEST_SUITE_P(Exhaustive, EveryScaledFp32,
                         testing::Combine(testing::ValuesIn(kPackedFormats), testing::ValuesIn(kPackedRoundings)),
                         [](const auto& one) {
                           return std::string(ng::name_of(std::get<0>(one.param))) + "_" + std::get<1>(one.param).name;
                         });

}  // namespace
}  // namespace ng_test
