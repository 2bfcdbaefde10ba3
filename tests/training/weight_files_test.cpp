// SPDX-License-Identifier: Apache-2.0
//
// Claim: weights cut and named as in the Hugging Face releases of Mixtral, Qwen3-MoE, OLMoE and DeepSeek arrive in the
// parameters where the model's mathematics wants them: projections side by side, gates before ups, DeepSeek's pairs of
// rotated rows as halves. In one file or in many. Alone: ctest -R training_runs.WeightFiles
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>

#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/io/safetensors.hpp"
#include "narrowgauge/training/initial_weights.hpp"
#include "training/small_run.hpp"

namespace {

using ng_test::Folder;
using Floats = std::vector<float>;
using Tensors = std::map<std::string, ng::Array>;

/// What the parameters must hold, and the release's tensors that they are to be read from.
struct Release {
  ng::ModelConfig config;
  std::map<std::string, Floats> expected;
  Tensors tensors;
  std::mt19937 bits{7};

  explicit Release(const std::string& text) : config(ng::ModelConfig::from_text("test", text)) {}

  /// A tensor of whole numbers that are exact in every type.
  Floats add(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    Floats values(static_cast<std::size_t>(count));
    for (float& v : values) v = static_cast<float>(static_cast<int>(bits() % 4001u) - 2000) / 8.0f;
    tensors[name] = ng::Array::from<float>(std::move(shape), values);
    return values;
  }
  void same(const std::string& parameter, const std::string& name, std::vector<std::int64_t> shape) {
    expected[parameter] = add(name, std::move(shape));
  }
  void append(const std::string& parameter, const Floats& rows) {
    Floats& to = expected[parameter];
    to.insert(to.end(), rows.begin(), rows.end());
  }
  void swiglu(const std::string& fc1, const std::string& fc2, const std::string& prefix, std::int64_t width,
              bool mixtral = false) {
    const std::int64_t C = config.hidden;
    append(fc1, add(prefix + (mixtral ? "w1" : "gate_proj") + ".weight", {width, C}));
    append(fc1, add(prefix + (mixtral ? "w3" : "up_proj") + ".weight", {width, C}));
    append(fc2, add(prefix + (mixtral ? "w2" : "down_proj") + ".weight", {C, width}));
  }
  void grouped_attention(const std::string& ours, const std::string& theirs, std::int64_t q_gain, std::int64_t k_gain) {
    const std::int64_t D = config.head_dim, C = config.hidden;
    append(ours + "attn_qkv", add(theirs + "self_attn.q_proj.weight", {config.heads * D, C}));
    append(ours + "attn_qkv", add(theirs + "self_attn.k_proj.weight", {config.kv_heads * D, C}));
    append(ours + "attn_qkv", add(theirs + "self_attn.v_proj.weight", {config.kv_heads * D, C}));
    if (q_gain > 0) same(ours + "q_norm", theirs + "self_attn.q_norm.weight", {q_gain});
    if (k_gain > 0) same(ours + "k_norm", theirs + "self_attn.k_norm.weight", {k_gain});
    same(ours + "attn_out", theirs + "self_attn.o_proj.weight", {C, config.heads * D});
  }
  void frame() {
    same("embedding", "model.embed_tokens.weight", {config.vocabulary, config.hidden});
    same("final_norm", "model.norm.weight", {config.hidden});
    same("head", "lm_head.weight", {config.vocabulary, config.hidden});
    for (std::int64_t l = 0; l < config.layers; ++l) {
      const std::string n = std::to_string(l);
      same("layer." + n + "/attn_norm", "model.layers." + n + ".input_layernorm.weight", {config.hidden});
      same("layer." + n + "/ffn_norm", "model.layers." + n + ".post_attention_layernorm.weight", {config.hidden});
    }
  }

  void write(const std::string& path) const { ng::write_safetensors(path, {tensors.begin(), tensors.end()}); }
  void expect_loaded(const std::string& path) const {
    ng::check_initial_weights(path, config);
    const auto backend = ng::make_cpu_backend({});
    ng::Parameters parameters(config, *backend, 0);
    ng::load_initial_weights(path, config, *backend, parameters);
    ASSERT_EQ(parameters.all().size(), expected.size());
    for (const ng::Parameter& p : parameters.all()) {
      Floats values(static_cast<std::size_t>(p.master.view.count()));
      backend->download(values.data(), p.master.view);
      EXPECT_EQ(values, expected.at(p.name)) << p.name;
    }
  }
};

std::string text_of(const std::string& sizes) {
  return "name = \"test\"\nvocabulary = 10\nhidden = 6\nrope_theta = 1e4\nnorm_epsilon = 1e-5\nexpert_width = 5\n"
         "aux_coefficient = 0.0\nz_coefficient = 0.0\ntied_head = false\ninit_std = 0.02\ncontext = 8\n" +
         sizes;
}

/// Mixtral's names, or those of Qwen3-MoE and OLMoE, which differ in their norms of queries and keys.
Release grouped(const std::string& qk_norm, bool mixtral) {
  Release r(
      text_of("layers = 2\nheads = 4\nkv_heads = 2\nhead_dim = 4\ndense_layers = 0\ndense_width = 0\n"
              "experts = 3\ntop_k = 2\nshared_experts = 0\nrenormalize = true\nqk_norm = \"" +
              qk_norm + "\"\n"));
  r.frame();
  for (const char* n : {"0", "1"}) {
    const std::string ours = std::string("layer.") + n + "/", theirs = std::string("model.layers.") + n + ".";
    r.grouped_attention(ours, theirs,
                        qk_norm == "head"   ? 4
                        : qk_norm == "full" ? 16
                                            : 0,
                        qk_norm == "head"   ? 4
                        : qk_norm == "full" ? 8
                                            : 0);
    const std::string moe = theirs + (mixtral ? "block_sparse_moe." : "mlp.");
    r.same(ours + "router", moe + "gate.weight", {3, 6});
    for (const char* e : {"0", "1", "2"}) r.swiglu(ours + "fc1", ours + "fc2", moe + "experts." + e + ".", 5, mixtral);
  }
  return r;
}

TEST(WeightFiles, ReadTheReleasesOfGroupedAttention) {
  const Folder folder("weights-grouped");
  for (const bool mixtral : {false, true})
    for (const char* qk_norm : {"none", "head", "full"}) {
      SCOPED_TRACE(std::string(qk_norm) + (mixtral ? " Mixtral's names" : ""));
      const Release r = grouped(qk_norm, mixtral);
      r.write(folder.file("w.safetensors"));
      r.expect_loaded(folder.file("w.safetensors"));
    }
}

/// Rows of heads of `head` whose last 4 rows are pairs: (0, 1, 2, 3) there is (0, 2, 1, 3) here.
Floats halves(const Floats& rows, std::size_t head, std::size_t cols) {
  Floats result = rows;
  for (std::size_t first = head - 4; first < rows.size() / cols; first += head)
    for (std::size_t c = 0; c < cols; ++c) {
      result[(first + 1) * cols + c] = rows[(first + 2) * cols + c];
      result[(first + 2) * cols + c] = rows[(first + 1) * cols + c];
    }
  return result;
}

Release latent(bool query_rank) {
  Release r(
      text_of("layers = 2\nheads = 2\nkv_heads = 2\nhead_dim = 7\ndense_layers = 1\ndense_width = 9\n"
              "experts = 4\ntop_k = 2\nshared_experts = 2\nrenormalize = true\ngate = \"sigmoid\"\n"
              "bias_rate = 0.001\n[mla]\nkv_rank = 8\nnope_dim = 3\nrope_dim = 4\nvalue_dim = 5\nq_rank = " +
              std::string(query_rank ? "11\n" : "0\n")));
  r.frame();
  for (const char* n : {"0", "1"}) {
    const std::string ours = std::string("layer.") + n + "/", theirs = std::string("model.layers.") + n + ".self_attn.";
    if (query_rank) {
      r.same(ours + "attn_q_a", theirs + "q_a_proj.weight", {11, 6});
      r.same(ours + "q_a_norm", theirs + "q_a_layernorm.weight", {11});
      r.expected[ours + "attn_q_b"] = halves(r.add(theirs + "q_b_proj.weight", {14, 11}), 7, 11);
    } else {
      r.expected[ours + "attn_q"] = halves(r.add(theirs + "q_proj.weight", {14, 6}), 7, 6);
    }
    r.expected[ours + "attn_kv_a"] = halves(r.add(theirs + "kv_a_proj_with_mqa.weight", {12, 6}), 12, 6);
    r.same(ours + "kv_a_norm", theirs + "kv_a_layernorm.weight", {8});
    r.same(ours + "attn_kv_b", theirs + "kv_b_proj.weight", {16, 8});
    r.same(ours + "attn_out", theirs + "o_proj.weight", {6, 10});
  }
  r.swiglu("layer.0/dense_fc1", "layer.0/dense_fc2", "model.layers.0.mlp.", 9);
  const std::string mlp = "model.layers.1.mlp.";
  r.same("layer.1/router", mlp + "gate.weight", {4, 6});
  r.same("layer.1/router_bias", mlp + "gate.e_score_correction_bias", {4});
  for (const char* e : {"0", "1", "2", "3"}) r.swiglu("layer.1/fc1", "layer.1/fc2", mlp + "experts." + e + ".", 5);
  r.swiglu("layer.1/shared_fc1", "layer.1/shared_fc2", mlp + "shared_experts.", 10);
  return r;
}

TEST(WeightFiles, ReadTheReleasesOfDeepSeek) {
  const Folder folder("weights-latent");
  for (const bool query_rank : {false, true}) {
    Release r = latent(query_rank);
    r.add("model.layers.2.self_attn.o_proj.weight", {6, 10});  // a module behind the last layer is left out
    r.write(folder.file("w.safetensors"));
    r.expect_loaded(folder.file("w.safetensors"));
  }
}

TEST(WeightFiles, ReadManyFilesThroughTheirIndex) {
  const Folder folder("weights-sharded");
  const Release r = grouped("head", false);
  std::vector<std::pair<std::string, ng::Array>> parts[2];
  std::string map;
  for (const auto& [name, array] : r.tensors) {
    const std::size_t part = parts[0].size() < 9 ? 0 : 1;
    parts[part].emplace_back(name, array);
    map += (map.empty() ? "\"" : ", \"") + name + "\": \"part" + std::to_string(part) + ".safetensors\"";
  }
  for (const std::size_t part : {0u, 1u})
    ng::write_safetensors(folder.file("part" + std::to_string(part) + ".safetensors"), parts[part]);
  const std::string index = folder.file("model.safetensors.index.json");
  std::ofstream(index) << "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" << map << "}}";
  r.expect_loaded(index);
  const std::string before = ng::initial_weights_digest(index);
  parts[1].back().second.data[0] ^= std::byte{1};
  ng::write_safetensors(folder.file("part1.safetensors"), parts[1]);
  EXPECT_NE(ng::initial_weights_digest(index), before) << "every file is part of the identity";
}

TEST(WeightFiles, RefuseWhatDoesNotFit) {
  const Folder folder("weights-refused");
  const std::string path = folder.file("w.safetensors");
  const auto refused = [&](const Release& r, const std::string& message) {
    r.write(path);
    try {
      ng::check_initial_weights(path, r.config);
      ADD_FAILURE() << "accepted: " << message;
    } catch (const ng::UserError& error) {
      EXPECT_EQ(std::string(error.what()), path + ": " + message);
    }
  };
  Release r = grouped("none", true);
  r.tensors.erase("model.layers.1.block_sparse_moe.experts.2.w3.weight");
  refused(r,
          "has no tensor 'model.layers.1.block_sparse_moe.experts.2.w3.weight', which model test needs with shape "
          "[5, 6]");
  r = grouped("none", false);
  r.add("model.layers.1.self_attn.q_proj.bias", {16});
  refused(r,
          "tensor 'model.layers.1.self_attn.q_proj.bias' is no parameter of model test; the nearest is "
          "'model.layers.1.self_attn.q_proj.weight'");
  r = latent(true);
  r.add("model.layers.1.mlp.experts.3.up_proj.weight", {6, 5});
  refused(r, "tensor 'model.layers.1.mlp.experts.3.up_proj.weight' has shape [6, 5]; model test needs [5, 6]");
}

}  // namespace
