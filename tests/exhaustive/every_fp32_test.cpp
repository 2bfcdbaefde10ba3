// SPDX-License-Identifier: Apache-2.0
//
// Claim: all 2^32 FP32 inputs are encoded to E2M1, E4M3 and E5M2 (and FP6) as CUDA's host conversions encode them, NaN
// codes, overflow and infinities included. About a minute per conversion on one core; not run by default.
// Alone: ctest -L exhaustive
#include <gtest/gtest.h>

#include <string>

#include "cuda_casts.hpp"

namespace ng_test {
namespace {

class EveryFp32 : public testing::TestWithParam<std::size_t> {};

TEST_P(EveryFp32, LikeCuda) {
  if (cuda_casts().empty()) GTEST_SKIP() << "the CUDA toolkit's headers were not found when this was configured";
  const CudaCast& cast = cuda_casts().at(GetParam());
  EXPECT_EQ(differences(cast, 0, 0xFFFFFFFFU), 0u) << cast.name;
}

INSTANTIATE_TEST_SUITE_P(Exhaustive, EveryFp32, testing::Range<std::size_t>(0, 8));

}  // namespace
}  // namespace ng_test
