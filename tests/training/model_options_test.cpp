// SPDX-License-Identifier: Apache-2.0
//
// Claim: what threads, micro-batches and interruption must not change they do not change for latent attention, QK-norm,
// sigmoid gates, groups, router biases and capacity either; biases follow the load and evaluation leaves them alone; a
// run from its own initial weights as a file is the run itself, and a file that does not fit is refused.
// Alone: ctest -R training_runs.ModelOptions
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "narrowgauge/training/initial_weights.hpp"
#include "training/small_run.hpp"

namespace {

using ng_test::differing;
using ng_test::End;
using ng_test::end_of;
using ng_test::expect_equal;
using ng_test::Folder;
using ng_test::run;
using ng_test::Settings;
using ng_test::small_request;

// Balance and z losses are means over the tokens at hand: off where micro-batches are compared byte by byte.
const char* const kRouter = R"(
gate = "sigmoid"
routed_scaling = 2.5
route_groups = 2
route_groups_kept = 1
bias_rate = 0.01
capacity_factor = 1.0
balance = "sequence"
)";

struct Model {
  const char* name;
  std::string text;
};

std::vector<Model> models() {
  std::string grouped = ng_test::kSmallModel, latent = ng_test::kSmallModel;
  const auto set = [](std::string& text, const std::string& key, const std::string& value) {
    const std::size_t at = text.find("\n" + key + " = ") + key.size() + 4;
    text.replace(at, text.find('\n', at) - at, value);
  };
  for (std::string* text : {&grouped, &latent}) {
    set(*text, "aux_coefficient", "0.0");
    set(*text, "z_coefficient", "0.0");
    *text += kRouter;
  }
  set(latent, "kv_heads", "2");
  return {{"qk_norm_head", grouped + "qk_norm = \"head\"\n"},
          {"qk_norm_full", grouped + "drop = \"position\"\nqk_norm = \"full\"\n"},
          {"mla", latent + "[mla]\nq_rank = 32\nkv_rank = 32\nnope_dim = 16\nrope_dim = 16\nvalue_dim = 32\n"}};
}

ng::RunRequest request_of(const Model& model, const std::string& recipe, Settings settings = {}) {
  ng::RunRequest request = small_request(recipe, std::move(settings));
  request.model_text = model.text;
  return request;
}

std::vector<float> floats_of(const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

class ModelOptions : public testing::TestWithParam<Model> {};

TEST_P(ModelOptions, ThreadsMicroBatchesAndInterruptionChangeNothing) {
  const Folder folder(std::string("options-") + GetParam().name);
  const End whole = run(folder, "whole", request_of(GetParam(), "bf16"));
  EXPECT_LT(whole.evals.back().first, whole.evals.front().first) << "the run learnt nothing";
  expect_equal(whole, run(folder, "threads", request_of(GetParam(), "bf16"), 3));
  for (const char* pieces : {"2", "4"})
    expect_equal(whole, run(folder, std::string("micro") + pieces,
                            request_of(GetParam(), "bf16", {{"train.micro_batches", pieces}})));
  for (const int stop : {3, 4}) {
    const std::string file = folder.file("cut" + std::to_string(stop) + ".h5");
    ng::RunOptions options;
    int asked = 0;
    options.interrupted = [&] { return asked++ == stop; };
    EXPECT_THROW(ng::train_run(ng::plan_run(request_of(GetParam(), "bf16")), file, options), ng::InterruptedError);
    ng::resume_run(file, ng::RunOptions{});
    expect_equal(whole, end_of(file));
  }
}

// Every recipe finds rules for the linear layers of latent attention.
TEST_P(ModelOptions, TrainsUnderNarrowFormats) {
  const Folder folder(std::string("options-narrow-") + GetParam().name);
  for (const char* recipe : {"nvfp4", "fp8_blockwise"}) {
    const End end = run(folder, recipe, request_of(GetParam(), recipe, {{"train.steps", "4"}}));
    EXPECT_LT(end.evals.back().first, end.evals.front().first) << recipe;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ModelOptions, testing::ValuesIn(models()),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(RouterBias, FollowsTheLoadOfEveryStepAndNoEvaluation) {
  const Folder folder("bias");
  const Model model = models().front();
  const auto with = [&](const char* eval_every) {
    return request_of(model, "f32", {{"train.eval_every", eval_every}, {"train.micro_batches", "2"}});
  };
  const End end = run(folder, "often", with("1"));
  EXPECT_EQ(differing(end, run(folder, "never", with("0"))), std::vector<std::string>{});
  // From the recorded load: 4 * 64 tokens, 2 slots each, 4 experts.
  const ng::RunReader reader(folder.file("often.h5"));
  std::vector<float> expected(4, 0.0f);
  float dropped = 0.0f;
  for (const ng::MoeRow& row : reader.moe()) {
    for (std::size_t e = 0; e < 4; ++e) {
      if (row.load[e] < 128.0f) expected[e] += 0.01f;
      if (row.load[e] > 128.0f) expected[e] += -0.01f;
    }
    dropped += row.dropped[0];
    EXPECT_LE(row.dropped[0], 1.0f);
  }
  EXPECT_GT(dropped, 0.0f);
  EXPECT_EQ(floats_of(end.tensors.at("master/layer.1/router_bias")), expected);
  EXPECT_FALSE(end.tensors.contains("adam_m/layer.1/router_bias"));
}

TEST(InitialWeights, AFileOfTheOwnWeightsChangesNothing) {
  const Folder folder("init");
  for (const Model& model : models()) {
    ng::RunRequest request = request_of(model, "f32", {{"train.steps", "2"}});
    const End random = run(folder, std::string(model.name) + "-random", request);
    const std::string random_id = ng::plan_run(request).run_id;
    const auto backend = ng::make_cpu_backend({});
    const ng::Parameters parameters(ng::plan_run(request).model, *backend, request.seed);
    request.init_path = folder.file(std::string(model.name) + ".safetensors");
    ng::write_weights(request.init_path, *backend, parameters);
    EXPECT_NE(ng::plan_run(request).run_id, random_id) << "the file is part of the identity";
    expect_equal(random, run(folder, std::string(model.name) + "-file", request));
    // Its values are what counts, not the seed; and a resumed run finds it.
    const std::string file = folder.file(std::string(model.name) + "-cut.h5");
    ng::RunOptions options;
    options.interrupted = [] { return true; };
    EXPECT_THROW(ng::train_run(ng::plan_run(request), file, options), ng::InterruptedError);
    ng::resume_run(file, ng::RunOptions{});
    expect_equal(random, end_of(file));
  }
}

TEST(InitialWeights, AFileThatDoesNotFitIsRefused) {
  const Folder folder("init-wrong");
  const Model model = models().front();
  ng::RunRequest request = request_of(model, "f32");
  const auto backend = ng::make_cpu_backend({});
  const ng::ModelConfig config = ng::plan_run(request).model;
  const ng::Parameters parameters(config, *backend, 0);
  using Tensors = std::vector<std::pair<std::string, ng::Array>>;
  Tensors whole;
  for (const ng::Parameter& p : parameters.all()) {
    std::vector<float> values(static_cast<std::size_t>(p.master.view.count()));
    backend->download(values.data(), p.master.view);
    whole.emplace_back(p.name, ng::Array::from<float>(p.shape, values));
  }
  struct Case {
    const char* message;
    std::function<void(Tensors&)> damage;
  };
  const Case cases[] = {
      {"has no tensor 'layer.1/router_bias', which model test needs with shape [4]",
       [](Tensors& t) { std::erase_if(t, [](const auto& each) { return each.first == "layer.1/router_bias"; }); }},
      {"tensor 'layer.0/q_norms' is no parameter of model test; the nearest is 'layer.0/q_norm'",
       [](Tensors& t) { t.emplace_back("layer.0/q_norms", t.front().second); }},
      {"tensor 'embedding' has shape [64, 256]; model test needs [256, 64]",
       [](Tensors& t) { std::swap(t.front().second.shape[0], t.front().second.shape[1]); }},
      {"tensor 'embedding' is I32; valid: F32, BF16, F16", [](Tensors& t) { t.front().second.dtype = ng::Dtype::i32; }},
  };
  request.init_path = folder.file("wrong.safetensors");
  for (const Case& c : cases) {
    Tensors tensors = whole;
    c.damage(tensors);
    ng::write_safetensors(request.init_path, tensors);
    try {
      (void)ng::plan_run(request);
      ADD_FAILURE() << "accepted: " << c.message;
    } catch (const ng::UserError& error) {
      EXPECT_EQ(std::string(error.what()), request.init_path + ": " + c.message);
    }
  }
  Tensors tensors = whole;
  const float infinite = INFINITY;
  std::memcpy(tensors.front().second.data.data() + 4, &infinite, 4);
  ng::write_safetensors(request.init_path, tensors);
  EXPECT_THROW(run(folder, "infinite", request), ng::UserError);
}

}  // namespace
