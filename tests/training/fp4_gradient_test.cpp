// SPDX-License-Identifier: Apache-2.0
//
// Claims about the recipe fp4_dge_occ in a model: the estimator changes nothing but weight gradients, each of which is
// the straight-through one times the oracle's factor for the oracle's scaled weight; a compensated product is the
// oracle's clamped product continued by the oracle's compensation, bit for bit; decoded forms of the backward products
// are the forward's codes, with the residual where it is asked for. Alone: ctest -R training_fp4
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "gradient/production.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "oracle/estimator.hpp"
#include "oracle/formats.hpp"
#include "oracle/outliers.hpp"
#include "training/small_run.hpp"

namespace {

using namespace ng;

/// Weights, tokens and one training pass of the small model.
struct Pass {
  explicit Pass(const std::string& recipe_text)
      : backend(make_cpu_backend({2, Arithmetic::ieee, false})),
        communicator(make_single_rank()),
        config(ModelConfig::from_document(TomlDocument::from_text("model", ng_test::kSmallModel))),
        resolved(resolve(Recipe::from_text("recipe", recipe_text), config.shape())),
        edges(config, resolved),
        model(config, *backend, *communicator, 5) {
    std::vector<std::int32_t> ids, targets;
    for (int t = 0; t < 128; ++t) {
      ids.push_back(t * 37 % 251);
      targets.push_back((t * 53 + 7) % 256);
    }
    model.parameters().zero_gradients(*backend);
    const Batch batch{ids, targets, 2, 64, 128, 0};
    const ForwardResult result = model.train({5, 0, 0, Phase::train}, batch, edges);
    losses = floats(result.token_loss.view);
    for (const Parameter& p : model.parameters().all()) before[p.name] = floats(p.gradient.view);
    model.finish_gradients(edges);
    for (const Parameter& p : model.parameters().all()) {
      gradients[p.name] = floats(p.gradient.view);
      weights[p.name] = floats(p.master.view);
      columns[p.name] = p.shape.back();
    }
  }

  std::vector<float> floats(const TensorView& view) const {
    std::vector<float> values(static_cast<std::size_t>(view.count()));
    backend->download(values.data(), view);
    return values;
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> communicator;
  ModelConfig config;
  ResolvedRecipe resolved;
  Edges edges;
  Model model;
  std::vector<float> losses;
  std::map<std::string, std::vector<float>> before, gradients, weights;
  std::map<std::string, std::int64_t> columns;
};

std::string recipe_with(const std::string& from, const std::string& to) {
  std::string text = ng_test::file_text(ng_test::recipe_folder() / "fp4_dge_occ.toml");
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// The factor of a weight, from the oracle's scaled weight: largest code over the row's largest magnitude.
long double oracle_factor(const ng_oracle::EstimatorChoices& choices, float w, float amax) {
  return ng_oracle::dge_factor(ng_oracle::format("e2m1"), choices, w * (6.0f / amax));
}

TEST(Fp4DgeOcc, WeightGradientsAreStraightThroughTimesTheOraclesFactor) {
  const char* const published = "k = 5, clip = 3.0, beyond = \"zero\", normalize = false";
  struct Variant {
    const char* text;
    ng_oracle::EstimatorChoices choices;
  };
  const Variant variants[] = {
      {published, {5, 3, ng_oracle::Beyond::zero, false}},
      {"k = 3, clip = 2.0, beyond = \"one\", normalize = true", {3, 2, ng_oracle::Beyond::one, true}},
      {"k = 10", {10, 3, ng_oracle::Beyond::zero, false}},
  };
  const Pass plain(recipe_with("kind = \"differentiable\", " + std::string(published), "kind = \"straight_through\""));
  for (const Variant& variant : variants) {
    const Pass pass(recipe_with(published, variant.text));
    EXPECT_EQ(pass.losses, plain.losses) << "the forward pass keeps the hard quantizer";
    EXPECT_EQ(pass.before, plain.before);
    std::int64_t multiplied = 0, changed = 0;
    for (const auto& [name, gradient] : pass.gradients) {
      const std::vector<float>& w = pass.weights.at(name);
      const std::vector<float>& straight = plain.gradients.at(name);
      const bool kept = name.find("norm") != std::string::npos || name.find("router") != std::string::npos ||
                        name == "embedding" || name == "head";
      if (kept) {
        EXPECT_EQ(gradient, straight) << name;
        continue;
      }
      const auto cols = static_cast<std::size_t>(pass.columns.at(name));
      for (std::size_t row = 0; row < w.size(); row += cols) {
        float amax = 0;
        for (std::size_t c = 0; c < cols; ++c) amax = std::max(amax, std::fabs(w[row + c]));
        for (std::size_t c = 0; c < cols; ++c) {
          const long double factor = oracle_factor(variant.choices, w[row + c], amax);
          // FP64 arithmetic of the program is off by less than 2^-46 of the factor.
          const float low = straight[row + c] * static_cast<float>(factor * (1 - 0x1p-46L));
          const float high = straight[row + c] * static_cast<float>(factor * (1 + 0x1p-46L));
          const float got = gradient[row + c];
          ASSERT_TRUE(got == low || got == high) << name << " " << row << "+" << c << ": " << got << ", not " << low;
          ++multiplied;
          changed += got != straight[row + c] ? 1 : 0;
        }
      }
    }
    EXPECT_GT(multiplied, 10000);
    EXPECT_GT(changed, multiplied / 2);
  }
}

TEST(Fp4DgeOcc, TiedHeadsRefuseAnEstimatorOnTheHead) {
  ng::RunRequest request = ng_test::small_request("fp4_dge_occ", {{"model.tied_head", "true"}});
  EXPECT_NO_THROW((void)plan_run(request));
  const std::string kept = "linear = \"embedding,router,head\"";
  request.recipe_text.replace(request.recipe_text.find(kept), kept.size(), "linear = \"embedding,router\"");
  EXPECT_THROW((void)plan_run(request), UserError);
}

std::vector<float> values(std::int64_t count, std::uint32_t seed) {
  std::vector<float> v(static_cast<std::size_t>(count));
  std::uint32_t state = seed;
  for (float& x : v) {
    state = state * 1664525u + 1013904223u;
    x = (static_cast<float>(state >> 8) / 8388608.0f - 1.0f) * (state % 31 == 0 ? 20.0f : 1.0f);
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    bits &= 0xffff0000u;  // exact in BF16
    std::memcpy(&x, &bits, 4);
  }
  return v;
}

// Experts of one expert without tokens; the weight quantized or not, the residual in each format.
TEST(Fp4DgeOcc, CompensatedProductsContinueTheOraclesChain) {
  const auto backend = make_cpu_backend({2, Arithmetic::ieee, false});
  const std::int64_t R = 96, K = 128, N = 40;
  RowGroups groups, stack;
  groups.offsets = {0, 64, 64, R};
  stack.offsets = {0, N, 2 * N, 3 * N};
  const std::vector<float> x = values(R * K, 3), w = values(3 * N * K, 4);
  Tensor tx = backend->tensor(Dtype::f32, R, K), tw = backend->tensor(Dtype::f32, 3 * N, K);
  backend->upload(tx.view, x.data());
  backend->upload(tw.view, w.data());
  const Site site{"edge", 0, 9};
  for (const char* format : {"bf16", "e4m3", "e5m2"}) {
    for (const Compensate against : {Compensate::quantized, Compensate::original}) {
      FormRequest a{Gemm::fprop, Operand::activation, {}, &site}, b{Gemm::fprop, Operand::weight, {}, &site};
      a.spec.kind = b.spec.kind = OperandKind::quantized;
      a.spec.quantizer = parse_quantizer(std::string("fp4_token,outlier=0.97:row:") + format);
      b.spec.quantizer = parse_quantizer("fp4_token");
      const TensorForms fx = backend->produce({}, tx, groups, std::span(&a, 1));
      const TensorForms fw = backend->produce({}, tw, stack, std::span(&b, 1));
      ASSERT_GT(fx.forms[0].quantized->residual->count, R);
      const Tensor out = backend->tensor(Dtype::bf16, R, N);
      Product product{Gemm::fprop, &site, &fx.forms[0], &fw.forms[0], out.view, false, &groups};
      product.compensate = against;
      product.weight = &tw.view;
      backend->grouped_matmul({}, product);

      const Tensor da = backend->tensor(Dtype::f32, R, K), dw = backend->tensor(Dtype::f32, 3 * N, K);
      backend->dequantize(*fx.forms[0].quantized, da.view);
      backend->dequantize(*fw.forms[0].quantized, dw.view);
      for (std::size_t g = 0; g < 3; ++g) {
        const std::int64_t begin = groups.offsets[g], rows = groups.offsets[g + 1] - begin;
        const auto part = [](const float* from, std::int64_t count) { return std::vector<float>(from, from + count); };
        const ng_oracle::OutlierSplit split =
            ng_oracle::split_outliers(part(x.data() + begin * K, rows * K), static_cast<std::size_t>(rows),
                                      static_cast<std::size_t>(K), 0.97, false, format);
        const auto first = static_cast<std::int64_t>(g) * N * K;
        const std::vector<float> decoded = part(dw.view.as<float>() + first, N * K);
        std::vector<float> sums(static_cast<std::size_t>(rows * N), 0.0f);
        for (std::int64_t m = 0; m < rows; ++m)
          for (std::int64_t n = 0; n < N; ++n)
            for (std::int64_t k = 0; k < K; ++k) {
              float& sum = sums[static_cast<std::size_t>(m * N + n)];
              sum =
                  std::fma(da.view.as<float>()[(begin + m) * K + k], decoded[static_cast<std::size_t>(n * K + k)], sum);
            }
        ng_oracle::add_compensation(split, static_cast<std::size_t>(rows), static_cast<std::size_t>(K),
                                    against == Compensate::quantized ? decoded : part(w.data() + first, N * K),
                                    static_cast<std::size_t>(N), sums);
        for (std::int64_t i = 0; i < rows * N; ++i) {
          const float rounded = ng_oracle::round_to_bf16(sums[static_cast<std::size_t>(i)]);
          std::uint32_t bits;
          std::memcpy(&bits, &rounded, 4);
          ASSERT_EQ(out.view.as<std::uint16_t>()[begin * N + i], bits >> 16) << format << " group " << g << " at " << i;
        }
      }
    }
  }
}

TEST(Fp4DgeOcc, BackwardReadsTheForwardsCodes) {
  const auto backend = make_cpu_backend({1, Arithmetic::ieee, false});
  const std::int64_t R = 64, K = 96;
  const std::vector<float> x = values(R * K, 8);
  Tensor tx = backend->tensor(Dtype::f32, R, K);
  backend->upload(tx.view, x.data());
  const Site site{"edge", 0, 9};
  FormRequest first{Gemm::fprop, Operand::activation, {}, &site};
  first.spec.kind = OperandKind::quantized;
  first.spec.quantizer = parse_quantizer("fp4_token,outlier=0.97:row:bf16");
  FormRequest direct{Gemm::wgrad, Operand::activation, {}, &site};
  direct.spec.kind = OperandKind::f32;
  direct.spec.source = FormSource::fprop;
  for (const DecodedResidual residual : {DecodedResidual::dropped, DecodedResidual::added}) {
    direct.spec.residual = residual;
    const FormRequest requests[] = {first, direct};
    const TensorForms forms = backend->produce({}, tx, RowGroups{}, requests);
    const ng_oracle::OutlierSplit split =
        ng_oracle::split_outliers(x, static_cast<std::size_t>(R), static_cast<std::size_t>(K), 0.97, false, "bf16");
    const Tensor decoded = backend->tensor(Dtype::f32, R, K);
    backend->dequantize(*forms.forms[0].quantized, decoded.view);
    std::int64_t outliers = 0;
    for (std::int64_t i = 0; i < R * K; ++i) {
      const float rest = split.residual[static_cast<std::size_t>(i)];
      outliers += rest != 0.0f ? 1 : 0;
      const float expected = decoded.view.as<float>()[i] + (residual == DecodedResidual::added ? rest : 0.0f);
      ASSERT_EQ(forms.forms[1].plain.view.as<float>()[i], expected);
    }
    EXPECT_GT(outliers, R);
  }
}

}  // namespace
