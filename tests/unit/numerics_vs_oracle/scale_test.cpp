// SPDX-License-Identifier: Apache-2.0
//
// Claim: the scale of a tile is the oracle's for every E8M0 rule, element and amax (all BF16 magnitudes; powers of two
// and multiples of M with their FP32 neighbours; subnormals; infinity; NaN), for the FP32 rules, and for every NVFP4
// rule over a grid of tensor and tile amaxes. Alone: ctest -R numerics_vs_oracle.Scale
#include <gtest/gtest.h>

#include "choices.hpp"
#include "narrowgauge/numerics/scale_rule.hpp"
#include "oracle/blocks.hpp"

namespace ng_test {
namespace {

using ng_oracle::bits_of;

const char* const kElements[] = {"e2m1", "e2m3", "e3m2", "e4m3", "e5m2", "int8", "e1m2", "e3m0", "e5m6", "e3m4"};

ng::FormatId id_of(const std::string& name) {
  for (const ng::NamedFormat& f : ng::format_catalog()) {
    if (name == f.name) return f.id;
  }
  throw std::out_of_range(name);
}

std::vector<float> amaxes(const ng_oracle::Format& element) {
  std::vector<float> all;
  for (std::uint32_t i = 0; i <= 0x7F80; ++i) all.push_back(ng_oracle::float_of(i << 16));
  for (int e = -149; e <= 127; ++e) {
    for (const double factor : {1.0, 1.5, 1.75, 1.875, 1.9375, 1.96875, element.largest, element.beyond,
                                (element.largest + element.beyond) / 2}) {
      const double value = std::ldexp(factor, e);
      if (value < 3.5e38) push_around(all, value);
    }
  }
  for (const float x : random_bits_inputs(2000, 4)) all.push_back(x);
  all.push_back(std::numeric_limits<float>::max());
  all.push_back(std::numeric_limits<float>::infinity());
  all.push_back(std::nanf(""));
  for (float& x : all) x = std::fabs(x);
  return all;
}

ng::QuantizerSpec program_spec(const std::string& element, ng::ScaleFormat format, ng::ScaleRule rule) {
  ng::QuantizerSpec spec = ng::bare_cast(id_of(element));
  spec.scale_format = format;
  spec.rule = rule;
  return spec;
}

TEST(Scale, E8m0RulesForEveryAmax) {
  const std::pair<ng::ScaleRule, ng_oracle::ScaleRule> rules[] = {{ng::ScaleRule::floor, ng_oracle::ScaleRule::floor},
                                                                  {ng::ScaleRule::ceil, ng_oracle::ScaleRule::ceil},
                                                                  {ng::ScaleRule::even, ng_oracle::ScaleRule::even},
                                                                  {ng::ScaleRule::rceil, ng_oracle::ScaleRule::rceil}};
  for (const char* element : kElements) {
    const ng_oracle::Format& o = ng_oracle::format(element);
    for (const auto& [ours, oracles] : rules) {
      const ng::QuantizerSpec spec = program_spec(element, ng::ScaleFormat::e8m0, ours);
      for (const float amax : amaxes(o)) {
        const ng::TileScale got = ng::tile_scale(spec, bits_of(amax), {});
        const std::uint32_t expected = ng_oracle::e8m0_scale(oracles, o, amax);
        ASSERT_EQ(got.code, expected) << element << " rule " << static_cast<int>(ours) << " amax " << std::hexfloat
                                      << amax;
        ASSERT_EQ(got.poisoned, expected == 0xFF);
        if (expected != 0xFF) {
          ASSERT_EQ(static_cast<double>(got.decode), std::ldexp(1.0, static_cast<int>(expected) - 127));
        }
      }
    }
  }
}

/// The oracle's scale of a tile with this amax, in a tensor with that amax.
ng_oracle::Quantized oracle_tile(ng_oracle::BlockSpec spec, float amax, float tensor_amax) {
  spec.tile_rows = 1;
  spec.tile_cols = 1;
  spec.encode.nan = ng_oracle::format(spec.element).has_nan ? ng_oracle::NanRule::quiet : ng_oracle::NanRule::zero;
  return ng_oracle::quantize({amax, tensor_amax}, 1, 2, spec);
}

TEST(Scale, Fp32RulesForEveryAmax) {
  const std::pair<ng::ScaleRule, ng_oracle::ScaleRule> rules[] = {
      {ng::ScaleRule::absmax, ng_oracle::ScaleRule::absmax},
      {ng::ScaleRule::absmax_pow2, ng_oracle::ScaleRule::absmax_pow2},
      {ng::ScaleRule::msamp_pow2, ng_oracle::ScaleRule::msamp_pow2}};
  for (const char* element : kElements) {
    for (const auto& [ours, oracles] : rules) {
      const ng::QuantizerSpec spec = program_spec(element, ng::ScaleFormat::f32, ours);
      ng_oracle::BlockSpec o;
      o.element = element;
      o.scale_format = ng_oracle::ScaleFormat::f32;
      o.rule = oracles;
      const std::vector<float> all = amaxes(ng_oracle::format(element));
      for (std::size_t i = 0; i < all.size(); i += 7) {  // 7 and the groups of six around a number share no factor
        const float amax = all[i];
        const ng::TileScale got = ng::tile_scale(spec, bits_of(amax), {});
        const std::uint32_t expected = oracle_tile(o, amax, amax).scale_codes[0];
        ASSERT_EQ(got.code, expected) << element << " rule " << static_cast<int>(ours) << " amax " << std::hexfloat
                                      << amax << " got " << got.decode << " expected " << ng_oracle::float_of(expected);
        ASSERT_EQ(bits_of(got.decode), expected);
      }
    }
  }
}

TEST(Scale, Nvfp4RulesOverTensorAndTileAmax) {
  struct Rule {
    ng::ScaleRule ours;
    ng_oracle::ScaleRule oracles;
  };
  const Rule rules[] = {{ng::ScaleRule::te_v2_14, ng_oracle::ScaleRule::te_v2_14},
                        {ng::ScaleRule::te_v2_13, ng_oracle::ScaleRule::te_v2_13},
                        {ng::ScaleRule::nvfp4_paper, ng_oracle::ScaleRule::nvfp4_paper},
                        {ng::ScaleRule::ao_one_level, ng_oracle::ScaleRule::ao_one_level},
                        {ng::ScaleRule::ao_two_level, ng_oracle::ScaleRule::ao_two_level}};
  std::mt19937 engine(6);
  std::uniform_real_distribution<double> below(-18, 0);
  for (int e = -149; e <= 127; e += 3) {
    for (int i = 0; i < 200; ++i) {
      float tensor = static_cast<float>(std::ldexp(1 + static_cast<double>(engine()) / 0x1p33, e));
      float tile = i == 0 ? tensor : i == 1 ? 0.0F : static_cast<float>(tensor * std::exp2(below(engine)));
      // Training's amaxes are BF16 numbers, and there the rules' orders of rounding differ most often.
      if (i % 4 != 0) {
        tensor = ng_oracle::round_to_bf16(tensor);
        tile = ng_oracle::round_to_bf16(tile);
      }
      for (const Rule& rule : rules) {
        const ng::QuantizerSpec spec = program_spec("e2m1", ng::ScaleFormat::e4m3, rule.ours);
        ng_oracle::BlockSpec o;
        o.scale_format = ng_oracle::ScaleFormat::e4m3;
        o.rule = rule.oracles;
        const ng_oracle::Quantized q = oracle_tile(o, tile, tensor);
        const ng::TensorScale t = ng::tensor_scale(spec, bits_of(tensor));
        const ng::TileScale got = ng::tile_scale(spec, bits_of(tile), t);
        ASSERT_EQ(got.code, q.scale_codes[0])
            << "rule " << static_cast<int>(rule.ours) << std::hexfloat << " tile " << tile << " tensor " << tensor;
        if (q.two_level) {
          ASSERT_EQ(bits_of(t.decode), bits_of(q.tensor_scale)) << std::hexfloat << tensor;
        }
      }
    }
  }
}

TEST(Scale, DecodesCodeTimesScaleTimesTensorScaleInThatOrder) {
  // Two products, each rounded once; which one comes first changes last bits.
  const ng::QuantizerSpec two = program_spec("e2m1", ng::ScaleFormat::e4m3, ng::ScaleRule::te_v2_14);
  const ng::QuantizerSpec one = program_spec("e4m3", ng::ScaleFormat::f32, ng::ScaleRule::absmax);
  std::mt19937 engine(8);
  for (int i = 0; i < 20000; ++i) {
    const auto code = static_cast<std::uint32_t>(engine() % 16);
    const float scale = ng::stored_scale_value(ng::ScaleFormat::e4m3, static_cast<std::uint32_t>(engine() % 127));
    const float tensor =
        std::ldexp(1 + static_cast<float>(engine() % 0x800000) * 0x1p-23F, static_cast<int>(engine() % 276) - 149);
    const float element = static_cast<float>(ng_oracle::decode(ng_oracle::format("e2m1"), code));
    const float expected = ng_oracle::f32_mul(ng_oracle::f32_mul(element, scale), tensor);
    ASSERT_EQ(bits_of(ng::decode_scaled(two, scale, tensor, code)), bits_of(expected)) << std::hexfloat << tensor;
    const auto byte = static_cast<std::uint32_t>(engine() % 127);
    const float value = static_cast<float>(ng_oracle::decode(ng_oracle::format("e4m3"), byte));
    ASSERT_EQ(bits_of(ng::decode_scaled(one, tensor, 1.0F, byte)), bits_of(ng_oracle::f32_mul(value, tensor)));
  }
}

}  // namespace
}  // namespace ng_test
