// SPDX-License-Identifier: Apache-2.0
//
// Claim: random products of an H100 (driver 580.159.04, cuBLASLt 13.1.0) that public models get wrong are right here:
// what the probes of h100_special.h5 do not reach. Alone: ctest -R h100_corrections
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "narrowgauge/numerics/accumulator_catalog.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/tensor_core_product.hpp"

namespace ng {
namespace {

/// Two chained mma.sync.m16n8k32: 64 codes of each operand in hexadecimal, from c to d.
struct Chain {
  FormatId a_format, b_format;
  std::uint32_t c, d;
  std::string a, b;
};

std::vector<float> values_of(FormatId id, const std::string& codes) {
  std::vector<float> values;
  for (std::size_t i = 0; i < codes.size(); i += 2)
    values.push_back(decode(format_of(id), static_cast<std::uint32_t>(std::stoul(codes.substr(i, 2), nullptr, 16))));
  return values;
}

// FP8 through mma.sync is FP16 by the time it is multiplied: subnormals of E4M3 align with FP16's exponents.
TEST(H100Corrections, SubnormalsOfE4m3ThroughFp16) {
  const Chain chains[] = {
      {FormatId::e4m3, FormatId::e5m2, 0xc133923eu, 0x44aa98dau,
       "0306010081048086000000048001870386858080000402868503050387860603"
       "0381860503850600020706838102018680030782830086020287868687818186",
       "f77bf676888b807a7505f87783f77afb82f4097af47b84f47afb828279087904"
       "81faf500f60975827480048af48301fa790274f507faf674860981fb09070183"},
      {FormatId::e4m3, FormatId::e5m2, 0xc01f5ee0u, 0x43e6c140u,
       "8601050300010706048182840300010582030086820785068386038702830483"
       "0186838087078684030702078382800783838301030007040384018502050200",
       "79870275760b7785f8f58a09f87784018386fa87760876767706760a017487fb"
       "050b02838205fb848389f88309010109800476760288838a7707f7f47403f77a"},
      {FormatId::e5m2, FormatId::e4m3, 0x00000000u, 0x43880004u,
       "f700f804887888f803f9f6008b0a7bf90188788708f57784880774830a8b0179"
       "76848a83808a05fa79767af682888a83818a8887fa8581837af40777f6848bf4",
       "8006048305800604018082830002870505868084030106020081868501830081"
       "0700810681078083030103850001040586050183808003870080800502038087"},
      {FormatId::e5m2, FormatId::e4m3, 0x4138fd22u, 0x448171fbu,
       "88028206f674880504747b8005f5f801050b78fb0575017701007a00747477f7"
       "040378f68283f40506f474fa84f47a048b8302f7837675848b85898bf4048677",
       "0207858282078000000103028403060207060686068284878580060401868302"
       "8485008605808104830285038381038485000102078383838280848481838706"},
  };
  for (const Chain& chain : chains) {
    const AccumulatorRow* row =
        find_accumulator("hopper_mma_fp8", chain.a_format, chain.b_format, StepResult::fp32_toward_zero);
    ASSERT_NE(row, nullptr);
    const std::vector<float> a = values_of(chain.a_format, chain.a), b = values_of(chain.b_format, chain.b);
    ASSERT_EQ(a.size(), 64u);
    ASSERT_EQ(b.size(), 64u);
    const StepOperands in{a.data(),
                          b.data(),
                          nullptr,
                          nullptr,
                          smallest_exponent(format_of(chain.a_format)),
                          smallest_exponent(format_of(chain.b_format)),
                          0};
    EXPECT_EQ(bits_of(accumulate(row->spec, in, 0, 64, float_of(chain.c))), chain.d) << std::hex << chain.c;
  }
}

// Per-tensor scales whose product is zero: all of 1,208,023 such results came out as +0, also the 603,914 for which a
// plain product gives -0. With scales of rows and columns zeros kept their signs.
TEST(H100Corrections, TensorScalesThatMultiplyToZero) {
  const float tiny = 0x1p-120f, minus_tiny = -0x1p-120f;
  for (const float sum : {1.5f, -1.5f, 0.0f}) {
    EXPECT_EQ(bits_of(scaled_result(ScaleMode::tensor, sum, {&tiny, &tiny})), 0u) << sum;
    EXPECT_EQ(bits_of(scaled_result(ScaleMode::tensor, sum, {&tiny, &minus_tiny})), 0u) << sum;
  }
  EXPECT_EQ(bits_of(scaled_result(ScaleMode::outer, -1.5f, {&tiny, &tiny})), kSignBit);
}

}  // namespace
}  // namespace ng
