// SPDX-License-Identifier: Apache-2.0
//
// Claim: every BF16 and every FP16 number is encoded as CUDA's host conversions and as the oracle encode it.
// Alone: ctest -R every_16_bit_value
#include <gtest/gtest.h>

#include "cuda_casts.hpp"
#include "narrowgauge/numerics/bits.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "oracle/formats.hpp"

namespace ng_test {
namespace {

TEST(EveryBf16, LikeCuda) {
  if (cuda_casts().empty()) GTEST_SKIP() << "the CUDA toolkit's headers were not found when this was configured";
  for (const CudaCast& cast : cuda_casts()) EXPECT_EQ(differences(cast, 0, 0xFFFF0000U, 0x10000), 0u) << cast.name;
}

TEST(EveryFp16, LikeCuda) {
  if (cuda_casts().empty()) GTEST_SKIP() << "the CUDA toolkit's headers were not found when this was configured";
  const ng::ElementFormat fp16 = ng::format_of(ng::FormatId::fp16);
  for (const CudaCast& cast : cuda_casts()) {
    std::uint64_t found = 0;
    for (std::uint32_t code = 0; code < 65536; ++code) {
      const std::uint32_t bits = ng::bits_of(ng::decode(fp16, code));
      found += differences(cast, bits, bits);
    }
    EXPECT_EQ(found, 0u) << cast.name;
  }
}

TEST(EveryFp16, LikeTheOracle) {
  const ng::ElementFormat fp16 = ng::format_of(ng::FormatId::fp16);
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (f.id == ng::FormatId::fp32) continue;
    const ng_oracle::Format& o = ng_oracle::format(f.name);
    for (const bool saturate : {true, false}) {
      ng::CastChoices choices;
      ng_oracle::EncodeChoices expected_choices;
      choices.overflow = saturate ? ng::Overflow::saturate : ng::Overflow::nonfinite;
      expected_choices.overflow = saturate ? ng_oracle::Overflow::saturate : ng_oracle::Overflow::nonfinite;
      choices.nan = o.has_nan ? ng::NanChoice::quiet : ng::NanChoice::largest;
      expected_choices.nan = o.has_nan ? ng_oracle::NanRule::quiet : ng_oracle::NanRule::largest;
      for (std::uint32_t code = 0; code < 65536; ++code) {
        const float x = ng::decode(fp16, code);
        const std::uint32_t got =
            f.id == ng::FormatId::e8m0 ? ng::cast_to_e8m0(x) : ng::encode(f.format, choices, x);
        ASSERT_EQ(got, ng_oracle::encode(o, x, expected_choices).value())
            << f.name << " input " << std::hexfloat << x << (saturate ? " saturate" : " nonfinite");
      }
    }
  }
}

}  // namespace
}  // namespace ng_test
