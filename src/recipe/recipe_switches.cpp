// SPDX-License-Identifier: Apache-2.0
//
// The entries of `switch`: which recipe takes over which products, and when. Steps of the run are not known yet; that
// they rise is checked here as far as both entries count alike, and by first_steps for a run.
#include <fmt/format.h>

#include <filesystem>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "recipe_parts.hpp"

namespace ng::recipe_parts {
namespace {

// A name is a file beside this recipe's, anything else a path from there.
std::string file_of(const Recipe& recipe, const std::string& name) {
  std::filesystem::path path = name;
  if (path.extension() != ".toml") path += ".toml";
  return (std::filesystem::path(recipe.origin).parent_path() / path).lexically_normal().string();
}

std::array<bool, kGemmCount> parse_gemms(const TomlTable& table) {
  std::array<bool, kGemmCount> chosen{};
  if (!table.has("gemms")) {
    chosen.fill(true);
    return chosen;
  }
  const std::vector<std::string> gemms = table.get_string_list("gemms");
  if (gemms.empty()) table.fail("gemms", "names no product");
  for (const std::string& name : gemms) {
    const std::optional<Gemm> gemm = find_enum<Gemm>(name);
    if (!gemm) table.fail("gemms", fmt::format("unknown value \"{}\"; {}", name, suggestion(name, names_of<Gemm>())));
    chosen[static_cast<std::size_t>(*gemm)] = true;
  }
  return chosen;
}

Recipe other_recipe(const TomlTable& table, const Recipe& recipe, const std::string& file, const RecipeTexts& others) {
  if (!others) table.fail("recipe", fmt::format("'{}' is looked for beside the recipe's file, which is none", file));
  std::string text;
  try {
    text = others(file);
  } catch (const UserError& error) {
    table.fail("recipe", fmt::format("no such recipe: {}", error.what()));
  }
  const TomlDocument document = TomlDocument::from_text(file, text);
  if (document.root().has("switch"))
    table.fail("recipe", fmt::format("{} has a switch of its own; name what it switches to here", file));
  Recipe other = Recipe::from_document(document);
  if (!(other.tensors == recipe.tensors))
    table.fail("recipe", fmt::format("{} has another [tensor] section, and a switch changes products only", file));
  return other;
}

}  // namespace

std::vector<RecipeSwitch> parse_switches(const TomlTable& root, const Recipe& recipe, const RecipeTexts& others) {
  std::vector<RecipeSwitch> switches;
  if (!root.has("switch")) return switches;
  for (const TomlTable& table : root.get_table_array("switch")) {
    RecipeSwitch entry;
    entry.place = table.where("at");
    if (table.kind("at") == TomlKind::real) {
      entry.fraction = table.get_double("at");
      if (!(entry.fraction > 0.0 && entry.fraction < 1.0))
        table.fail("at", fmt::format("{} is no fraction of a run between 0 and 1; a step is an integer from 1 on",
                                     entry.fraction));
    } else {
      entry.step = table.get_int("at", 1);
    }
    if (!switches.empty()) {
      const RecipeSwitch& last = switches.back();
      const bool alike = (last.fraction > 0.0) == (entry.fraction > 0.0);
      if (alike && (entry.fraction > 0.0 ? entry.fraction <= last.fraction : entry.step <= last.step))
        table.fail("at", "is not after the entry before it");
    }
    entry.gemm = parse_gemms(table);
    entry.file = file_of(recipe, table.get_string("recipe"));
    entry.recipe = std::make_shared<const Recipe>(other_recipe(table, recipe, entry.file, others));
    switches.push_back(std::move(entry));
  }
  if (switches.empty()) root.fail("switch", "has no entry");
  return switches;
}

}  // namespace ng::recipe_parts
