// SPDX-License-Identifier: Apache-2.0
//
// Claim: every recipe under studies/recipes resolves on every model under studies/models, is called what its file is
// called, opens with its source, and is what its name promises. Alone: build/bin/unit_studies
// --gtest_filter='RecipeFiles.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <vector>

#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "recipe_text_errors.hpp"

namespace ng {
namespace {

const std::filesystem::path kStudies = std::filesystem::path(NG_SOURCE_DIR) / "studies";

std::vector<std::filesystem::path> files(const char* folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(kStudies / folder))
    if (entry.path().extension() == ".toml") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

ModelShape tiny() {
  return ModelConfig::from_file(kStudies / "models/tiny.toml").shape();
}
ResolvedRecipe on(const char* recipe, const ModelShape& model) {
  return resolve(Recipe::from_file(kStudies / "recipes" / (std::string(recipe) + ".toml")), model);
}

TEST(RecipeFiles, ResolveOnEveryModel) {
  ASSERT_GE(files("recipes").size(), 8u);
  ASSERT_GE(files("models").size(), 2u);
  for (const auto& model_path : files("models")) {
    const ModelConfig model = ModelConfig::from_file(model_path);
    EXPECT_EQ(model.name, model_path.stem());
    std::map<std::string, std::string> digests;
    for (const auto& path : files("recipes")) {
      SCOPED_TRACE(path.string() + " on " + model.name);
      const Recipe recipe = Recipe::from_file(path);
      EXPECT_EQ(recipe.name, path.stem());
      EXPECT_FALSE(recipe.description.empty());
      EXPECT_TRUE(recipe.text.starts_with("# "));
      const ResolvedRecipe resolved = resolve(recipe, model.shape());
      double share = 0;
      for (const FormatShare& row : resolved.flop_shares) share += row.share;
      EXPECT_NEAR(share, 1.0, 1e-12);  // a sum of at most 20 doubles below 1
      EXPECT_TRUE(digests.emplace(resolved.digest(), recipe.name).second)
          << "the same as " << digests[resolved.digest()];
      // Recipes that decode their codes for the backward products have quantized operands in fprop only: a third, less
      // the head's share (a tenth of all products on Qwen3).
      EXPECT_GT(recipe.quantizers.empty() ? 1.0 : resolved.quantized_share(), 0.25);
    }
  }
}

// Unquantized kinds are the same in every recipe but f32, so that a difference of losses is one of formats.
TEST(RecipeFiles, RouterEmbeddingAndHeadStayOut) {
  for (const auto& path : files("recipes")) {
    const ResolvedRecipe r = resolve(Recipe::from_file(path), tiny());
    const OperandKind kind = path.stem() == "f32" ? OperandKind::f32 : OperandKind::bf16;
    EXPECT_EQ(r.embedding, kind) << path;
    EXPECT_EQ(r.tensors.residual, kind) << path;
    for (const GemmSpec& gemm : r.linear(kOutsideLayers, Linear::head).gemm) EXPECT_EQ(gemm.a.kind, kind) << path;
    for (const GemmSpec& gemm : r.linear(0, Linear::router).gemm) EXPECT_EQ(gemm.b.kind, kind) << path;
  }
}

TEST(RecipeFiles, ControlsAreOneFieldAway) {
  const ModelShape model = tiny();
  const QuantizerSpec plain = on("mxfp4", model).linear(0, Linear::fc1).gemm[0].a.quantizer;
  const auto only = [&](const char* recipe, const char* text) {
    const ResolvedRecipe r = on(recipe, model);
    for (const Linear which : {Linear::attn_qkv, Linear::attn_out, Linear::fc1, Linear::fc2}) {
      for (const GemmSpec& gemm : r.linear(3, which).gemm) {
        EXPECT_EQ(gemm.a.quantizer, parse_quantizer(text)) << recipe;
        EXPECT_EQ(gemm.b.quantizer, parse_quantizer(text)) << recipe;
      }
    }
  };
  EXPECT_EQ(plain, parse_quantizer("mxfp4,rule=floor,rounding=nearest_even"));
  only("mxfp4", "mxfp4");
  only("mxfp4_toward_zero", "mxfp4,rounding=toward_zero");
  only("mxfp4_sr_all", "mxfp4,rounding=stochastic:8");
  only("mxfp8", "mxfp8_e4m3,rule=rceil");
}

TEST(RecipeFiles, Nvfp4IsAsPublished) {
  ModelShape model = tiny();
  const ResolvedRecipe small = on("nvfp4", model);
  const LinearSpec& spec = small.linear(0, Linear::fc1);
  EXPECT_EQ(spec.gemm[0].a.quantizer, parse_quantizer("nvfp4"));
  EXPECT_EQ(spec.gemm[0].b.quantizer, parse_quantizer("nvfp4_2d"));
  EXPECT_EQ(spec.gemm[1].a.quantizer, parse_quantizer("nvfp4,rounding=stochastic:8"));
  EXPECT_EQ(spec.gemm[1].b.quantizer, parse_quantizer("nvfp4_2d"));
  EXPECT_EQ(spec.gemm[2].a.quantizer, parse_quantizer("nvfp4,rounding=stochastic:8,hadamard=16:te_fixed:bf16"));
  EXPECT_EQ(spec.gemm[2].b.quantizer, parse_quantizer("nvfp4,hadamard=16:te_fixed:bf16"));
  model.layers = 62;  // the paper's 12B model keeps the first 2 and the last 8
  const ResolvedRecipe large = on("nvfp4", model);
  for (std::int64_t layer = 0; layer < 62; ++layer)
    EXPECT_EQ(large.linear(layer, Linear::fc1).gemm[0].a.kind == OperandKind::bf16, layer < 2 || layer >= 54) << layer;
}

TEST(RecipeFiles, Fp8BlockwiseRequantizesAttentionOutput) {
  const ResolvedRecipe r = on("fp8_blockwise", tiny());
  const LinearSpec& out = r.linear(1, Linear::attn_out);
  EXPECT_EQ(out.gemm[2].b.source, FormSource::saved);
  EXPECT_EQ(out.saved.kind, SavedKind::codes);
  EXPECT_EQ(out.saved.quantizer, parse_quantizer("fp8_1x128,rule=absmax_pow2,element=e5m6"));
  EXPECT_EQ(r.linear(1, Linear::fc2).saved.kind, SavedKind::recomputed);
  EXPECT_EQ(r.linear(1, Linear::fc2).saved.quantizer, parse_quantizer("fp8_1x128"));
  EXPECT_EQ(r.linear(1, Linear::fc1).saved.kind, SavedKind::original);
  EXPECT_EQ(out.gemm[2].b.quantizer, parse_quantizer("fp8_1x128,rule=absmax_pow2"));
  EXPECT_EQ(out.gemm[0].a.quantizer, parse_quantizer("fp8_1x128,rule=absmax_pow2"));
  EXPECT_EQ(out.gemm[0].b.quantizer, parse_quantizer("fp8_128x128"));
  EXPECT_EQ(r.linear(1, Linear::fc1).gemm[2].b.source, FormSource::original);
  EXPECT_EQ(r.linear(1, Linear::fc1).gemm[1].a.quantizer, parse_quantizer("fp8_1x128"));
}

TEST(RecipeFiles, QuantizersAreNamedFromOutside) {
  const std::string file = (kStudies / "recipes/fp8_blockwise.toml").string();
  EXPECT_EQ(parse_quantizer_with_recipes(file + "#act_p2,tile=1x64"),
            parse_quantizer("fp8_1x128,rule=absmax_pow2,tile=1x64"));
  expect_user_error([&] { (void)parse_quantizer_with_recipes(file + "#act_p3"); },
                    {"no quantizer 'act_p3'", "did you mean 'act_p2'"});
  expect_user_error([&] { (void)parse_quantizer_with_recipes("nowhere.toml#act"); }, {"nowhere.toml"});
}

}  // namespace
}  // namespace ng
