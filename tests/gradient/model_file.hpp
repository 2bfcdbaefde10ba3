// SPDX-License-Identifier: Apache-2.0
//
// A configuration of the oracle as the text of a model file. Tests make the program's configuration from it, so that
// the names and defaults of its keys are tested too: keys that may be absent are left out at their default.
#pragma once

#include <cstdio>
#include <string>

#include "oracle/model_oracle.hpp"

namespace ng_test {

class ModelFileText {
 public:
  void add(const std::string& key, std::int64_t value) { line(key, std::to_string(value)); }
  void add(const std::string& key, bool value) { line(key, value ? "true" : "false"); }
  void add(const std::string& key, const std::string& value) { line(key, '"' + value + '"'); }
  void add(const std::string& key, double value) {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.17g", value);
    const std::string text = digits;
    line(key, text.find_first_of(".e") == std::string::npos ? text + ".0" : text);
  }
  template <class Value>
  void add_unless(const Value& usual, const std::string& key, const Value& value) {
    if (value != usual) add(key, value);
  }
  void table(const std::string& name) { text_ += "[" + name + "]\n"; }
  const std::string& text() const { return text_; }

 private:
  void line(const std::string& key, const std::string& value) { text_ += key + " = " + value + "\n"; }
  std::string text_;
};

inline std::string model_file_text(const ng_oracle::ModelConfig& c) {
  using namespace ng_oracle;
  const ModelConfig usual;
  ModelFileText file;
  file.add("name", c.name);
  file.add("vocabulary", c.vocabulary);
  file.add("layers", c.layers);
  file.add("hidden", c.hidden);
  file.add("heads", c.heads);
  file.add("kv_heads", c.kv_heads);
  file.add("head_dim", c.head_dim);
  file.add("rope_theta", c.rope_theta);
  file.add("norm_epsilon", c.norm_epsilon);
  if (c.qk_norm != QkNorm::none) file.add("qk_norm", std::string(c.qk_norm == QkNorm::head ? "head" : "full"));
  file.add("dense_layers", c.dense_layers);
  file.add("dense_width", c.dense_layers > 0 ? c.dense_width : std::int64_t{0});
  file.add("experts", c.experts);
  file.add("top_k", c.top_k);
  file.add("expert_width", c.expert_width);
  file.add("shared_experts", c.shared_experts);
  if (c.gate == Gate::sigmoid) file.add("gate", std::string("sigmoid"));
  file.add("renormalize", c.renormalize);
  file.add_unless(usual.routed_scaling, "routed_scaling", c.routed_scaling);
  file.add_unless(usual.route_groups, "route_groups", c.route_groups);
  file.add_unless(usual.route_groups_kept, "route_groups_kept", c.route_groups_kept);
  if (c.group_score == GroupScore::top2_sum) file.add("group_score", std::string("top2_sum"));
  file.add_unless(usual.bias_rate, "bias_rate", c.bias_rate);
  file.add_unless(usual.capacity_factor, "capacity_factor", c.capacity_factor);
  if (c.drop == Drop::position) file.add("drop", std::string("position"));
  file.add("aux_coefficient", c.aux_coefficient);
  if (c.balance == Balance::sequence) file.add("balance", std::string("sequence"));
  file.add("z_coefficient", c.z_coefficient);
  file.add("tied_head", c.tied_head);
  file.add("init_std", c.init_std);
  file.add("context", c.context);
  if (c.mla.present()) {
    file.table("mla");
    file.add("q_rank", c.mla.q_rank);
    file.add("kv_rank", c.mla.kv_rank);
    file.add("nope_dim", c.mla.nope_dim);
    file.add("rope_dim", c.mla.rope_dim);
    file.add("value_dim", c.mla.value_dim);
  }
  return file.text();
}

}  // namespace ng_test
