// SPDX-License-Identifier: Apache-2.0
//
// Claim: a model file is read strictly and counted rightly: Mixtral 8x7B has the published 46.7 B and 12.9 B
// parameters. Alone: build/bin/unit_studies --gtest_filter='ModelConfig.*'
#include <gtest/gtest.h>

#include <filesystem>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "recipe_text_errors.hpp"

namespace ng {
namespace {

std::string text_of(const char* name) {
  return read_file(std::filesystem::path(NG_SOURCE_DIR) / "studies/models" / (std::string(name) + ".toml"));
}
ModelConfig model(const char* name) {
  return ModelConfig::from_text(name, text_of(name));
}

std::string with(std::string text, const std::string& key, const std::string& value) {
  const std::size_t at = text.find("\n" + key + " = ");
  EXPECT_NE(at, std::string::npos) << key;
  const std::size_t begin = at + key.size() + 4;
  return text.replace(begin, text.find('\n', begin) - begin, value);
}

TEST(ModelConfig, CountsMixtralAsPublished) {
  const ModelConfig mixtral = model("mixtral_8x7b");
  EXPECT_EQ(mixtral.total_parameters(), 46702792704);
  EXPECT_EQ(mixtral.active_parameters(), 12879925248);
}

TEST(ModelConfig, CountsEveryPart) {
  const ModelConfig small = model("small");
  std::int64_t total = 2 * 256 * 256 + 256;                        // embedding, head, final norm
  total += 6 * (2 * 256 + 256 * (8 + 2 * 4) * 32 + 256 * 8 * 32);  // norms, qkv, out
  total += 3 * 256 * 768;                                          // dense layer
  total += 5 * (256 * 16 + 16 * 3 * 256 * 128 + 3 * 256 * 128);    // router, experts, shared
  EXPECT_EQ(small.total_parameters(), total);
  EXPECT_EQ(small.active_parameters(), total - 5 * 14 * 3 * 256 * 128);
  ModelConfig tied = small;
  tied.tied_head = true;
  EXPECT_EQ(tied.total_parameters(), total - 256 * 256);
}

TEST(ModelConfig, ShapeHasTheRightLinears) {
  const ModelShape shape = model("small").shape();
  EXPECT_TRUE(shape.has(0, Linear::dense_fc1));
  EXPECT_FALSE(shape.has(0, Linear::router));
  EXPECT_TRUE(shape.has(1, Linear::shared_fc2));
  EXPECT_FALSE(model("tiny").shape().has(1, Linear::shared_fc2));
  EXPECT_EQ(shape.shape(Linear::attn_qkv).out, (8 + 2 * 4) * 32);
  EXPECT_EQ(shape.shape(Linear::fc1).out, 2 * 128);
  EXPECT_EQ(shape.shape(Linear::fc1).uses_per_token, 2);
  EXPECT_EQ(shape.shape(Linear::fc2).in, 128);
}

TEST(ModelConfig, RefusesWithThePlace) {
  struct Case {
    const char* key;
    const char* value;
    std::initializer_list<std::string> pieces;
  };
  const Case cases[] = {
      {"head_dim", "33", {"head_dim", "33 is odd"}},
      {"kv_heads", "3", {"kv_heads", "3 does not divide heads = 8"}},
      {"kv_heads", "0", {"kv_heads"}},
      {"top_k", "17", {"top_k", "17 is more than experts = 16"}},
      {"top_k", "0", {"top_k", "is 0 although"}},
      {"experts", "0", {"experts", "is 0 although"}},
      {"expert_width", "0", {"expert_width"}},
      {"dense_layers", "7", {"dense_layers", "7 is more than layers = 6"}},
      {"dense_width", "0", {"dense_width", "is 0 although dense_layers is not"}},
      {"dense_layers", "0", {"dense_width", "is not 0 although"}},
      {"layers", "0", {"layers"}},
      {"layers", "1.5", {"layers"}},
      {"renormalize", "1", {"renormalize"}},
      {"aux_coefficient", "-0.1", {"aux_coefficient"}},
      {"name", "\"\"", {"name"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.key) + " = " + c.value);
    expect_user_error([&] { (void)ModelConfig::from_text("m.toml", with(text_of("small"), c.key, c.value)); },
                      c.pieces);
    expect_user_error([&] { (void)ModelConfig::from_text("m.toml", with(text_of("small"), c.key, c.value)); },
                      {"m.toml:"});
  }
  expect_user_error([] { (void)ModelConfig::from_text("m.toml", text_of("small") + "head_dims = 32\n"); },
                    {"head_dims", "head_dim"});
}

// Every option, none at its default.
constexpr const char* kRouterOptions = R"(gate = "sigmoid"
routed_scaling = 2.5
route_groups = 4
route_groups_kept = 2
group_score = "top2_sum"
bias_rate = 0.001
capacity_factor = 1.25
drop = "position"
balance = "sequence"
)";

TEST(ModelConfig, ReadsEveryOption) {
  const ModelConfig c = ModelConfig::from_text("m.toml", text_of("small") + kRouterOptions);
  EXPECT_EQ(c.gate, Gate::sigmoid);
  EXPECT_EQ(c.routed_scaling, 2.5);
  EXPECT_EQ(c.route_groups, 4);
  EXPECT_EQ(c.route_groups_kept, 2);
  EXPECT_EQ(c.group_score, GroupScore::top2_sum);
  EXPECT_EQ(c.bias_rate, 0.001);
  EXPECT_EQ(c.capacity_factor, 1.25);
  EXPECT_EQ(c.drop, Drop::position);
  EXPECT_EQ(c.balance, Balance::sequence);
  // What is left out has its default, which the JSON writes too.
  const ModelConfig small = model("small");
  EXPECT_EQ(small.gate, Gate::softmax);
  EXPECT_EQ(small.route_groups, 1);
  EXPECT_EQ(small.to_json().as_object().size(), c.to_json().as_object().size());
  EXPECT_NE(small.to_json(), c.to_json());
}

TEST(ModelConfig, RefusesOptionsWithThePlace) {
  struct Case {
    const char* text;
    std::initializer_list<std::string> pieces;
  };
  const Case cases[] = {
      {"gate = \"relu\"\n", {"gate", "softmax", "sigmoid"}},
      {"routed_scaling = 0\n", {"routed_scaling", "0 is not above 0"}},
      {"route_groups = 3\n", {"route_groups", "3 does not divide experts = 16"}},
      {"route_groups_kept = 2\n", {"route_groups_kept", "2 is more than route_groups = 1"}},
      {"route_groups = 16\n", {"route_groups_kept", "1 groups of 1 experts are fewer than top_k = 2"}},
      {"route_groups = 16\nroute_groups_kept = 2\ngroup_score = \"top2_sum\"\n", {"group_score", "two experts"}},
      {"group_score = \"sum\"\n", {"group_score", "top2_sum"}},
      {"bias_rate = -1\n", {"bias_rate"}},
      {"capacity_factor = -1.0\n", {"capacity_factor"}},
      {"drop = \"random\"\n", {"drop", "position"}},
      {"balance = \"token\"\n", {"balance", "sequence"}},
      {"capacity = 1.0\n", {"capacity"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    expect_user_error([&] { (void)ModelConfig::from_text("m.toml", text_of("small") + c.text); }, c.pieces);
    expect_user_error([&] { (void)ModelConfig::from_text("m.toml", text_of("small") + c.text); }, {"m.toml:"});
  }
}

TEST(ModelConfig, JsonLeavesOutOnlyTheName) {
  const std::string text = text_of("small") + kRouterOptions;
  const ModelConfig small = ModelConfig::from_text("m", text);
  const Json json = small.to_json();
  const TomlDocument document = TomlDocument::from_text("m", text);
  const std::vector<std::string> keys = document.root().keys();
  EXPECT_EQ(json.as_object().size(), keys.size() - 1);
  for (const std::string& key : keys) EXPECT_EQ(json.find(key) != nullptr, key != "name") << key;
  ModelConfig renamed = small;
  renamed.name = "other";
  EXPECT_EQ(renamed.to_json(), json);
}

}  // namespace
}  // namespace ng
