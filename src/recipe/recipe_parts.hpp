// SPDX-License-Identifier: Apache-2.0
//
// The steps of parsing a recipe, one per section of the file. Private to this layer.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/recipe/recipe.hpp"

namespace ng::recipe_parts {

/// Items of "a,b,c" without surrounding spaces.
[[nodiscard]] std::vector<std::string> list_items(std::string_view text);

/// Fills recipe.quantizers and recipe.amax_histories.
void parse_quantizers(const TomlTable& root, Recipe& recipe);
/// Rules in order; `recipe.quantizers` are parsed already.
[[nodiscard]] std::vector<RecipeRule> parse_rules(const TomlTable& root, const Recipe& recipe);
[[nodiscard]] std::vector<RecipeSaved> parse_saved(const TomlTable& root, const Recipe& recipe);
[[nodiscard]] RecipeGemm parse_gemm(const TomlTable& table, Gemm where);
[[nodiscard]] TensorKinds parse_tensors(const TomlTable& root);

/// Recipes that take over, each parsed from its text; `recipe.tensors` are parsed already.
[[nodiscard]] std::vector<RecipeSwitch> parse_switches(const TomlTable& root, const Recipe& recipe,
                                                       const RecipeTexts& others);

/// UserError for a rule that wins on no edge of any model.
void check_reachable(const Recipe& recipe);

}  // namespace ng::recipe_parts
