// SPDX-License-Identifier: Apache-2.0
//
// Claim: padding the rows of experts with zeros changes no bit of losses, gradients and measures, under every recipe,
// as long as
//   1. the alignment is a multiple of the Hadamard transform of wgrad, if the recipe has one: the transform mixes that
//      many neighbouring rows, and another multiple than the transform's is refused, not computed;
//   2. no chain of wgrad ends in -0: a zero product added to it makes +0. Chains start at +0, so that only one whose
//      every product underflows (below 2^-150) can;
//   3. the weights of experts are finite: zero rows times infinity are NaN.
// Alone: ctest -R padding
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "gradient/production.hpp"
#include "narrowgauge/base/error.hpp"

namespace {

using ng_test::Program;
using ng_test::ProgramResult;
using Ids = std::vector<std::int64_t>;

constexpr std::int64_t kSequences = 2;
constexpr std::int64_t kLength = 80;  // 160 tokens, 320 slots: experts of more and of fewer rows than any tile

/// Two MoE layers after a dense one; widths that are no multiple of a tile.
ng::ModelConfig config() {
  ng_oracle::ModelConfig c;
  c.name = "padding";
  c.vocabulary = 61;
  c.layers = 3;
  c.hidden = 48;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 12;
  c.dense_layers = 1;
  c.dense_width = 72;
  c.experts = 7;
  c.top_k = 2;
  c.expert_width = 40;
  c.shared_experts = 1;
  c.aux_coefficient = 0.01;
  c.z_coefficient = 0.001;
  c.init_std = 0.2;
  c.context = kLength;
  return ng_test::program_config(c);
}

std::vector<std::string> recipes() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(ng_test::recipe_folder()))
    if (file.path().extension() == ".toml") names.push_back(file.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Length of the longest transform along the rows; 1 without one.
std::int64_t longest_transform(const ng::ResolvedRecipe& recipe) {
  std::int64_t longest = 1;
  for (std::int64_t layer = 0; layer < config().layers; ++layer)
    for (const ng::Linear which : {ng::Linear::fc1, ng::Linear::fc2})
      if (recipe.has(layer, which)) {
        const ng::GemmSpec& wgrad = recipe.linear(layer, which).gemm[static_cast<int>(ng::Gemm::wgrad)];
        longest = std::max<std::int64_t>(longest, wgrad.a.quantizer.hadamard.size);
      }
  return longest;
}

/// The error sums of every quantized form, as bytes.
class Measures final : public ng::Tap {
 public:
  Measures(ng::Backend& backend, const ng::Edges& edges) : backend_(backend), edges_(edges) {}
  bool wants(const ng::StepContext&, const ng::Site&) const override { return true; }
  void quantized(const ng::QuantizationEvent& event) override {
    const bool column = event.quantized.orientation == ng::Orientation::column;
    ng::MeasureRequest request;
    request.row_spec = edges_.row_spec(event.site.index);
    request.double_quantization = request.scale_gap = column;
    request.transpose = !column;
    const ng::MeasureSums sums = backend_.measure(event, request).sums;
    std::vector<std::byte>& bytes = sums_[event.site.name];
    bytes.resize(sizeof sums);
    std::memcpy(bytes.data(), &sums, sizeof sums);
  }
  const std::map<std::string, std::vector<std::byte>>& sums() const { return sums_; }

 private:
  ng::Backend& backend_;
  const ng::Edges& edges_;
  std::map<std::string, std::vector<std::byte>> sums_;
};

struct Outcome {
  ProgramResult first, second;  ///< two micro-batches; the gradients of `second` are those of both
  std::map<std::string, std::vector<std::byte>> measures;
};

Outcome outcome_of(const std::string& recipe, std::int64_t alignment) {
  const std::int64_t tokens = kSequences * kLength;
  const Ids ids = ng_oracle::random_ids(2 * tokens, 61, 1), targets = ng_oracle::random_ids(2 * tokens, 61, 2);
  const auto part = [&](const Ids& all, std::int64_t i) {
    return Ids(all.begin() + i * tokens, all.begin() + (i + 1) * tokens);
  };
  Program program(config(), recipe, 2);
  program.model.set_row_alignment(alignment);
  Measures measures(*program.backend, program.edges);
  program.backend->set_tap(&measures);
  Outcome outcome;
  outcome.first = program.train(part(ids, 0), part(targets, 0), kSequences, kLength, 2 * tokens, 0, 0);
  outcome.second = program.train(part(ids, 1), part(targets, 1), kSequences, kLength, 2 * tokens, tokens, 1);
  outcome.measures = measures.sums();
  return outcome;
}

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) == 0) continue;
    FAIL() << what << "[" << i << "]: " << a[i] << " and " << b[i];
  }
}

void expect_same_bits(const ProgramResult& a, const ProgramResult& b) {
  expect_same_bits(a.token_losses, b.token_losses, "token losses");
  EXPECT_EQ(a.aux, b.aux);
  EXPECT_EQ(a.z, b.z);
  for (const auto& [name, gradient] : a.gradients) expect_same_bits(gradient, b.gradients.at(name), name);
}

class Padding : public testing::TestWithParam<std::string> {};

TEST_P(Padding, ChangesNoBit) {
  const std::int64_t transform = longest_transform(Program(config(), GetParam()).resolved);
  std::vector<std::int64_t> allowed;
  for (const std::int64_t alignment : {1, 5, 16, 32, 48, 128})
    if (alignment % transform == 0) allowed.push_back(alignment);
  const Outcome base = outcome_of(GetParam(), allowed.front());
  std::int64_t before = base.second.padding_rows;
  for (std::size_t i = 1; i < allowed.size(); ++i) {
    SCOPED_TRACE("rows padded to " + std::to_string(allowed[i]) + " against " + std::to_string(allowed.front()));
    const Outcome other = outcome_of(GetParam(), allowed[i]);
    EXPECT_GT(other.second.padding_rows, before) << "no more padding: nothing is tested";
    before = other.second.padding_rows;
    expect_same_bits(base.first, other.first);
    expect_same_bits(base.second, other.second);
    ASSERT_EQ(base.measures.size(), other.measures.size());
    for (const auto& [site, sums] : base.measures)
      EXPECT_TRUE(sums == other.measures.at(site)) << "measures of " << site;
  }
}

TEST_P(Padding, IsDemandedByATransformAlongTheRows) {
  const std::int64_t transform = longest_transform(Program(config(), GetParam()).resolved);
  if (transform == 1) {
    EXPECT_NO_THROW(outcome_of(GetParam(), 1));
    return;
  }
  for (const std::int64_t alignment : {std::int64_t{1}, transform / 2, transform + 1})
    EXPECT_THROW(outcome_of(GetParam(), alignment), ng::LogicError) << alignment;
}

INSTANTIATE_TEST_SUITE_P(Recipes, Padding, testing::ValuesIn(recipes()), [](const auto& which) { return which.param; });

/// Mean error relative to the mean magnitude, over many steps, of the rotated and stochastically rounded output
/// gradient of an expert of `tokens` rows, padded to 16.
double rounding_bias(std::int64_t tokens) {
  const auto backend = ng::make_cpu_backend({});
  const ng::ResolvedRecipe resolved = Program(config(), "nvfp4").resolved;
  const ng::QuantizerSpec& spec =
      resolved.linear(1, ng::Linear::fc1).gemm[static_cast<int>(ng::Gemm::wgrad)].a.quantizer;
  EXPECT_EQ(spec.hadamard.size, 16);
  EXPECT_EQ(spec.cast.rounding, ng::Rounding::stochastic);
  const std::int64_t C = 256, steps = 200;
  const ng::Tensor logits = backend->zeros(ng::Dtype::f32, tokens, 1);
  const ng::Routing routing = backend->route({1, 1, true, 0.0f, 0.0f, 16}, logits.view, {100, 1, 20, 0, nullptr});
  const ng::Tensor x = backend->tensor(ng::Dtype::f32, tokens, C);
  backend->fill_normal(x.view, {1, ng::RandomPurpose::initial_weights, 1, 0}, 1.0);
  ng::Tensor rows = backend->tensor(ng::Dtype::f32, 16, C);
  rows.view.placement = {100, C, 0, 0, routing.slot_of_row.view.as<const std::int64_t>()};
  backend->permute(routing, x.view, rows.view);
  const ng::Site site{"grad", 0, 77};
  double error = 0.0, size = 0.0;
  for (std::int64_t step = 0; step < steps; ++step) {
    const ng::StepContext context{1, step, 0, ng::Phase::train};
    const ng::QuantizedTensor q =
        backend->quantize(context, rows.view, routing.groups, spec, ng::Orientation::column, site);
    const ng::MeasureSums sums = backend->measure({context, site, rows.view, routing.groups, q}, {}).sums;
    EXPECT_EQ(sums.count, 16.0 * static_cast<double>(C));  // padding rows that the transform filled are measured
    error += sums.signed_error;
    size += sums.absolute;
  }
  return error / size;
}

// The transform of wgrad spreads the last rows of an expert over its padding rows: what lies there is part of the
// product and must be rounded with random bits of its own, without more bias than rows of tokens (which have a little:
// 8 random bits, saturation). Rounding error of an element: about 0.1 of its size; of the mean of 200 * 4096
// elements 1.1e-4; the data differ too: 1e-3. With draws of 0 the padded expert had -8.2e-2.
TEST(PaddingDraws, WhatATransformPutsIntoPaddingRowsIsRoundedWithoutBias) {
  const double full = rounding_bias(16);
  EXPECT_LT(std::abs(full), 5e-3);
  for (const std::int64_t tokens : {9, 13}) EXPECT_NEAR(rounding_bias(tokens), full, 1e-3) << tokens;
}

/// wgrad of one expert: dy [rows, 1] and x [rows, 1], filled up with zero rows.
float weight_gradient(const std::vector<float>& dy, const std::vector<float>& x, std::int64_t rows) {
  const auto backend = ng::make_cpu_backend({});
  const auto column = [&](std::vector<float> values) {
    values.resize(static_cast<std::size_t>(rows), 0.0f);
    ng::Form form{
        ng::Gemm::wgrad, ng::Orientation::column, ng::OperandKind::f32, backend->tensor(ng::Dtype::f32, rows, 1), {}};
    backend->upload(form.plain.view, values.data());
    return form;
  };
  const ng::Form a = column(dy), b = column(x);
  const ng::RowGroups groups{{0, rows}};
  const ng::Tensor out = backend->zeros(ng::Dtype::f32, 1, 1);
  const ng::Site site{"wgrad", 0, 0};
  backend->grouped_matmul({}, ng::Product{ng::Gemm::wgrad, &site, &a, &b, out.view, true, &groups});
  return out.view.as<float>()[0];
}

TEST(PaddingLimits, AGradientThatUnderflowsLosesItsSign) {
  const float bare = weight_gradient({-0x1p-100f}, {0x1p-100f}, 1);
  const float padded = weight_gradient({-0x1p-100f}, {0x1p-100f}, 2);
  EXPECT_EQ(bare, 0.0f);
  EXPECT_TRUE(std::signbit(bare));
  EXPECT_EQ(padded, 0.0f);
  EXPECT_FALSE(std::signbit(padded));
  // One product that is not lost decides, whatever is added.
  EXPECT_EQ(weight_gradient({-0x1p-100f, -0x1p-149f}, {0x1p-100f, 1.0f}, 2), -0x1p-149f);
  EXPECT_EQ(weight_gradient({-0x1p-100f, -0x1p-149f}, {0x1p-100f, 1.0f}, 64), -0x1p-149f);
}

// A zero row times an infinite weight: such a row is no longer zero. The losses of its expert are not finite either.
TEST(PaddingLimits, InfiniteWeightsReachPaddingRows) {
  const auto backend = ng::make_cpu_backend({});
  const ng::Tensor x = backend->zeros(ng::Dtype::f32, 1, 1), w = backend->tensor(ng::Dtype::f32, 1, 1);
  const float infinite = std::numeric_limits<float>::infinity();
  backend->upload(w.view, &infinite);
  const ng::Form a{ng::Gemm::fprop, ng::Orientation::row, ng::OperandKind::f32, x, {}};
  const ng::Form b{ng::Gemm::fprop, ng::Orientation::row, ng::OperandKind::f32, w, {}};
  const ng::RowGroups groups{{0, 1}};
  const ng::Tensor y = backend->tensor(ng::Dtype::f32, 1, 1);
  const ng::Site site{"fprop", 0, 0};
  backend->grouped_matmul({}, ng::Product{ng::Gemm::fprop, &site, &a, &b, y.view, false, &groups});
  EXPECT_TRUE(std::isnan(y.view.as<float>()[0]));
}

}  // namespace
