// SPDX-License-Identifier: Apache-2.0
//
// Claim: quantizer texts mean what numerics.md's names say, print back to themselves, and every wrong one is refused
// with the key at fault and what is valid. Alone: build/bin/unit_recipe --gtest_filter='QuantizerText.*'
#include <gtest/gtest.h>

#include <set>

#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "recipe_text_errors.hpp"

namespace ng {
namespace {

TEST(QuantizerText, PresetsAreThemselves) {
  for (const NamedQuantizer& preset : quantizer_presets()) {
    EXPECT_EQ(parse_quantizer(preset.name), preset.spec) << preset.name;
    EXPECT_EQ(to_text(preset.spec), preset.name);
    EXPECT_NO_THROW(check_quantizer(preset.spec)) << preset.name;
  }
}

TEST(QuantizerText, BareElementsAreCasts) {
  for (const std::string& name : element_format_names()) {
    const QuantizerSpec spec = parse_quantizer(name);
    EXPECT_EQ(spec.scale_format, ScaleFormat::none) << name;
    EXPECT_EQ(name_of(spec.element_id), name);
    EXPECT_EQ(spec.element, format_of(spec.element_id));
    EXPECT_EQ(spec.cast.nan, spec.element.nan == NanCodes::none ? NanChoice::error : NanChoice::quiet) << name;
    EXPECT_EQ(to_text(spec), name);
  }
}

TEST(QuantizerText, ChangesTouchOneField) {
  QuantizerSpec wanted = parse_quantizer("mxfp4");
  wanted.rule = ScaleRule::rceil;
  wanted.cast.rounding = Rounding::nearest_away;
  EXPECT_EQ(parse_quantizer("mxfp4,rule=rceil,rounding=nearest_away"), wanted);
  EXPECT_EQ(parse_quantizer("mxfp4,rounding=nearest_away,rule=rceil"), wanted);

  wanted = parse_quantizer("nvfp4");
  wanted.rule = ScaleRule::four_over_six;
  wanted.four_over_six_error = FourOverSixError::mse;
  wanted.four_over_six_e4m3_max = 256.0f;
  EXPECT_EQ(parse_quantizer("nvfp4,rule=four_over_six:mse:256"), wanted);

  wanted = parse_quantizer("nvfp4");
  wanted.cast.rounding = Rounding::stochastic;
  wanted.cast.random_bits = 8;
  wanted.hadamard = {16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
  EXPECT_EQ(parse_quantizer("nvfp4,rounding=stochastic:8,hadamard=16:te_fixed:bf16"), wanted);

  wanted = parse_quantizer("fp8_1x128");
  wanted.tile_rows = 1;
  wanted.tile_cols = 32;
  wanted.rule = ScaleRule::absmax_pow2;
  wanted.amax_floor = 1e-10f;
  wanted.application = ScaleApplication::divide;
  EXPECT_EQ(parse_quantizer("fp8_1x128,tile=1x32,rule=absmax_pow2,floor=1e-10,application=divide"), wanted);

  wanted = parse_quantizer("mxfp8_e5m2");
  wanted.infinite_scale_code = 0xfe;
  wanted.cast.overflow = Overflow::nonfinite;
  wanted.cast.nan = NanChoice::cuda;
  wanted.cast.zero_sign = ZeroSign::positive;
  EXPECT_EQ(parse_quantizer("mxfp8_e5m2,inf_scale=0xFE,overflow=nonfinite,nan=cuda,zero_sign=positive"), wanted);

  wanted = parse_quantizer("nvfp4_2d");
  wanted.tensor_scope = TensorScope::whole;
  EXPECT_EQ(parse_quantizer("nvfp4_2d,tensor_scope=whole,decode=standard"), wanted);
  wanted.decode = DecodeOrder::te;
  EXPECT_EQ(parse_quantizer("nvfp4_2d,tensor_scope=whole,decode=te"), wanted);

  wanted = parse_quantizer("fp4_token");
  wanted.outlier = {0.99, OutlierScope::row, OutlierResidual::bf16};
  EXPECT_EQ(parse_quantizer("fp4_token,outlier=0.99:row"), wanted);
  wanted.outlier = {0.999, OutlierScope::tensor, OutlierResidual::e4m3};
  EXPECT_EQ(parse_quantizer("fp4_token,outlier=0.999:tensor:e4m3"), wanted);
  wanted.outlier.residual = OutlierResidual::none;
  EXPECT_EQ(parse_quantizer("fp4_token,outlier=0.999:tensor:none"), wanted);
  EXPECT_EQ(parse_quantizer("fp4_token,outlier=none"), parse_quantizer("fp4_token"));
}

// Every value of every enum that a quantizer can hold, on the presets where it is valid.
TEST(QuantizerText, PrintsWhatParsesBack) {
  std::set<std::string> texts;
  std::set<std::string> jsons;
  int specs = 0;
  const auto judge = [&](const QuantizerSpec& spec) {
    try {
      check_quantizer(spec);
    } catch (const UserError&) {
      return;
    }
    const std::string text = to_text(spec);
    if (!texts.insert(text).second) return;
    ++specs;
    EXPECT_EQ(parse_quantizer(text), spec) << text;
    EXPECT_EQ(quantizer_from_json(to_json(spec), "test"), spec) << text;
    EXPECT_EQ(quantizer_from_json(Json::parse(to_json(spec).canonical(), "test"), "test"), spec) << text;
    EXPECT_TRUE(jsons.insert(to_json(spec).canonical()).second) << text;
  };
  for (const NamedQuantizer& preset : quantizer_presets()) {
    for (const auto& rule : enum_tables::Table<ScaleRule>::kRows) {
      for (const auto& rounding : enum_tables::Table<Rounding>::kRows) {
        QuantizerSpec spec = preset.spec;
        spec.rule = rule.value;
        spec.cast.rounding = rounding.value;
        spec.cast.random_bits = rounding.value == Rounding::stochastic ? 16 : 0;
        judge(spec);
        spec.hadamard = {32, HadamardSigns::seeded, HadamardOrder::serial, HadamardResult::f32};
        judge(spec);
        spec.tile_cols = 96;
        spec.tile_rows = 3;
        judge(spec);
      }
    }
    for (const auto& scope : enum_tables::Table<OutlierScope>::kRows) {
      for (const auto& residual : enum_tables::Table<OutlierResidual>::kRows) {
        QuantizerSpec spec = preset.spec;
        spec.outlier = {0.123456789012345678 + 0.5, scope.value, residual.value};  // all 17 digits
        judge(spec);
        spec.decode = DecodeOrder::te;
        judge(spec);
      }
    }
    for (const auto& nan : enum_tables::Table<NanChoice>::kRows) {
      for (const auto& zero : enum_tables::Table<ZeroSign>::kRows) {
        QuantizerSpec spec = preset.spec;
        spec.cast.nan = nan.value;
        spec.cast.zero_sign = zero.value;
        judge(spec);
        spec.cast.overflow = Overflow::nonfinite;
        spec.scale_format = ScaleFormat::none;
        spec.rule = ScaleRule::none;
        spec.tile_rows = 1;
        spec.tile_cols = 0;
        judge(spec);
      }
    }
  }
  EXPECT_GT(specs, 400);
}

TEST(QuantizerText, JsonNamesEveryChoice) {
  const Json json =
      to_json(parse_quantizer("nvfp4,rule=four_over_six:mae:256,rounding=stochastic:8,hadamard=16:te_fixed:bf16"));
  ASSERT_EQ(json.as_object().size(), quantizer_keys().size());
  for (const QuantizerKey& key : quantizer_keys()) EXPECT_NE(json.find(key.name), nullptr) << key.name;
  EXPECT_EQ(json.at("rule").as_string(), "four_over_six:mae:256");
  EXPECT_EQ(json.at("rounding").as_string(), "stochastic:8");
  EXPECT_EQ(json.at("tile").as_string(), "1x16");
  EXPECT_EQ(json.at("hadamard").as_string(), "16:te_fixed:bf16");
}

TEST(QuantizerText, RefusesWithTheNearestName) {
  struct Case {
    const char* text;
    std::initializer_list<std::string> pieces;
  };
  const Case cases[] = {
      {"mxpf4", {"quantizer 'mxpf4'", "did you mean 'mxfp4'"}},
      {"", {"preset or element ''", "valid: mxfp8_e4m3"}},
      {"rule=floor", {"begins with 'rule=floor'"}},
      {"mxfp4,ruel=floor", {"key 'ruel'", "did you mean 'rule'"}},
      {"mxfp4,rule=flor", {"rule 'flor'", "did you mean 'floor'"}},
      {"mxfp4,rule", {"'rule' is not key=value"}},
      {"mxfp4,", {"'' is not key=value"}},
      {"mxfp4,rule=floor,rule=ceil", {"key 'rule' is given twice"}},
      {"mxfp4,rule=absmax", {"rule=absmax does not make e8m0 scales", "valid: floor, ceil, even, rceil"}},
      {"mxfp8_e4m3,scale=e4m3,rule=te_v2_14", {"defined for element=e2m1, not for e4m3"}},
      {"mxfp4,rounding=stochastic", {"stochastic:8, stochastic:16 or stochastic:32"}},
      {"mxfp4,rounding=stochastic:7", {"stochastic:8"}},
      {"mxfp4,rounding=nearest_even:8", {"only stochastic takes an argument"}},
      {"nvfp4,rule=four_over_six", {"four_over_six:mae:448"}},
      {"nvfp4,rule=four_over_six:mea:448", {"did you mean 'mae'"}},
      {"nvfp4,rule=four_over_six:mae:449", {"at most at 448"}},
      {"nvfp4,rule=te_v2_14:1", {"only four_over_six takes arguments"}},
      {"nvfp4,tile=1x32,rule=four_over_six:mae:448", {"tile=1x16 and tile=16x16"}},
      {"mxfp4,tile=32", {"tile=32 is not ROWSxCOLS"}},
      {"mxfp4,tile=-1x32", {"tile=-1x32"}},
      {"mxfp4,tile=1x32x2", {"tile=1x32x2"}},
      {"e4m3,tile=1x32", {"tile=1x32 needs a scale format"}},
      {"e4m3,rule=floor", {"rule=floor needs a scale format"}},
      {"e4m3,nan=zero", {"e4m3 can write NaN", "quiet, cuda"}},
      {"e8m0", {"scales only"}},
      {"fp32", {"at most 16 bits"}},
      {"mxfp4,element=bf16", {"too wide for scales"}},
      {"mxfp4,floor=1e-10", {"floor=1e-10 belongs to the rules absmax"}},
      {"fp8_1x128,floor=-1", {"floor=-1"}},
      {"fp8_1x128,floor=nan", {"floor=nan"}},
      {"mxfp4,application=divide", {"application=divide belongs to"}},
      {"fp8_1x128,inf_scale=0xFE", {"inf_scale belongs to scale=e8m0"}},
      {"mxfp4,inf_scale=7", {"0xFF", "0xFE"}},
      {"mxfp4,tensor_scope=whole", {"tensor_scope=whole belongs to rules with a tensor scale"}},
      {"mxfp4,hadamard=16", {"SIZE:SIGNS:RESULT"}},
      {"mxfp4,hadamard=12:none:f32", {"hadamard size 12"}},
      {"mxfp4,hadamard=32:te_fixed:bf16", {"defined for size 16, not for 32"}},
      {"mxfp4,hadamard=16:te_fxied:bf16", {"did you mean 'te_fixed'"}},
      {"mxfp4,decode=te", {"decode=te belongs to the rules te_v2_14, te_v2_13 and nvfp4_paper, not to floor"}},
      {"nvfp4,decode=tee", {"decode 'tee' is unknown", "te"}},
      {"mxfp4,outlier=0.99", {"outlier=0.99 is not QUANTILE:SCOPE[:RESIDUAL]", "outlier=0.99:row"}},
      {"mxfp4,outlier=0.5:row", {"a quantile above 0.5 and below 1"}},
      {"mxfp4,outlier=1:row", {"a quantile above 0.5 and below 1"}},
      {"mxfp4,outlier=nan:row", {"a quantile above 0.5 and below 1"}},
      {"mxfp4,outlier=0.99:rows", {"outlier scope 'rows' is unknown", "row"}},
      {"mxfp4,outlier=0.99:row:fp8", {"outlier residual 'fp8' is unknown"}},
      {"mine.toml#act", {"cannot be named here"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    expect_user_error([&] { (void)parse_quantizer(c.text); }, c.pieces);
  }
}

TEST(QuantizerText, LooksUpRecipes) {
  std::string asked;
  const QuantizerSpec spec =
      parse_quantizer("dir/mine.toml#act,rounding=toward_zero", [&](const std::string& file, const std::string& name) {
        asked = file + "|" + name;
        return parse_quantizer("mxfp4");
      });
  EXPECT_EQ(asked, "dir/mine.toml|act");
  EXPECT_EQ(spec, parse_quantizer("mxfp4,rounding=toward_zero"));
}

TEST(EnumNames, AreUnique) {
  std::set<std::string> names;
  for (const std::string& name : names_of<ScaleRule>()) EXPECT_TRUE(names.insert(name).second) << name;
  EXPECT_EQ(find_enum<ScaleRule>("te_v2_14"), ScaleRule::te_v2_14);
  EXPECT_EQ(find_enum<ScaleRule>("te"), std::nullopt);
  EXPECT_EQ(name_of(static_cast<ScaleRule>(99)), "?");
}

}  // namespace
}  // namespace ng
