// SPDX-License-Identifier: Apache-2.0
//
// Claim: matmul, grouped_matmul and carrier_losses of the CUDA backend leave the CPU backend's bytes, with both
// arithmetics: fprop, dgrad and wgrad, ragged and empty groups, odd shapes and strides, both outputs, accumulation,
// every recipe's operands and every preset's. Alone: build/release/bin/operations_on_host
// --gtest_filter='OperationParity.Products*'
#include <algorithm>
#include <filesystem>

#include "narrowgauge/numerics/hopper_product.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "operations/products.hpp"

namespace ng_test {
namespace {

using namespace ng;

/// The product under both arithmetics, where the tensor core has it.
void expect_products(const std::string& name, const Shape& shape, const GemmSpec& spec, Gemm gemm,
                     const Choice& choice) {
  for (const Arithmetic arithmetic : {Arithmetic::ieee, Arithmetic::hopper}) {
    if (arithmetic == Arithmetic::hopper && hopper_product(spec).refusal != HopperRefusal::none) continue;
    static const char* const kGemms[] = {"fprop", "dgrad", "wgrad"};
    OperationParity::expect_parity(
        name + " " + kGemms[static_cast<int>(gemm)] + (arithmetic == Arithmetic::ieee ? " ieee" : " hopper") + ", " +
            std::to_string(shape.rows) + " " + std::to_string(shape.in) + " " + std::to_string(shape.out) +
            (choice.accumulate ? " accumulated" : "") + (choice.out == Dtype::bf16 ? " to bf16" : ""),
        [&](Backend& b) { return multiply(b, shape, spec, gemm, choice); }, arithmetic);
  }
}

std::vector<Shape> shapes_for(bool transformed) {
  std::vector<Shape> shapes = {{48, 256, 16, ragged_groups(48, 16), 0}, {272, 16, 32, {}, 0}};
  if (!transformed) shapes.push_back({53, 35, 19, ragged_groups(53, 1), 3});
  return shapes;
}

Choice choice_of(Gemm gemm, std::uint32_t seed) {
  const Values values = seed % 5 == 0 ? Values::special : seed % 5 == 1 ? Values::wide : Values::normal;
  const bool accumulate = gemm == Gemm::wgrad && seed % 3 != 0;
  return {values, accumulate || seed % 2 == 0 ? Dtype::f32 : Dtype::bf16, accumulate, seed};
}

constexpr Gemm kGemms[] = {Gemm::fprop, Gemm::dgrad, Gemm::wgrad};

TEST_F(OperationParity, ProductsOfPlainOperands) {
  std::uint32_t seed = 0;
  const std::vector<Shape> shapes = {
      {96, 64, 32, {}, 0}, {112, 48, 40, ragged_groups(112, 1), 0},  {77, 53, 19, ragged_groups(77, 1), 3},
      {1, 8, 1, {}, 0},    {40, 1, 3, RowGroups{{0, 0, 40, 40}}, 5}, {0, 16, 16, RowGroups{{0, 0, 0}}, 0}};
  for (const Shape& shape : shapes)
    for (const OperandKind a : {OperandKind::bf16, OperandKind::f32})
      for (const OperandKind b : {OperandKind::bf16, OperandKind::f32})
        for (const Accumulate accumulate : {Accumulate::promoted, Accumulate::fp32_chain})
          for (const Gemm gemm : kGemms) {
            GemmSpec spec;
            spec.a = plain(a);
            spec.b = plain(b);
            spec.accumulate = accumulate;
            expect_products("plain", shape, spec, gemm, choice_of(gemm, ++seed));
          }
}

TEST_F(OperationParity, ProductsOfEveryPreset) {
  std::uint32_t seed = 100;
  for (const NamedSpec& named : training_specs()) {
    if (named.spec.cast.nan == NanChoice::error) continue;
    for (const Shape& shape : shapes_for(named.spec.hadamard.size != 0))
      for (const Gemm gemm : kGemms) {
        ++seed;
        GemmSpec spec;
        spec.a = spec.b = quantized(named.spec);
        spec.accumulate = seed % 2 == 0 ? Accumulate::fast : Accumulate::promoted;
        if (hopper_product(spec).refusal == HopperRefusal::fast_block_scales) spec.accumulate = Accumulate::promoted;
        expect_products(named.name, shape, spec, gemm, choice_of(gemm, seed));
      }
  }
}

// Scales of one operand only, of two kinds, E5M2 with E4M3, E2M1 carried as E4M3, beside BF16.
TEST_F(OperationParity, ProductsOfMixedOperands) {
  QuantizerSpec e5m2 = preset("fp8_tensor");
  e5m2.element_id = FormatId::e5m2;
  e5m2.element = format_of(FormatId::e5m2);
  QuantizerSpec blocks_e5m2 = e5m2;
  blocks_e5m2.tile_rows = 1, blocks_e5m2.tile_cols = 128;
  QuantizerSpec powers = preset("fp8_1x128");
  powers.rule = ScaleRule::absmax_pow2;
  const std::vector<std::pair<std::string, OperandSpec>> operands = {
      {"bf16", plain(OperandKind::bf16)},
      {"tensor", quantized(preset("fp8_tensor"))},
      {"e5m2", quantized(e5m2)},
      {"bare e5m2", quantized(bare_cast(FormatId::e5m2))},
      {"1x128", quantized(preset("fp8_1x128"))},
      {"1x128 e5m2", quantized(blocks_e5m2)},
      {"1x128 pow2", quantized(powers)},
      {"128x128", quantized(preset("fp8_128x128"))},
      {"fp4 token", quantized(preset("fp4_token"))},
      {"mxfp4", quantized(preset("mxfp4"))},
      {"nvfp4", quantized(preset("nvfp4"))},
  };
  std::uint32_t seed = 1000;
  for (const auto& [name_a, a] : operands)
    for (const auto& [name_b, b] : operands)
      for (const Carrier carrier : {Carrier::bf16, Carrier::e4m3}) {
        ++seed;
        GemmSpec spec;
        spec.a = a;
        spec.b = b;
        spec.carrier = carrier;
        spec.accumulate = seed % 3 == 0 ? Accumulate::fast : Accumulate::promoted;
        const Gemm gemm = kGemms[seed % 3];
        const std::vector<Shape> shapes = shapes_for(false);
        expect_products(name_a + " " + name_b, shapes[seed / 3 % shapes.size()], spec, gemm, choice_of(gemm, seed));
      }
}

TEST_F(OperationParity, ProductsOfOutlierSplits) {
  std::uint32_t seed = 1500;
  for (const Compensate compensate : {Compensate::quantized, Compensate::original})
    for (const bool quantized_weight : {true, false})
      for (const Shape& shape : shapes_for(false)) {
        GemmSpec spec;
        spec.a = quantized(preset("fp4_token"));
        spec.a.quantizer.outlier = {0.9, OutlierScope::row, OutlierResidual::bf16};
        spec.b = quantized_weight ? quantized(preset("fp4_channel")) : plain(OperandKind::bf16);
        spec.compensate = compensate;
        expect_products("outliers", shape, spec, Gemm::fprop, choice_of(Gemm::fprop, ++seed));
      }
}

ModelShape model_with_everything() {
  ModelShape model;
  model.name = "everything";
  model.layers = 4;
  model.dense_layers = 1;
  model.shared_experts = true;
  for (const Linear linear :
       {Linear::attn_qkv, Linear::attn_out, Linear::router, Linear::fc1, Linear::fc2, Linear::shared_fc1,
        Linear::shared_fc2, Linear::dense_fc1, Linear::dense_fc2, Linear::embedding, Linear::head})
    model.linear[static_cast<std::size_t>(linear)] = LinearShape{64, 64, 1.0};
  return model;
}

TEST_F(OperationParity, ProductsOfEveryRecipe) {
  std::filesystem::path folder = "studies/recipes";  // where a GPU's machine has no sources elsewhere
  if (!std::filesystem::exists(folder)) folder = NG_SOURCE_DIR "/studies/recipes";
  const ModelShape model = model_with_everything();
  std::uint32_t seed = 2000;
  int recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".toml") continue;
    ++recipes;
    const ResolvedRecipe recipe = resolve(Recipe::from_file(entry.path()), model);
    std::vector<GemmSpec> seen;
    for (std::int64_t layer = kOutsideLayers; layer < model.layers; ++layer)
      for (int which = 0; which < kLinearCount; ++which)
        for (const Gemm gemm : kGemms) {
          const Linear linear = static_cast<Linear>(which);
          if (!recipe.has(layer, linear)) continue;
          GemmSpec spec = recipe.linear(layer, linear).gemm[static_cast<int>(gemm)];
          if (std::find(seen.begin(), seen.end(), spec) != seen.end()) continue;
          seen.push_back(spec);
          const bool transformed = spec.a.quantizer.hadamard.size != 0;
          for (const Shape& shape : shapes_for(transformed))
            expect_products(entry.path().stem().string(), shape, spec, gemm, choice_of(gemm, ++seed));
        }
  }
  EXPECT_GE(recipes, 10);
}

}  // namespace
}  // namespace ng_test
