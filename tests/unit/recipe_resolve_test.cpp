// SPDX-License-Identifier: Apache-2.0
//
// Claim: resolving gives each edge the first matching rule, refuses products that would be silently wrong, and its
// digest changes exactly when numbers can. Alone: build/bin/unit_recipe --gtest_filter='Resolve.*'
#include <gtest/gtest.h>

#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "recipe_text_errors.hpp"

namespace ng {
namespace {

constexpr const char* kTensor = R"(
[tensor]
carried  = { residual = "bf16", gemm_output = "bf16", logits = "f32", softmax = "f32" }
exchange = { dispatch = "bf16", combine = "bf16", dispatch_grad = "bf16", combine_grad = "bf16" }
state    = { master = "f32", adam_m = "f32", adam_v = "f32", weight_grad = "f32" }
)";

// 4 layers, the first one dense, shared experts; C = 64, V = 256, 8 experts of 32, top 2.
ModelShape model(std::int64_t layers = 4) {
  ModelShape shape;
  shape.name = "test";
  shape.layers = layers;
  shape.dense_layers = 1;
  shape.shared_experts = true;
  const auto set = [&](Linear which, std::int64_t out, std::int64_t in, double uses) {
    shape.linear[static_cast<std::size_t>(which)] = {out, in, uses};
  };
  set(Linear::attn_qkv, 128, 64, 1);
  set(Linear::attn_out, 64, 64, 1);
  set(Linear::router, 8, 64, 1);
  set(Linear::fc1, 64, 64, 2);
  set(Linear::fc2, 64, 32, 2);
  set(Linear::shared_fc1, 64, 64, 1);
  set(Linear::shared_fc2, 64, 32, 1);
  set(Linear::dense_fc1, 256, 64, 1);
  set(Linear::dense_fc2, 64, 128, 1);
  set(Linear::embedding, 256, 64, 0);
  set(Linear::head, 256, 64, 1);
  return shape;
}

ResolvedRecipe resolve_text(const std::string& text, const ModelShape& shape = model()) {
  return resolve(Recipe::from_text("r.toml", "name = \"x\"\n" + text + kTensor), shape);
}

TEST(Resolve, FirstMatchWins) {
  const ResolvedRecipe r = resolve_text(R"(rule = [
  { linear = "embedding,router,head", use = "bf16" },
  { layers = [2], linear = "fc1", operand = "weight", use = "f32" },
  { layers = "last:1", use = "bf16" },
  { operand = "weight", use = "w" },
  { operand = "activation", gemm = "wgrad", from = "fprop", via = "requantize", use = "b" },
  { use = "a" },
]
[quantizer]
a = { like = "mxfp4" }
b = { like = "mxfp4", rounding = "toward_zero" }
w = { like = "nvfp4_2d" }
)");
  const auto operand = [&](std::int64_t layer, Linear which, Operand what, Gemm where) {
    return operand_spec(r.linear(layer, which), what, where);
  };
  const OperandSpec fprop = operand(1, Linear::fc1, Operand::activation, Gemm::fprop);
  EXPECT_EQ(fprop.kind, OperandKind::quantized);
  EXPECT_EQ(fprop.source, FormSource::original);
  EXPECT_EQ(fprop.quantizer, parse_quantizer("mxfp4"));
  const OperandSpec wgrad = operand(1, Linear::fc1, Operand::activation, Gemm::wgrad);
  EXPECT_EQ(wgrad.source, FormSource::fprop);
  EXPECT_EQ(wgrad.quantizer, parse_quantizer("mxfp4,rounding=toward_zero"));
  EXPECT_EQ(operand(1, Linear::fc1, Operand::weight, Gemm::fprop).quantizer, parse_quantizer("nvfp4_2d"));
  EXPECT_EQ(operand(1, Linear::fc1, Operand::weight, Gemm::dgrad).quantizer, parse_quantizer("nvfp4_2d"));
  EXPECT_EQ(operand(1, Linear::fc1, Operand::grad_output, Gemm::dgrad).quantizer, parse_quantizer("mxfp4"));
  EXPECT_EQ(operand(2, Linear::fc1, Operand::weight, Gemm::fprop).kind, OperandKind::f32);
  EXPECT_EQ(operand(2, Linear::fc1, Operand::activation, Gemm::fprop).kind, OperandKind::quantized);
  EXPECT_EQ(operand(3, Linear::fc2, Operand::weight, Gemm::fprop).kind, OperandKind::bf16);
  EXPECT_EQ(operand(kOutsideLayers, Linear::head, Operand::weight, Gemm::fprop).kind, OperandKind::bf16);
  EXPECT_EQ(operand(1, Linear::router, Operand::activation, Gemm::fprop).kind, OperandKind::bf16);
  EXPECT_EQ(r.embedding, OperandKind::bf16);
  EXPECT_TRUE(r.has(0, Linear::dense_fc1));
  EXPECT_FALSE(r.has(0, Linear::fc1));
  EXPECT_FALSE(r.has(1, Linear::dense_fc1));
  EXPECT_TRUE(r.has(1, Linear::shared_fc1));
  EXPECT_THROW((void)r.linear(0, Linear::fc1), LogicError);
}

TEST(Resolve, HadamardGoesToBothOperands) {
  const ResolvedRecipe r = resolve_text(R"(rule = [ { linear = "embedding,router,head", use = "bf16" }, { use = "a" } ]
[quantizer]
a = { like = "nvfp4" }
[gemm.wgrad]
hadamard = { size = 16, signs = "te_fixed" }
)");
  const LinearSpec& spec = r.linear(1, Linear::fc1);
  const HadamardSpec wanted{16, HadamardSigns::te_fixed, HadamardOrder::butterfly, HadamardResult::bf16};
  EXPECT_EQ(spec.gemm[2].a.quantizer.hadamard, wanted);
  EXPECT_EQ(spec.gemm[2].b.quantizer.hadamard, wanted);
  EXPECT_EQ(spec.gemm[0].a.quantizer.hadamard.size, 0);
  EXPECT_EQ(r.token_multiple(), 16);
  EXPECT_EQ(r.linear(1, Linear::router).gemm[2].a.kind, OperandKind::bf16);  // neither operand: no transform
}

TEST(Resolve, RefusesSilentlyWrongProducts) {
  struct Case {
    std::string text;
    std::initializer_list<std::string> pieces;
  };
  const std::string outside = "rule = [ { linear = \"embedding,router,head\", use = \"bf16\" }, ";
  const Case cases[] = {
      {"rule = [ { linear = \"embedding,head,router,attn*\", use = \"bf16\" } ]",
       {"r.toml", "no rule matches layer.0/dense_fc1/activation/fprop"}},
      {"rule = [ { linear = \"*\", operand = \"weight\", use = \"bf16\" } ]", {"no rule matches", "/activation/fprop"}},
      {"rule = [ { use = \"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" }", {"embedding is a look-up"}},
      {outside + "{ operand = \"weight\", use = \"bf16\" }, { use = \"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" "
                 "}\n[gemm.fprop]\nhadamard = "
                 "{ size = 16, signs = \"none\" }",
       {"r.toml:", "acts on both operands", "weight of layer.0/attn_qkv/fprop"}},
      {outside + "{ use = \"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" }\n[gemm.fprop]\nhadamard = { size = 64, "
                 "signs = \"none\" }",
       {"size 64 does not divide", "layer.1/fc2/fprop, 32"}},
      {outside + "{ use = \"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" }\n[gemm.wgrad]\nhadamard = { size = 64, "
                 "signs = \"none\" }",
       {"size 64 on wgrad is longer than the 32 rows"}},
      {outside + "{ use = \"a\" } ]\n[quantizer]\na = { like = \"fp4_channel\" }",
       {"varies along the contraction axis inside a step"}},
      {outside + "{ use = \"a\" } ]\n[quantizer]\na = { like = \"fp8_1x128\", tile = [1, 32] }",
       {"r.toml:", "'a'", "inside a step of 128"}},
      {outside + "{ use = \"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" }\n[gemm.dgrad]\ncarrier = \"e4m3\"",
       {"carrier e4m3 cannot hold"}},
      {outside + "{ use = \"a\" } ]\n[quantizer]\na = { like = \"fp8_tensor_e5m2\" }\n[gemm.dgrad]\ncarrier = \"e4m3\"",
       {"carrier e4m3 cannot hold e5m2"}},
      {outside + "{ from = \"fprop\", via = \"requantize\", use = \"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" }",
       {"is the fprop form and cannot be made from it"}},
      {outside + "{ gemm = \"fprop\", use = \"a\" }, { from = \"fprop\", via = \"requantize\", use = \"a\" } "
                 "]\n[quantizer]\na = { like = \"mxfp4\" }",
       {"grad_output takes no part in fprop"}},
      {outside + "{ gemm = \"fprop\", use = \"bf16\" }, { operand = \"activation\", from = \"fprop\", via = "
                 "\"requantize\", use = \"a\" }, { use = "
                 "\"a\" } ]\n[quantizer]\na = { like = \"mxfp4\" }",
       {"is not quantized"}},
      {outside + "{ operand = \"activation\", gemm = \"wgrad\", from = \"fprop\", via = \"requantize\", use = \"a\" }, "
                 "{ use = \"a\" } ]\n[quantizer]\na = "
                 "{ like = \"mxfp4\" }\n[gemm.fprop]\nhadamard = { size = 16, signs = \"none\" }",
       {"Hadamard transformed"}},
      {"rule = [ { layers = [7], use = \"f32\" }, { use = \"bf16\" } ]", {"layer 7 does not exist"}},
      {outside +
           "{ layers = \"first:2,last:8\", use = \"bf16\" }, { use = \"a\" } ]\n[quantizer]\na = { like = \"nvfp4\" }",
       {"r.toml", "model test (4 layers) reaches none of the recipe's quantizers"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    expect_user_error([&] { (void)resolve_text(c.text); }, c.pieces);
  }
}

TEST(Resolve, AllowsWhatCanBeApplied) {
  const std::string outside =
      "rule = [ { linear = \"embedding,router,head\", use = \"bf16\" }, { use = \"a\" } ]\n[quantizer]\n";
  EXPECT_NO_THROW((void)resolve_text(outside + "a = { like = \"fp4_token\" }\n[gemm.fprop]\ncarrier = \"e4m3\""));
  EXPECT_NO_THROW((void)resolve_text(outside + "a = { like = \"fp4_channel\", scale = { rule = \"absmax_pow2\" } }"));
  EXPECT_NO_THROW((void)resolve_text(outside + "a = { like = \"fp8_1x128\", tile = [1, 256] }"));
  EXPECT_NO_THROW((void)resolve_text(outside + "a = { element = \"e5m2\" }"));
}

TEST(Resolve, SharesOfFlops) {
  const ResolvedRecipe r = resolve_text(R"(rule = [
  { linear = "embedding,router,head", use = "bf16" }, { linear = "attn*", gemm = "wgrad", use = "f32" }, { use = "a" } ]
[quantizer]
a = { like = "mxfp4" }
)");
  // Per token and product: attention 128*64 + 64*64 in 4 layers, dense 256*64 + 64*128 in one, in three layers experts
  // 2*(64*64 + 64*32), shared 64*64 + 64*32 and router 8*64; head 256*64.
  const double attention = 4.0 * (128 * 64 + 64 * 64);
  const double ffn = 256 * 64 + 64 * 128 + 3.0 * 3 * (64 * 64 + 64 * 32);
  const double bf16 = 3.0 * 8 * 64 + 256 * 64;
  const double total = 3 * (attention + ffn + bf16);
  ASSERT_EQ(r.flop_shares.size(), 3u);
  EXPECT_EQ(r.flop_shares[0].a, "e2m1");
  EXPECT_DOUBLE_EQ(r.flop_shares[0].share, (2 * attention + 3 * ffn) / total);
  EXPECT_DOUBLE_EQ(r.quantized_share(), r.flop_shares[0].share);
  EXPECT_EQ(r.flop_shares[1].a, "bf16");
  EXPECT_DOUBLE_EQ(r.flop_shares[1].share, 3 * bf16 / total);
  EXPECT_EQ(r.flop_shares[2].b, "f32");
}

TEST(Resolve, DigestFollowsTheNumbers) {
  const std::string one =
      "rule = [ { linear = \"embedding,router,head\", use = \"bf16\" }, { use = \"a\" } ]\n[quantizer]\na = { like = "
      "\"mxfp4\" }";
  const std::string base = resolve_text(one).digest();
  EXPECT_EQ(base.size(), 64u);
  const std::string renamed =
      "description = \"other\"\nrule = [ { linear = \"router,head,embedding\", use = \"bf16\" }, { operand = "
      "\"weight\", use = \"b\" }, "
      "{ use = \"b\" } ]\n[quantizer]\nb = { element = \"e2m1\", tile = [1, 32], scale = { format = \"e8m0\", rule = "
      "\"floor\" } }";
  EXPECT_EQ(resolve_text(renamed).digest(), base);
}

TEST(Resolve, DigestSeesOneField) {
  const auto with = [](const std::string& field) {
    return resolve_text(
               "rule = [ { linear = \"embedding,router,head\", use = \"bf16\" }, { use = \"a\" } ]\n[quantizer]\na = { "
               "like = \"mxfp4\"" +
               field + " }")
        .digest();
  };
  const std::string base = with("");
  for (const char* field : {", rounding = \"toward_zero\"", ", tile = [1, 64]", ", scale = { rule = \"ceil\" }",
                            ", zero_sign = \"positive\""})
    EXPECT_NE(with(field), base) << field;
}

// A switch: products of another recipe from a step on.
Recipe switched(const std::string& text, const std::string& other) {
  return Recipe::from_text("folder/r.toml", "name = \"x\"\n" + text + kTensor, [&](const std::string& path) {
    if (path != "folder/other.toml") throw UserError("cannot read " + path);
    return "name = \"other\"\n" + other + kTensor;
  });
}

const std::string kBlock = "rule = [ { linear = \"embedding,router,head\", use = \"bf16\" }, { use = \"q\" } ]\n";
const std::string kMxfp4 = "[quantizer]\nq = { like = \"mxfp4\" }\n";
const std::string kPlain = "rule = [ { use = \"bf16\" } ]\n";

TEST(Switch, GivesTheNamedProductsToTheOtherRecipe) {
  const std::string entries =
      "switch = [ { at = 0.5, recipe = \"other\", gemms = [\"fprop\"] }, { at = 9, recipe = \"other.toml\" } ]\n";
  const ResolvedRecipe r = resolve(switched(kBlock + entries + kMxfp4, kPlain), model());
  const ResolvedRecipe without = resolve(switched(kBlock + kMxfp4, kPlain), model());
  ASSERT_EQ(r.switches.size(), 2u);
  EXPECT_NE(r.digest(), without.digest());
  const LinearSpec& first = without.linear(1, Linear::fc1);
  const LinearSpec& middle = r.switches[0].recipe.linear(1, Linear::fc1);
  EXPECT_EQ(r.linear(1, Linear::fc1), first);
  EXPECT_EQ(middle.gemm[0].a.kind, OperandKind::bf16);
  EXPECT_EQ(middle.gemm[0].b.kind, OperandKind::bf16);
  EXPECT_EQ(middle.gemm[1], first.gemm[1]);
  EXPECT_EQ(middle.gemm[2], first.gemm[2]);
  EXPECT_EQ(r.switches[1].recipe.quantized_share(), 0.0);
  EXPECT_EQ(first_steps(r, 11), (std::vector<std::int64_t>{0, 5, 9}));
  expect_user_error([&] { (void)first_steps(r, 9); }, {"folder/r.toml:3:", "step 9 of a run of 9"});
  expect_user_error([&] { (void)first_steps(r, 1); }, {"step 0 of a run of 1"});
  expect_user_error([&] { (void)first_steps(r, 18); }, {"step 9", "valid: 10 to 17"});
}

TEST(Switch, RefusesWithThePlace) {
  const auto refuses = [](const std::string& entries, std::initializer_list<std::string> pieces) {
    SCOPED_TRACE(entries);
    expect_user_error([&] { (void)switched(kBlock + "switch = [ " + entries + " ]\n" + kMxfp4, kPlain); }, pieces);
  };
  refuses("{ at = 0.5, recipe = \"otter\" }", {"folder/r.toml:3:", "no such recipe", "folder/otter.toml"});
  for (const char* at : {"0.0", "1.0", "1.5", "-0.5"})
    refuses(std::string("{ at = ") + at + ", recipe = \"other\" }", {"folder/r.toml:3:", "no fraction of a run"});
  refuses("{ at = 0, recipe = \"other\" }", {"folder/r.toml:3:", "at"});
  refuses("{ at = 0.5 }", {"folder/r.toml:3:", "recipe"});
  refuses("{ at = 0.5, recipe = \"other\" }, { at = 0.5, recipe = \"other\" }", {"is not after the entry before"});
  refuses("{ at = 7, recipe = \"other\" }, { at = 6, recipe = \"other\" }", {"is not after the entry before"});
  refuses("{ at = 0.5, recipe = \"other\", gemms = [\"fprob\"] }", {"did you mean 'fprop'"});
  refuses("{ at = 0.5, recipe = \"other\", gemms = [] }", {"names no product"});
  refuses("{ at = 0.5, recipe = \"other\", gemm = [\"fprop\"] }", {"did you mean 'gemms'"});
}

TEST(Switch, ChecksTheMixedRecipe) {
  const std::string decoded =
      "rule = [ { linear = \"embedding,router,head\", use = \"bf16\" }, { operand = \"weight\", gemm = \"dgrad\", from "
      "= "
      "\"fprop\", via = \"direct\", decode = \"bf16\" }, { use = \"q\" } ]\n";
  const auto entry = [](const std::string& gemms) {
    return "switch = [ { at = 0.5, recipe = \"other\", gemms = [" + gemms + "] } ]\n";
  };
  expect_user_error([&] { (void)resolve(switched(decoded + entry("\"fprop\"") + kMxfp4, kPlain), model()); },
                    {"after the switch to folder/other.toml", "is not quantized"});
  (void)resolve(switched(decoded + entry("\"fprop\", \"dgrad\"") + kMxfp4, kPlain), model());
  const std::string own = kPlain + "switch = [ { at = 3, recipe = \"other\" } ]\n";
  expect_user_error([&] { (void)switched(kBlock + entry("\"fprop\"") + kMxfp4, own); }, {"a switch of its own"});
  const std::string delayed =
      "[quantizer]\nq = { like = \"fp8_tensor\", scale = { format = \"f32\", rule = \"absmax\", amax = { history = 4, "
      "reduce = \"max\" } } }\n";
  std::string longer = delayed;
  longer.replace(longer.find("history = 4"), 11, "history = 8");
  expect_user_error([&] { (void)resolve(switched(kBlock + entry("\"fprop\"") + delayed, kBlock + longer), model()); },
                    {"delayed scaling before and after the switch"});
  (void)resolve(switched(kBlock + entry("\"fprop\"") + delayed, kBlock + delayed), model());
}

}  // namespace
}  // namespace ng
