// SPDX-License-Identifier: Apache-2.0
//
// A recipe from its file: the sections in turn, then what holds for every model.
#include "narrowgauge/recipe/recipe.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "narrowgauge/base/atomic_file.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "recipe_parts.hpp"

namespace ng {
namespace recipe_parts {

std::vector<std::string> list_items(std::string_view text) {
  std::vector<std::string> items;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string_view item = text.substr(begin, end - begin);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    items.emplace_back(item);
    begin = end + 1;
  }
  return items;
}

RecipeGemm parse_gemm(const TomlTable& table, Gemm where) {
  RecipeGemm gemm;
  gemm.place = table.where("hadamard");
  gemm.carrier = static_cast<Carrier>(table.optional_choice("carrier", names_of<Carrier>(), 0));
  gemm.accumulate = static_cast<Accumulate>(table.optional_choice("accumulate", names_of<Accumulate>(), 0));
  // `compensate = false` and no key at all mean the same.
  if (table.has("compensate") && table.kind("compensate") == TomlKind::boolean) {
    if (table.get_bool("compensate")) table.fail("compensate", "is false or { against = ..., format = ... }");
  } else if (const std::optional<TomlTable> c = table.optional_table("compensate")) {
    if (where != Gemm::fprop)
      table.fail("compensate", fmt::format("belongs to [gemm.fprop], not to [gemm.{}]", name_of(where)));
    const std::vector<std::string> against = {"quantized", "original"};
    const std::vector<std::string> formats = {"bf16", "e4m3", "e5m2"};
    gemm.compensate = c->get_choice("against", against) == 0 ? Compensate::quantized : Compensate::original;
    gemm.residual = parse_enum<OutlierResidual>("format", formats[c->get_choice("format", formats)]);
  }
  if (const std::optional<TomlTable> h = table.optional_table("hadamard")) {
    const std::int64_t size = h->get_int("size", 2, kLargestHadamard);
    const std::vector<std::string> signs = names_of<HadamardSigns>();
    const std::vector<std::string> results = names_of<HadamardResult>();
    const std::vector<std::string> orders = names_of<HadamardOrder>();
    const std::string text =
        fmt::format("{}:{}:{}:{}", size, signs[h->get_choice("signs", signs)],
                    results[h->optional_choice("result", results, 0)], orders[h->optional_choice("order", orders, 1)]);
    try {
      gemm.hadamard = parse_hadamard(text);
    } catch (const UserError& error) {
      table.fail("hadamard", error.what());
    }
  }
  return gemm;
}

namespace {

struct TensorKey {
  std::string_view section;
  std::string_view key;
  OperandKind TensorKinds::*kind;
  bool f32_only;
};

constexpr TensorKey kTensorKeys[] = {
    {"carried", "residual", &TensorKinds::residual, false},
    {"carried", "gemm_output", &TensorKinds::gemm_output, false},
    {"carried", "logits", &TensorKinds::logits, true},
    {"carried", "softmax", &TensorKinds::softmax, true},
    {"exchange", "dispatch", &TensorKinds::dispatch, false},
    {"exchange", "combine", &TensorKinds::combine, false},
    {"exchange", "dispatch_grad", &TensorKinds::dispatch_grad, false},
    {"exchange", "combine_grad", &TensorKinds::combine_grad, false},
    {"state", "master", &TensorKinds::master, true},
    {"state", "adam_m", &TensorKinds::adam_m, true},
    {"state", "adam_v", &TensorKinds::adam_v, true},
    {"state", "weight_grad", &TensorKinds::weight_grad, true},
};

}  // namespace

TensorKinds parse_tensors(const TomlTable& root) {
  const TomlTable tensor = root.get_table("tensor");
  TensorKinds kinds;
  for (const TensorKey& row : kTensorKeys) {
    const TomlTable section = tensor.get_table(row.section);
    const std::string value = section.get_string(row.key);
    const std::optional<OperandKind> kind = find_enum<OperandKind>(value);
    const bool known = kind && *kind != OperandKind::quantized;
    if (row.f32_only && value != "f32")
      section.fail(row.key, fmt::format("'{}' is not available in this version; available: f32", value));
    if (!known)
      section.fail(row.key, fmt::format("'{}' is not available in this version; available: bf16, f32", value));
    kinds.*row.kind = *kind;
  }
  if (kinds.dispatch != kinds.residual)
    tensor.get_table("exchange")
        .fail("dispatch", fmt::format("'{}' is not available in this version beside carried.residual = '{}'; "
                                      "available: the same",
                                      name_of(kinds.dispatch), name_of(kinds.residual)));
  return kinds;
}

}  // namespace recipe_parts

namespace {

void check_used(const Recipe& recipe, const TomlTable& root) {
  const std::optional<TomlTable> table = root.optional_table("quantizer");
  if (!table) return;
  std::vector<std::string> used;
  const auto use = [&](std::string name) {
    while (std::find(used.begin(), used.end(), name) == used.end()) {
      used.push_back(name);
      const std::optional<std::string> like = table->get_table(name).optional_string("like");
      if (!like || !table->has(*like)) return;
      name = *like;
    }
  };
  for (const RecipeRule& rule : recipe.rules)
    if (!rule.quantizer.empty()) use(rule.quantizer);
  for (const RecipeSaved& saved : recipe.saved) use(saved.quantizer);
  for (const std::string& name : table->keys())
    if (std::find(used.begin(), used.end(), name) == used.end()) table->fail(name, "no rule uses this quantizer");
}

}  // namespace

Recipe Recipe::from_document(const TomlDocument& document, const RecipeTexts& others) {
  const TomlTable root = document.root();
  Recipe recipe;
  recipe.origin = document.name();
  recipe.text = document.text();
  recipe.name = root.get_string("name");
  if (recipe.name.empty()) root.fail("name", "is empty");
  recipe.description = root.optional_string("description", "");
  recipe_parts::parse_quantizers(root, recipe);
  recipe.rules = recipe_parts::parse_rules(root, recipe);
  recipe.saved = recipe_parts::parse_saved(root, recipe);
  if (const std::optional<TomlTable> gemm = root.optional_table("gemm")) {
    for (int g = 0; g < kGemmCount; ++g)
      if (const std::optional<TomlTable> table = gemm->optional_table(name_of(static_cast<Gemm>(g))))
        recipe.gemm[static_cast<std::size_t>(g)] = recipe_parts::parse_gemm(*table, static_cast<Gemm>(g));
  }
  recipe.tensors = recipe_parts::parse_tensors(root);
  recipe.switches = recipe_parts::parse_switches(root, recipe, others);
  document.finish();
  recipe_parts::check_reachable(recipe);
  check_used(recipe, root);
  return recipe;
}

Recipe Recipe::from_file(const std::filesystem::path& path) {
  return from_document(TomlDocument::from_file(path), [](const std::string& other) { return read_file(other); });
}

Recipe Recipe::from_text(std::string name, std::string text, const RecipeTexts& others) {
  return from_document(TomlDocument::from_text(std::move(name), std::move(text)), others);
}

QuantizerSpec parse_quantizer_with_recipes(std::string_view text) {
  return parse_quantizer(text, [](const std::string& file, const std::string& name) {
    const Recipe recipe = Recipe::from_file(file);
    if (const auto found = recipe.quantizers.find(name); found != recipe.quantizers.end()) return found->second;
    std::vector<std::string> valid;
    for (const auto& [own, spec] : recipe.quantizers) valid.push_back(own);
    throw UserError(
        fmt::format("{} has no quantizer '{}'{}{}", file, name, valid.empty() ? "" : "; ", suggestion(name, valid)));
  });
}

}  // namespace ng
