// SPDX-License-Identifier: Apache-2.0
//
// Claim: a model file is read strictly and counted rightly: the published models have their published numbers of
// parameters, total and active. Alone: build/bin/unit_studies --gtest_filter='ModelConfig.*'
#include <gtest/gtest.h>

#include <filesystem>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/model/parameters.hpp"
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

// Totals are those of the released weights (DeepSeek-V3 without its second-token module and without the routers'
// biases); active ones the papers give rounded: 12.9, 1.3, 2.4 (without the embedding of 0.21), 3.3 and 37 B.
TEST(ModelConfig, CountsPublishedModels) {
  struct Published {
    const char* name;
    std::int64_t total, active;
  };
  for (const auto& [name, total, active] : {Published{"mixtral_8x7b", 46702792704, 12879925248},
                                            {"olmoe_1b_7b", 6919161856, 1282017280},
                                            {"deepseek_v2_lite", 15706484224, 2661150208},
                                            {"qwen3_30b_a3b", 30532122624, 3353032704},
                                            {"deepseek_v3", 671026404352, 37552282624}}) {
    EXPECT_EQ(model(name).total_parameters(), total) << name;
    EXPECT_EQ(model(name).active_parameters(), active) << name;
  }
}

// The count is of the tensors that a model of this configuration has.
TEST(ModelConfig, CountsTheParametersThereAre) {
  std::vector<ModelConfig> configs;
  for (const char* name : {"tiny", "small", "tiny_mla", "olmoe_1b_7b", "deepseek_v2_lite", "qwen3_30b_a3b"})
    configs.push_back(model(name));
  for (const QkNorm norm : {QkNorm::head, QkNorm::full}) {
    configs.push_back(model("small"));
    configs.back().qk_norm = norm;
  }
  for (const ModelConfig& c : configs) {
    std::int64_t trained = 0;
    for (const Parameter& p : describe_parameters(c)) {
      std::int64_t count = 1;
      for (const std::int64_t n : p.shape) count *= n;
      if (p.trained) trained += count;
      EXPECT_EQ(p.trained, !p.name.ends_with("/router_bias")) << p.name;
    }
    EXPECT_EQ(trained, c.total_parameters()) << c.name;
  }
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

TEST(ModelConfig, LatentAttentionHasLinearsOfItsOwn) {
  const auto present = [](const ModelShape& shape) {
    std::vector<std::string> names;
    for (int i = 0; i < kLinearCount; ++i)
      if (shape.has(1, static_cast<Linear>(i))) names.emplace_back(kLinearNames[static_cast<std::size_t>(i)]);
    return names;
  };
  const ModelShape v3 = model("deepseek_v3").shape();
  EXPECT_EQ(present(v3), (std::vector<std::string>{"attn_q_a", "attn_q_b", "attn_kv_a", "attn_kv_b", "attn_out",
                                                   "dense_fc1", "dense_fc2"}));
  EXPECT_EQ(v3.shape(Linear::attn_q_b).out, 128 * 192);
  EXPECT_EQ(v3.shape(Linear::attn_q_b).in, 1536);
  EXPECT_EQ(v3.shape(Linear::attn_kv_a).out, 512 + 64);
  EXPECT_EQ(v3.shape(Linear::attn_kv_b).out, 128 * 256);
  EXPECT_EQ(v3.shape(Linear::attn_out).in, 128 * 128);
  EXPECT_EQ(present(model("deepseek_v2_lite").shape()),
            (std::vector<std::string>{"attn_q", "attn_kv_a", "attn_kv_b", "attn_out", "router", "fc1", "fc2",
                                      "shared_fc1", "shared_fc2"}));
  EXPECT_EQ(present(model("tiny").shape()), (std::vector<std::string>{"attn_qkv", "attn_out", "router", "fc1", "fc2"}));
}

constexpr const char* kMla = R"([mla]
q_rank = 0
kv_rank = 16
nope_dim = 12
rope_dim = 20
value_dim = 24
)";

TEST(ModelConfig, ReadsLatentAttention) {
  const std::string text = with(text_of("small"), "kv_heads", "8") + kMla;
  const ModelConfig c = ModelConfig::from_text("m.toml", text);
  EXPECT_EQ(c.mla, (LatentAttention{0, 16, 12, 20, 24}));
  EXPECT_EQ(c.qkv_width(), 8 * (32 + 32 + 24));
  EXPECT_EQ(c.to_json().at("mla").at("value_dim").as_int(), 24);
  struct Case {
    std::string text;
    std::initializer_list<std::string> pieces;
  };
  const std::string small = with(text_of("small"), "kv_heads", "8");
  const Case cases[] = {
      {text_of("small") + kMla, {"kv_heads", "is 4", "heads = 8"}},
      {with(small, "head_dim", "34") + kMla, {"head_dim", "is 34", "nope_dim + rope_dim = 32"}},
      {with(text, "rope_dim", "19"), {"mla.rope_dim", "19 is odd"}},
      {with(text, "kv_rank", "0"), {"mla.kv_rank"}},
      {with(text, "value_dim", "0"), {"mla.value_dim"}},
      {with(text, "q_rank", "-1"), {"mla.q_rank"}},
      {text + "v_dim = 3\n", {"mla.v_dim", "value_dim"}},
      {small + "qk_norm = \"head\"\n" + kMla, {"qk_norm", "attn_qkv"}},
      {small + "qk_norm = \"rows\"\n", {"qk_norm", "head", "full"}},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(*each.pieces.begin());
    expect_user_error([&] { (void)ModelConfig::from_text("m.toml", each.text); }, each.pieces);
    expect_user_error([&] { (void)ModelConfig::from_text("m.toml", each.text); }, {"m.toml:"});
  }
}

// Every option but mla, none at its default.
constexpr const char* kOptions = R"(qk_norm = "full"
gate = "sigmoid"
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
  const ModelConfig c = ModelConfig::from_text("m.toml", text_of("small") + kOptions);
  EXPECT_EQ(c.qk_norm, QkNorm::full);
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
  const std::string text = text_of("small") + kOptions;
  const ModelConfig small = ModelConfig::from_text("m", text);
  const Json json = small.to_json();
  const TomlDocument document = TomlDocument::from_text("m", text);
  const std::vector<std::string> keys = document.root().keys();
  EXPECT_EQ(json.as_object().size(), keys.size() - 1 + 1);  // without the name, with mla
  EXPECT_EQ(json.at("mla"), Json());
  for (const std::string& key : keys) EXPECT_EQ(json.find(key) != nullptr, key != "name") << key;
  ModelConfig renamed = small;
  renamed.name = "other";
  EXPECT_EQ(renamed.to_json(), json);
}

}  // namespace
}  // namespace ng
