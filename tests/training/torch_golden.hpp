// SPDX-License-Identifier: Apache-2.0
//
// One training step as PyTorch computed it (data/golden/torch_one_step_*.safetensors and torch_published_*.safetensors,
// made by the scripts of those names), read for tests: configuration, weights, tokens, losses, decisions, gradients.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "narrowgauge/io/safetensors.hpp"
#include "oracle/model_oracle.hpp"

namespace ng_test {

struct TorchGolden {
  std::string name;                             ///< "one_step_mla_sigmoid"
  std::map<std::string, std::string> metadata;  ///< "model": the model file; "arithmetic": float64 or float32
  std::int64_t sequences = 0, length = 0;
  std::vector<std::int64_t> ids, targets;
  ng_oracle::Parameters weights;  ///< router biases included
  double loss = 0.0, aux_loss = 0.0, z_loss = 0.0;
  std::vector<double> token_loss;
  ng_oracle::RouterDecisions decisions;  ///< empty in torch_published_*
  ng_oracle::Parameters gradients;       ///< of all but router biases
};

inline std::filesystem::path golden_folder() {
  return std::filesystem::path(NG_SOURCE_DIR) / "data/golden";
}

/// Names of all steps, in order.
inline std::vector<std::string> torch_golden_names() {
  const std::string prefix = "torch_";
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder())) {
    const std::string stem = entry.path().stem().string();
    if (stem.starts_with(prefix + "one_step_") || stem.starts_with(prefix + "published_"))
      names.push_back(stem.substr(prefix.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<double> doubles(const ng::Array& array) {
  if (array.dtype == ng::Dtype::f64) {
    const auto values = array.as<double>();
    return {values.begin(), values.end()};
  }
  if (array.dtype == ng::Dtype::i32) {
    const auto values = array.as<std::int32_t>();
    return {values.begin(), values.end()};
  }
  const auto values = array.as<float>();
  return {values.begin(), values.end()};
}

inline TorchGolden read_torch_golden(const std::string& name) {
  const std::string path = (golden_folder() / ("torch_" + name + ".safetensors")).string();
  const ng::SafetensorsIndex index = ng::list_safetensors(path);
  TorchGolden golden;
  golden.name = name;
  golden.metadata = index.metadata;
  const std::size_t layers = std::stoul(index.metadata.at("model.layers"));
  golden.decisions.experts.resize(layers);
  golden.decisions.kept.resize(layers);
  for (const ng::SafetensorsEntry& entry : index.entries) {
    const std::vector<double> values = doubles(ng::read_safetensors(path, entry.name));
    const std::vector<std::int64_t> integers(values.begin(), values.end());
    const std::string kind = entry.name.substr(0, entry.name.find('/'));
    const std::string rest = entry.name.substr(std::min(kind.size() + 1, entry.name.size()));
    if (kind == "weight") {
      golden.weights[rest] = values;
    } else if (kind == "gradient") {
      golden.gradients[rest] = values;
    } else if (kind == "expert" || kind == "kept") {
      auto& layer = (kind == "kept" ? golden.decisions.kept : golden.decisions.experts)
                        .at(std::stoul(rest.substr(std::string("layer.").size())));
      const std::size_t K = static_cast<std::size_t>(entry.shape.at(1));
      for (std::size_t i = 0; i < integers.size(); i += K)
        layer.emplace_back(integers.begin() + static_cast<std::ptrdiff_t>(i),
                           integers.begin() + static_cast<std::ptrdiff_t>(i + K));
    } else if (kind == "ids") {
      golden.ids = integers;
      golden.sequences = entry.shape.at(0);
      golden.length = entry.shape.at(1);
    } else if (kind == "targets") {
      golden.targets = integers;
    } else if (kind == "loss") {
      golden.loss = values.at(0);
    } else if (kind == "aux_loss") {
      golden.aux_loss = values.at(0);
    } else if (kind == "z_loss") {
      golden.z_loss = values.at(0);
    } else if (kind == "token_loss") {
      golden.token_loss = values;
    } else {
      throw std::runtime_error(path + ": unexpected tensor " + entry.name);
    }
  }
  return golden;
}

/// The oracle's configuration, from the keys that the file's metadata repeats one by one.
inline ng_oracle::ModelConfig oracle_config(const TorchGolden& golden) {
  using namespace ng_oracle;
  const auto text = [&](const std::string& key) { return golden.metadata.at("model." + key); };
  const auto integer = [&](const std::string& key) { return std::stoll(text(key)); };
  const auto number = [&](const std::string& key) { return std::stod(text(key)); };
  ModelConfig c;
  c.name = golden.name;
  c.vocabulary = integer("vocabulary");
  c.layers = integer("layers");
  c.hidden = integer("hidden");
  c.heads = integer("heads");
  c.kv_heads = integer("kv_heads");
  c.head_dim = integer("head_dim");
  c.rope_theta = number("rope_theta");
  c.norm_epsilon = number("norm_epsilon");
  c.qk_norm = text("qk_norm") == "head" ? QkNorm::head : text("qk_norm") == "full" ? QkNorm::full : QkNorm::none;
  if (golden.metadata.contains("model.mla.kv_rank"))
    c.mla = {integer("mla.q_rank"), integer("mla.kv_rank"), integer("mla.nope_dim"), integer("mla.rope_dim"),
             integer("mla.value_dim")};
  c.dense_layers = integer("dense_layers");
  c.dense_width = integer("dense_width");
  c.experts = integer("experts");
  c.top_k = integer("top_k");
  c.expert_width = integer("expert_width");
  c.shared_experts = integer("shared_experts");
  c.gate = text("gate") == "sigmoid" ? Gate::sigmoid : Gate::softmax;
  c.renormalize = text("renormalize") == "True";
  c.routed_scaling = number("routed_scaling");
  c.route_groups = integer("route_groups");
  c.route_groups_kept = integer("route_groups_kept");
  c.group_score = text("group_score") == "max" ? GroupScore::max : GroupScore::top2_sum;
  c.bias_rate = number("bias_rate");
  c.capacity_factor = number("capacity_factor");
  c.drop = text("drop") == "position" ? Drop::position : Drop::probability;
  c.aux_coefficient = number("aux_coefficient");
  c.balance = text("balance") == "sequence" ? Balance::sequence : Balance::batch;
  c.z_coefficient = number("z_coefficient");
  c.tied_head = text("tied_head") == "True";
  c.context = integer("context");
  return c;
}

}  // namespace ng_test
