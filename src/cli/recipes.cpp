// SPDX-License-Identifier: Apache-2.0
//
// `recipes`: what there is, and what a recipe resolves to on a model.
#include <fmt/format.h>

#include "commands.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/model/model_config.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/resolve.hpp"
#include "output.hpp"
#include "study_files.hpp"
#include "text_table.hpp"

namespace ng::cli {
namespace {

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

void list(const ModelConfig& model) {
  TextTable table({"recipe", "quantized FLOPs", "what"}, {Align::left, Align::right, Align::left});
  for (const auto& file : study_files("recipes")) {
    const Recipe recipe = Recipe::from_file(file);
    table.add({recipe.name, percent(resolve(recipe, model.shape()).quantized_share()), recipe.description});
  }
  write_stdout(table.text());
  write_stderr(fmt::format(
      "quantized FLOPs: share of the products of a training step of model {} whose operands are both quantized\n",
      model.name));
}

void show(const Recipe& recipe, const ModelConfig& model) {
  const ResolvedRecipe resolved = resolve(recipe, model.shape());
  Json shares = Json::array();
  for (const FormatShare& row : resolved.flop_shares)
    shares.push_back(Json::object({{"a", row.a}, {"b", row.b}, {"share", row.share}}));
  Json quantizers = Json::object();
  for (const auto& [name, spec] : recipe.quantizers) quantizers[name] = to_text(spec);
  const Json json = Json::object({{"name", recipe.name},
                                  {"model", model.name},
                                  {"digest", resolved.digest()},
                                  {"quantizers", quantizers},
                                  {"gemm_flops", shares},
                                  {"resolved", resolved.to_json()}});
  write_stdout(fmt::format("{}\n", json.pretty()));
}

int run(const Arguments& arguments) {
  const ModelConfig model = ModelConfig::from_file(study_file("models", arguments.get("model")));
  if (const std::optional<std::string> name = arguments.operand("NAME")) {
    show(Recipe::from_file(study_file("recipes", *name)), model);
  } else {
    list(model);
  }
  return kExitDone;
}

}  // namespace

Command recipes_command() {
  return {"recipes",
          "the recipes there are; with NAME, what one resolves to on a model, as JSON",
          {{"NAME", Occurs::optional, "a recipe of studies/recipes, or a file"}},
          {{"model", "MODEL", Occurs::optional, "tiny", "a model of studies/models, or a file"}},
          run};
}

}  // namespace ng::cli
