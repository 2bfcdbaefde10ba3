// SPDX-License-Identifier: Apache-2.0
//
// Claim: a recipe file is read strictly: what it says is what is stored, and everything misspelt, contradictory,
// unreachable, unused or not available in this version is refused with its place.
// Alone: build/bin/unit_recipe --gtest_filter='Recipe*'
#include <gtest/gtest.h>

#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "recipe_text_errors.hpp"

namespace ng {
namespace {

constexpr const char* kTensor = R"(
[tensor]
carried  = { residual = "bf16", gemm_output = "f32", logits = "f32", softmax = "f32" }
exchange = { dispatch = "bf16", combine = "f32", dispatch_grad = "f32", combine_grad = "bf16" }
state    = { master = "f32", adam_m = "f32", adam_v = "f32", weight_grad = "f32" }
)";

Recipe parse(const std::string& head) {
  return Recipe::from_text("r.toml", head + kTensor);
}

TEST(Recipe, ReadsWhatIsWritten) {
  const Recipe recipe = parse(R"(name = "x"
description = "y"
rule = [
  { linear = "*fc2, head", operand = "weight", gemm = "fprop,dgrad", use = "w" },
  { layers = "first:2", use = "bf16" },
  { use = "f32" },
]
[quantizer]
a = { element = "e4m3", tile = [1, 128], scale = { format = "f32", rule = "absmax", floor = 1e-10 } }
w = { like = "a", tile = [128, 128], rounding = "stochastic:32", zero_sign = "positive" }
[gemm.dgrad]
hadamard = { size = 32, signs = "seeded", result = "f32", order = "serial" }
)");
  EXPECT_EQ(recipe.name, "x");
  EXPECT_EQ(recipe.description, "y");
  ASSERT_EQ(recipe.rules.size(), 3u);
  const RecipeRule& rule = recipe.rules[0];
  EXPECT_TRUE(rule.names(Linear::fc2, Operand::weight, Gemm::fprop));
  EXPECT_TRUE(rule.names(Linear::shared_fc2, Operand::weight, Gemm::dgrad));
  EXPECT_TRUE(rule.names(Linear::dense_fc2, Operand::weight, Gemm::dgrad));
  EXPECT_TRUE(rule.names(Linear::head, Operand::weight, Gemm::fprop));
  EXPECT_FALSE(rule.names(Linear::fc1, Operand::weight, Gemm::fprop));
  EXPECT_FALSE(rule.names(Linear::fc2, Operand::activation, Gemm::fprop));
  EXPECT_FALSE(rule.names(Linear::fc2, Operand::weight, Gemm::wgrad));
  EXPECT_EQ(rule.use.quantizer, parse_quantizer("fp8_128x128,floor=1e-10,rounding=stochastic:32,zero_sign=positive"));
  EXPECT_TRUE(recipe.rules[1].layers.selects(1, 4));
  EXPECT_FALSE(recipe.rules[1].layers.selects(2, 4));
  EXPECT_EQ(recipe.rules[2].use.kind, OperandKind::f32);
  EXPECT_EQ(recipe.gemm[1].hadamard,
            (HadamardSpec{32, HadamardSigns::seeded, HadamardOrder::serial, HadamardResult::f32}));
  EXPECT_EQ(recipe.gemm[2].hadamard.size, 0);
  EXPECT_EQ(recipe.tensors.residual, OperandKind::bf16);
  EXPECT_EQ(recipe.tensors.gemm_output, OperandKind::f32);
  EXPECT_EQ(recipe.tensors.combine, OperandKind::f32);
  EXPECT_EQ(recipe.tensors.combine_grad, OperandKind::bf16);
}

TEST(Recipe, LikeKeepsTheRestOfTheScale) {
  const Recipe recipe = parse(R"(name = "x"
rule = [ { linear = "fc1", use = "b" }, { use = "bf16" } ]
[quantizer]
b = { like = "mxfp4", scale = { rule = "rceil", inf_scale = 0xFE } }
)");
  EXPECT_EQ(recipe.quantizers.at("b"), parse_quantizer("mxfp4,rule=rceil,inf_scale=0xFE"));
}

TEST(Recipe, ABareElementIsACast) {
  const Recipe recipe = parse(R"(name = "x"
rule = [ { linear = "fc1", use = "b" }, { use = "bf16" } ]
[quantizer]
b = { element = "e2m1" }
)");
  EXPECT_EQ(recipe.quantizers.at("b"), parse_quantizer("e2m1"));
}

TEST(Recipe, RefusesWithThePlace) {
  struct Case {
    std::string text;
    std::initializer_list<std::string> pieces;
  };
  const std::string bf16 = "name = \"x\"\nrule = [ { use = \"bf16\" } ]\n";
  const std::string rule =
      "name = \"x\"\nrule = [ { linear = \"head,embedding,router\", use = \"bf16\" }, { use = \"q\" } ]\n";
  const Case cases[] = {
      {"nmae = \"x\"\n", {"r.toml:1:1:", "did you mean 'name'", "nmae"}},
      {"name = \"x\"\n", {"key 'rule'"}},
      {"name = \"x\"\nrule = []\n", {"r.toml:2:", "no rule"}},
      {bf16 + "colour = 1\n", {"r.toml:3:", "'colour'"}},
      {bf16 + "saved = [ { linear = \"fc1\", use = \"q\" } ]\n", {"r.toml:3:", "saved", "no quantizer 'q'"}},
      {rule +
           "saved = [ { linear = \"fc1\", recompute_from = \"fc1_output\", use = \"q\" } ]\n[quantizer]\nq = { like = "
           "\"mxfp4\" }\n",
       {"r.toml:3:", "recompute_from", "not that of fc1"}},
      {rule + "saved = [ { linear = \"embedding\", use = \"q\" } ]\n[quantizer]\nq = { like = \"mxfp4\" }\n",
       {"r.toml:3:", "no input to save"}},
      {bf16 + "switch = [ { at = 0.9, recipe = \"bf16\" } ]\n",
       {"r.toml:3:", "'switch.0.recipe'", "beside the recipe's file"}},
      {bf16 + "switch = []\n", {"r.toml:3:", "'switch'", "has no entry"}},
      {bf16 + "[gemm.fprop]\ncompensate = { against = \"quantized\" }\n", {"r.toml:4:", "format"}},
      {bf16 + "[gemm.fprop]\ncompensate = true\n", {"r.toml:4:", "compensate", "is false or"}},
      {bf16 + "[gemm.wgrad]\ncompensate = { against = \"original\", format = \"bf16\" }\n",
       {"r.toml:4:", "belongs to [gemm.fprop]"}},
      {bf16 + "[gemm.fprop]\naccumulate = \"slow\"\n", {"r.toml:4:", "slow", "promoted, fast, fp32_chain"}},
      {bf16 + "[gemm.forward]\ncarrier = \"bf16\"\n", {"r.toml:3:", "forward", "fprop"}},
      {bf16 + "[gemm.fprop]\ncarrier = \"fp16\"\n", {"r.toml:4:", "fp16", "bf16"}},
      {bf16 + "[gemm.fprop]\nhadamard = { size = 12, signs = \"none\" }\n", {"r.toml:4:", "hadamard size 12"}},
      {bf16 + "[gemm.fprop]\nhadamard = { size = 16 }\n", {"r.toml:4:", "signs"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", estimator = { kind = \"differentiable\" } } ]\n",
       {"r.toml:2:", "estimator", "operand = \"weight\", gemm = \"fprop\""}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", decode = \"bf16\" } ]\n", {"r.toml:2:", "decode", "via = \"direct\""}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"saved\", via = \"requantize\" } ]\n",
       {"r.toml:2:", "needs a quantizer"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"saved\" } ]\n", {"r.toml:2:", "needs via = \"requantize\""}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"dispatch\", via = \"requantize\" } ]\n",
       {"r.toml:2:", "'dispatch' is not available"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"fprop\", via = \"direct\" } ]\n",
       {"r.toml:2:", "use", "does not go with via = \"direct\""}},
      {"name = \"x\"\nrule = [ { from = \"fprop\", via = \"direct\" } ]\n", {"r.toml:2:", "decode"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"fprop\", via = \"transpose_exact\" } ]\n",
       {"r.toml:2:", "'transpose_exact' is not available"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"fprop\" } ]\n", {"r.toml:2:", "requantize"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", via = \"requantize\" } ]\n", {"r.toml:2:", "from = \"fprop\""}},
      {"name = \"x\"\nrule = [ { use = \"bf16\", from = \"fprop\", via = \"requantize\" } ]\n",
       {"r.toml:2:", "needs a quantizer"}},
      {"name = \"x\"\nrule = [ { use = \"bf61\" } ]\n", {"r.toml:2:", "no quantizer 'bf61'", "did you mean 'bf16'"}},
      {"name = \"x\"\nrule = [ { linaer = \"fc1\", use = \"bf16\" } ]\n",
       {"r.toml:2:", "linaer", "did you mean 'linear'"}},
      {"name = \"x\"\nrule = [ { linear = \"fc3\", use = \"bf16\" } ]\n", {"r.toml:2:", "'fc3'", "did you mean 'fc1'"}},
      {"name = \"x\"\nrule = [ { operand = \"wieght\", use = \"bf16\" } ]\n", {"r.toml:2:", "did you mean 'weight'"}},
      {"name = \"x\"\nrule = [ { gemm = \"backward\", use = \"bf16\" } ]\n",
       {"r.toml:2:", "valid: fprop, dgrad, wgrad"}},
      {"name = \"x\"\nrule = [ { layers = \"firts:2\", use = \"bf16\" } ]\n",
       {"r.toml:2:", "firts:2", "first:5%,last:15%"}},
      {"name = \"x\"\nrule = [ { layers = \"first:2.5\", use = \"bf16\" } ]\n", {"r.toml:2:", "first:2.5"}},
      {"name = \"x\"\nrule = [ { layers = \"first:101%\", use = \"bf16\" } ]\n", {"r.toml:2:", "first:101%"}},
      {"name = \"x\"\nrule = [ { layers = [], use = \"bf16\" } ]\n", {"r.toml:2:", "empty list"}},
      {"name = \"x\"\nrule = [ { operand = \"weight\", gemm = \"wgrad\", use = \"bf16\" } ]\n",
       {"r.toml:2:", "matches no edge"}},
      {"name = \"x\"\nrule = [ { linear = \"head\", layers = \"first:1\", use = \"bf16\" } ]\n",
       {"r.toml:2:", "matches no edge"}},
      {"name = \"x\"\nrule = [ { use = \"bf16\" }, { linear = \"fc1\", use = \"f32\" } ]\n",
       {"r.toml:2:", "rule 2 can never win"}},
      {"name = \"x\"\nrule = [ { layers = \"first:1\", use = \"bf16\" }, { layers = \"first:1\", linear = \"fc1\", use "
       "= \"f32\" } ]\n",
       {"rule 2 can never win"}},
      {bf16 + "[quantizer]\nq = { like = \"mxfp4\" }\n", {"r.toml:4:", "no rule uses this quantizer"}},
      {rule + "[quantizer]\nq = { like = \"mxpf4\" }\n", {"r.toml:4:", "did you mean 'mxfp4'"}},
      {rule + "[quantizer]\nq = { like = \"q\" }\n", {"r.toml:4:", "like"}},
      {rule + "[quantizer]\nq = { like = \"p\" }\np = { like = \"q\" }\n", {"is like itself"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", ronding = \"toward_zero\" }\n",
       {"r.toml:4:", "did you mean 'rounding'"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", rounding = \"to_zero\" }\n",
       {"r.toml:4:", "'to_zero'", "toward_zero"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", scale = { rule = \"absmax\" } }\n",
       {"r.toml:4:", "quantizer.q", "does not make e8m0 scales"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", outlier = { quantile = 0.99, residual = \"bf16\" } }\n",
       {"r.toml:4:", "residual"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", outlier = { quantile = 0.4 } }\n",
       {"r.toml:4:", "quantile", "0.4 is not above 0.5"}},
      {rule + "[quantizer]\nq = { like = \"fp8_1x128\", scale = { amax = { history = 16 } } }\n",
       {"r.toml:4:", "amax", "scales of the whole tensor"}},
      {rule + "[quantizer]\nq = { like = \"fp8_tensor\", scale = { amax = { history = 16, reduce = \"mean\" } } }\n",
       {"r.toml:4:", "mean", "max, most_recent"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", hadamard = { size = 16 } }\n",
       {"r.toml:4:", "belongs to a product"}},
      {rule + "[quantizer]\nq = { tile = [1, 32] }\n", {"r.toml:4:", "element"}},
      {rule + "[quantizer]\nq = { element = \"e2m1\", scale = { format = \"e8m0\", rule = \"floor\" } }\n",
       {"r.toml:4:", "tile"}},
      {rule + "[quantizer]\nq = { element = \"e2m1\", tile = [1, 32], scale = { format = \"e8m0\" } }\n",
       {"r.toml:4:", "rule"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", tile = [32] }\n", {"r.toml:4:", "[rows, columns]"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\", decode = \"te\" }\n",
       {"r.toml:4:", "decode=te belongs to the rules te_v2_14"}},
      {rule + "[quantizer]\nq = { like = \"mxfp4\" }\nbf16 = { like = \"mxfp4\" }\n", {"r.toml:5:", "unquantized"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    expect_user_error([&] { (void)parse(c.text); }, c.pieces);
  }
}

TEST(Recipe, DemandsEveryTensor) {
  const std::string head = "name = \"x\"\nrule = [ { use = \"bf16\" } ]\n";
  expect_user_error([&] { (void)Recipe::from_text("r.toml", head); }, {"tensor"});
  const std::string all = head + kTensor;
  int keys = 0;
  for (std::size_t at = all.find(" = \"", head.size()); at != std::string::npos; at = all.find(" = \"", at + 1)) {
    ++keys;
    std::string missing = all;
    missing.replace(at, 1, "_x ");
    expect_user_error([&] { (void)Recipe::from_text("r.toml", missing); }, {"r.toml:", "tensor."});
    const std::size_t open = at + 4;
    std::string quantized = all;
    quantized.replace(open, all.find('"', open) - open, "act_p2");
    expect_user_error([&] { (void)Recipe::from_text("r.toml", quantized); },
                      {"r.toml:", "'act_p2' is not available in this version"});
  }
  EXPECT_EQ(keys, 12);
  std::string dispatch = all;
  dispatch.replace(dispatch.find("dispatch = \"bf16\""), 17, "dispatch = \"f32\"");
  expect_user_error([&] { (void)Recipe::from_text("r.toml", dispatch); },
                    {"exchange.dispatch", "carried.residual = 'bf16'"});
  const std::size_t m = all.find("adam_m = \"f32\"");
  std::string moments = all;
  moments.replace(m, 14, "adam_m = \"bf16\"");
  expect_user_error([&] { (void)Recipe::from_text("r.toml", moments); }, {"adam_m", "available: f32"});
}

TEST(Recipe, OverridesReachQuantizers) {
  TomlDocument document = TomlDocument::from_text(
      "r.toml", std::string("name = \"x\"\nrule = [ { linear = \"fc1\", use = \"q\" }, { use = \"bf16\" } ]\n"
                            "[quantizer]\nq = { like = \"mxfp4\" }\n") +
                    kTensor);
  document.set("quantizer.q.rounding", "toward_zero", "--set");
  EXPECT_EQ(Recipe::from_document(document).quantizers.at("q"), parse_quantizer("mxfp4,rounding=toward_zero"));
}

TEST(RecipeLayers, FractionsRoundDown) {
  const LayerSelector some = LayerSelector::parse("first:5%,last:15%");
  const auto chosen = [&](std::int64_t layers) {
    std::string text;
    for (std::int64_t l = 0; l < layers; ++l) text += some.selects(l, layers) ? '1' : '0';
    return text;
  };
  EXPECT_EQ(chosen(4), "0000");
  EXPECT_EQ(chosen(7), "0000001");
  EXPECT_EQ(chosen(20), "10000000000000000111");
  EXPECT_EQ(chosen(19), "0000000000000000011");
  EXPECT_TRUE(LayerSelector::parse("first:2,last:8").selects(2, 4));  // more than there are: all
  EXPECT_TRUE(LayerSelector::list({0, 3}).selects(3, 4));
  EXPECT_FALSE(LayerSelector::list({0, 3}).selects(1, 4));
  EXPECT_TRUE(LayerSelector{}.everything());
  expect_user_error([] { LayerSelector::list({4}).check(4); }, {"layer 4 does not exist", "0 to 3"});
}

}  // namespace
}  // namespace ng
