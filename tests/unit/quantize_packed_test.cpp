// SPDX-License-Identifier: Apache-2.0
//
// Claim: packed scales equal tile_scale() for every finite amax, rule and element that has a packed form, and for
// tensor scales from the smallest to the largest amax. (Packed codes: numerics_vs_oracle and the exhaustive tests.)
// Alone: ctest -R unit_quantize_packed
#include <gtest/gtest.h>

#include <vector>

#include "narrowgauge/quantize/scale_span.hpp"

namespace {

using namespace ng;

template <ScaleRule kRule>
void expect_equal_scales(const QuantizerSpec& spec, const TensorScale& tensor) {
  ASSERT_TRUE(has_packed_scales(spec));
  std::uint64_t compared = 0;
  // Every amax whose low bits are a multiple of 8 (all roundings of the upper bits), in runs of eight around each.
  for (std::uint32_t base = 0; base < kInfinityBits; base += 4099 * 8) {
    std::uint32_t amax[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const std::uint32_t bits = base + static_cast<std::uint32_t>(i);
      amax[i] = bits < kInfinityBits ? bits : kLargestFiniteBits;
    }
    EightLanes::U lanes;
    load_lanes(amax, lanes);
    const EightScales packed = eight_scales<kRule>(spec, lanes, tensor);
    for (int i = 0; i < kLanes; ++i) {
      const TileScale one = tile_scale(spec, amax[i], tensor);
      ASSERT_EQ(packed.code[i], one.code) << "amax bits " << std::hex << amax[i];
      ASSERT_EQ(bits_of(packed.encode[i]), bits_of(one.encode)) << "amax bits " << std::hex << amax[i];
      ++compared;
    }
  }
  EXPECT_GT(compared, 500000u);
}

TEST(PackedScales, EqualTheScalarRule) {
  for (const NamedQuantizer& preset : quantizer_presets()) {
    QuantizerSpec spec = preset.spec;
    if (spec.scale_format == ScaleFormat::e8m0) {
      spec.rule = ScaleRule::floor;
      expect_equal_scales<ScaleRule::floor>(spec, {});
      spec.rule = ScaleRule::rceil;
      expect_equal_scales<ScaleRule::rceil>(spec, {});
    } else if (spec.scale_format == ScaleFormat::f32) {
      expect_equal_scales<ScaleRule::absmax>(spec, {});
      spec.amax_floor = 1e-4f;
      expect_equal_scales<ScaleRule::absmax>(spec, {});
    } else {
      for (const float amax : {0.0f, 1e-45f, 1e-38f, 1e-6f, 1.0f, 5.5f, 3e4f, 3e38f})
        expect_equal_scales<ScaleRule::te_v2_14>(spec, tensor_scale(spec, bits_of(amax)));
    }
  }
}

TEST(PackedScales, EveryExponentBoundary) {
  QuantizerSpec spec = quantizer_presets()[4].spec;
  for (const ScaleRule rule : {ScaleRule::floor, ScaleRule::rceil}) {
    spec.rule = rule;
    for (const FormatId id :
         {FormatId::e2m1, FormatId::e4m3, FormatId::e5m2, FormatId::e2m3, FormatId::e3m2, FormatId::int8}) {
      spec.element = format_of(id);
      spec.element_id = id;
      for (std::uint32_t exponent = 0; exponent < 255; ++exponent) {
        for (const std::uint32_t mantissa :
             {0x000000u, 0x000001u, 0x3fffffu, 0x400000u, 0x5ffff8u, 0x600000u, 0x7ffff8u}) {
          std::uint32_t amax[kLanes];
          for (std::uint32_t i = 0; i < kLanes; ++i)
            amax[i] = (exponent << 23 | mantissa) + (mantissa == 0x7ffff8u ? i : i & 1u);
          EightLanes::U lanes;
          load_lanes(amax, lanes);
          const EightScales packed = rule == ScaleRule::floor ? eight_scales<ScaleRule::floor>(spec, lanes, {})
                                                              : eight_scales<ScaleRule::rceil>(spec, lanes, {});
          for (int i = 0; i < kLanes; ++i) {
            const TileScale one = tile_scale(spec, amax[i], {});
            ASSERT_EQ(packed.code[i], one.code) << name_of(id) << " amax bits " << std::hex << amax[i];
            ASSERT_EQ(bits_of(packed.encode[i]), bits_of(one.encode));
          }
        }
      }
    }
  }
}

}  // namespace
