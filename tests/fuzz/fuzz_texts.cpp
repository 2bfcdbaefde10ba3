// SPDX-License-Identifier: Apache-2.0
//
// Texts that people write: TOML files of every kind, quantizers, JSON.
#include "fuzz_support.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/recipe.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "narrowgauge/recording/recording_plan.hpp"
#include "narrowgauge/training/training_config.hpp"

namespace ng::fuzz {
namespace {

void walk(const TomlTable& table) {
  for (const std::string& key : table.keys()) {
    accepted([&] { (void)table.get_string(key); });
    accepted([&] { (void)table.get_int(key, -5, 5); });
    accepted([&] { (void)table.get_double(key); });
    accepted([&] { (void)table.get_string_list(key); });
    accepted([&] { (void)table.get_int_list(key); });
    accepted([&] { (void)table.get_double_list(key); });
    accepted([&] { walk(table.get_table(key)); });
    accepted([&] {
      for (const TomlTable& item : table.get_table_array(key)) walk(item);
    });
  }
}

ModelConfig small_model() {
  ModelConfig model;
  model.name = "small";
  model.vocabulary = 256;
  model.layers = 3;
  model.hidden = model.dense_width = model.expert_width = 64;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_dim = 16;
  model.dense_layers = model.shared_experts = 1;
  model.experts = 4;
  model.top_k = 2;
  model.context = 64;
  return model;
}

}  // namespace

void toml(Bytes input) {
  const std::string text = text_of(input);
  accepted([&] { walk(TomlDocument::from_text("any.toml", text).root()); });
  accepted([&] {
    const Recipe recipe = Recipe::from_text("recipe.toml", text);
    promise(recipe.text == text, "a recipe keeps its text");
    accepted([&] { (void)resolve(recipe, small_model().shape()).to_json().canonical(); });
  });
  accepted([&] {
    const ModelConfig model = ModelConfig::from_text("model.toml", text);
    promise(model.heads % model.kv_heads == 0, "query heads share key heads evenly");
    (void)model.to_json().canonical();
  });
  accepted([&] {
    const TrainingConfig config = TrainingConfig::from_table(TomlDocument::from_text("train.toml", text).root());
    for (const std::int64_t step : {std::int64_t{0}, config.steps / 2, config.steps - 1}) {
      const double rate = learning_rate_at(config, step);
      promise(rate >= 0 && rate <= config.learning_rate, "the rate lies between 0 and its peak");
    }
  });
  accepted([&] { (void)RecordingPlan::from_toml(TomlDocument::from_text("plan.toml", text)).json().canonical(); });
  // The same bytes as "path=value" of --set.
  accepted([&] {
    const auto [path, value] = split_setting(text, "--set");
    TomlDocument document = TomlDocument::from_text("base.toml", "a = 1\nb = [ { c = 2 } ]\n[t]\nd = 3\n");
    document.set(path, value, "--set");
    walk(document.root());
  });
}

void quantizer(Bytes input) {
  accepted([&] {
    const QuantizerSpec spec = parse_quantizer(text_of(input));
    const std::string text = to_text(spec);
    promise(parse_quantizer(text) == spec, "the text of a quantizer is that quantizer");
    promise(to_text(parse_quantizer(text)) == text, "the shortest text is a fixed point");
    const Json json = to_json(spec);
    promise(quantizer_from_json(Json::parse(json.canonical(), "json"), "json") == spec, "so is its JSON");
  });
}

void json(Bytes input) {
  accepted([&] {
    const Json value = Json::parse(text_of(input), "input.json");
    const std::string canonical = value.canonical();
    promise(Json::parse(canonical, "canonical").canonical() == canonical, "canonical JSON is a fixed point");
  });
}

}  // namespace ng::fuzz
