// SPDX-License-Identifier: Apache-2.0
//
// The rules of a recipe, and the proof that each can win on some edge of some model.
#include <fmt/format.h>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "recipe_parts.hpp"

namespace ng::recipe_parts {
namespace {

// '*' stands for any characters.
bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern.front() == '*') {
    for (std::size_t i = 0; i <= name.size(); ++i)
      if (matches(pattern.substr(1), name.substr(i))) return true;
    return false;
  }
  return !name.empty() && pattern.front() == name.front() && matches(pattern.substr(1), name.substr(1));
}

template <std::size_t n>
std::array<bool, n> parse_names(const TomlTable& table, std::string_view key, const std::vector<std::string>& names) {
  std::array<bool, n> chosen{};
  const std::optional<std::string> text = table.optional_string(key);
  if (!text) {
    chosen.fill(true);
    return chosen;
  }
  for (const std::string& item : list_items(*text)) {
    bool any = false;
    for (std::size_t i = 0; i < n; ++i) {
      if (!matches(item, names[i])) continue;
      chosen[i] = true;
      any = true;
    }
    if (!any) table.fail(key, fmt::format("'{}' names nothing; {}", item, suggestion(item, names)));
  }
  return chosen;
}

LayerSelector parse_layers(const TomlTable& table) {
  if (!table.has("layers")) return {};
  try {
    if (table.kind("layers") == TomlKind::array) return LayerSelector::list(table.get_int_list("layers", 0));
    return LayerSelector::parse(table.get_string("layers"));
  } catch (const UserError& error) {
    if (std::string_view(error.what()).find(table.where("layers")) != std::string_view::npos) throw;
    table.fail("layers", error.what());
  }
}

// What `from` and `via` say, before the form itself is known.
struct Source {
  FormSource from = FormSource::original;
  bool direct = false;  ///< the source's codes, decoded
};

Source parse_source(const TomlTable& table) {
  const std::vector<std::string> sources = {"original", "fprop", "saved", "dispatch"};
  const std::vector<std::string> ways = {"quantize", "requantize", "direct", "transpose_exact", "transpose_published"};
  const std::size_t from = table.optional_choice("from", sources, 0);
  const std::size_t via = table.optional_choice("via", ways, 0);
  if (from > 2)
    table.fail("from",
               fmt::format("'{}' is not available in this version; available: original, fprop, saved", sources[from]));
  if (via > 2)
    table.fail("via", fmt::format("'{}' is not available in this version; available: quantize, requantize, direct",
                                  ways[via]));
  if (from == 1 && via == 0)
    table.fail("from", "a form made from the fprop form needs via = \"requantize\" or \"direct\"");
  if (from == 2 && via != 1) table.fail("from", "a form made from the saved form needs via = \"requantize\"");
  if (from == 0 && via != 0)
    table.fail("via", fmt::format("\"{}\" needs a source that is quantized already: from = \"fprop\"", ways[via]));
  return {static_cast<FormSource>(from), via == 2};
}

// `use` names the quantizer; a form that is decoded codes has `decode` instead.
void parse_use(RecipeRule& rule, const TomlTable& table, const Recipe& recipe) {
  const Source source = parse_source(table);
  rule.use.source = source.from;
  const std::vector<std::string> decoded = {"bf16", "f32"};
  if (source.direct) {
    if (table.has("use")) table.fail("use", "does not go with via = \"direct\", whose codes are the fprop form's");
    rule.use.kind = table.get_choice("decode", decoded) == 0 ? OperandKind::bf16 : OperandKind::f32;
    rule.use.residual = static_cast<DecodedResidual>(table.optional_choice("residual", names_of<DecodedResidual>(), 0));
    return;
  }
  for (const char* key : {"decode", "residual"})
    if (table.has(key)) table.fail(key, "belongs to forms with via = \"direct\"");
  const std::string use = table.get_string("use");
  if (use == "bf16" || use == "f32") {
    rule.use.kind = use == "f32" ? OperandKind::f32 : OperandKind::bf16;
  } else if (const auto found = recipe.quantizers.find(use); found != recipe.quantizers.end()) {
    rule.use.kind = OperandKind::quantized;
    rule.use.quantizer = found->second;
    rule.quantizer = use;
    if (const auto history = recipe.amax_histories.find(use); history != recipe.amax_histories.end())
      rule.use.amax = history->second;
  } else {
    std::vector<std::string> valid;
    for (const auto& [name, spec] : recipe.quantizers) valid.push_back(name);
    valid.insert(valid.end(), {"bf16", "f32"});
    table.fail("use", fmt::format("no quantizer '{}' in this recipe; {}", use, suggestion(use, valid)));
  }
  if (rule.use.source != FormSource::original && rule.use.kind != OperandKind::quantized)
    table.fail("use", fmt::format("via = \"requantize\" needs a quantizer, not {}", use));
}

// `estimator`: for the gradient of weights, from their fprop form.
void parse_estimator(RecipeRule& rule, const TomlTable& table) {
  const std::optional<TomlTable> estimator = table.optional_table("estimator");
  if (!estimator) return;
  const auto only = [](const auto& chosen, auto which) {
    for (std::size_t i = 0; i < chosen.size(); ++i)
      if (chosen[i] != (i == static_cast<std::size_t>(which))) return false;
    return true;
  };
  if (!only(rule.operand, Operand::weight) || !only(rule.gemm, Gemm::fprop) || rule.use.kind != OperandKind::quantized)
    table.fail(
        "estimator",
        "belongs to a rule with operand = \"weight\", gemm = \"fprop\" and a quantizer: the gradient of a weight "
        "follows from how the forward product rounds it");
  EstimatorSpec& spec = rule.use.estimator;
  spec.kind = static_cast<EstimatorKind>(estimator->get_choice("kind", names_of<EstimatorKind>()));
  if (spec.kind == EstimatorKind::straight_through) return;
  spec.k = static_cast<float>(estimator->optional_double("k", 5.0, 1.0, 1e3));
  spec.clip = static_cast<float>(estimator->optional_double("clip", 3.0, 1e-3, 1e6));
  spec.beyond = static_cast<EstimatorBeyond>(estimator->optional_choice("beyond", names_of<EstimatorBeyond>(), 0));
  spec.mean = estimator->optional_bool("normalize", false) ? EstimatorMean::normalized : EstimatorMean::as_published;
}

bool exists(Linear linear, Operand operand, Gemm gemm) {
  if (linear == Linear::embedding) return operand == Operand::weight && gemm == Gemm::fprop;
  return takes_part(operand, gemm);
}

// Whether every layer that `later` selects is also selected by `earlier`, on every model.
bool covers(const LayerSelector& earlier, const LayerSelector& later) {
  return earlier.everything() || earlier == later;
}

}  // namespace

std::vector<RecipeRule> parse_rules(const TomlTable& root, const Recipe& recipe) {
  const std::vector<TomlTable> tables = root.get_table_array("rule");
  if (tables.empty()) root.fail("rule", "no rule; a recipe that changes nothing is rule = [ { use = \"bf16\" } ]");
  const std::vector<std::string> linears(kLinearNames.begin(), kLinearNames.end());
  std::vector<RecipeRule> rules;
  for (const TomlTable& table : tables) {
    RecipeRule rule;
    rule.place = table.where(table.has("use") ? "use" : "decode");
    rule.linear = parse_names<kLinearCount>(table, "linear", linears);
    rule.operand = parse_names<kOperandCount>(table, "operand", names_of<Operand>());
    rule.gemm = parse_names<kGemmCount>(table, "gemm", names_of<Gemm>());
    rule.layers = parse_layers(table);
    parse_use(rule, table, recipe);
    parse_estimator(rule, table);
    rules.push_back(rule);
  }
  return rules;
}

std::vector<RecipeSaved> parse_saved(const TomlTable& root, const Recipe& recipe) {
  std::vector<RecipeSaved> all;
  if (!root.has("saved")) return all;
  const std::vector<std::string> linears(kLinearNames.begin(), kLinearNames.end());
  for (const TomlTable& table : root.get_table_array("saved")) {
    RecipeSaved saved;
    saved.place = table.where("use");
    saved.linear = parse_names<kLinearCount>(table, "linear", linears);
    saved.layers = parse_layers(table);
    saved.use.kind = table.has("recompute_from") ? SavedKind::recomputed : SavedKind::codes;
    const auto named = [&](Linear linear) { return saved.linear[static_cast<std::size_t>(linear)]; };
    if (saved.use.kind == SavedKind::recomputed) {
      (void)table.get_choice("recompute_from", std::vector<std::string>{"fc1_output"});
      for (int l = 0; l < kLinearCount; ++l)
        if (named(static_cast<Linear>(l)) && !name_of(static_cast<Linear>(l)).ends_with("fc2"))
          table.fail("recompute_from", fmt::format("fc1_output is what the inputs of fc2, shared_fc2 and dense_fc2 are "
                                                   "computed from, not that of {}",
                                                   name_of(static_cast<Linear>(l))));
    }
    if (named(Linear::embedding)) table.fail("linear", "the embedding is a look-up and has no input to save");
    const std::string use = table.get_string("use");
    const auto found = recipe.quantizers.find(use);
    if (found == recipe.quantizers.end()) {
      std::vector<std::string> valid;
      for (const auto& [name, spec] : recipe.quantizers) valid.push_back(name);
      table.fail("use", fmt::format("no quantizer '{}' in this recipe; {}", use, suggestion(use, valid)));
    }
    if (recipe.amax_histories.count(use) != 0 || found->second.outlier.quantile != 0.0)
      table.fail("use", "saved tensors have neither delayed scaling nor an outlier split");
    saved.quantizer = use;
    saved.use.quantizer = found->second;
    all.push_back(std::move(saved));
  }
  return all;
}

void check_reachable(const Recipe& recipe) {
  for (std::size_t r = 0; r < recipe.rules.size(); ++r) {
    const RecipeRule& rule = recipe.rules[r];
    bool reached = false;
    bool any_edge = false;
    for (int l = 0; l < kLinearCount && !reached; ++l) {
      for (int o = 0; o < kOperandCount; ++o) {
        for (int g = 0; g < kGemmCount; ++g) {
          const auto linear = static_cast<Linear>(l);
          const auto operand = static_cast<Operand>(o);
          const auto gemm = static_cast<Gemm>(g);
          if (!exists(linear, operand, gemm) || !rule.names(linear, operand, gemm)) continue;
          if (outside_layers(linear) && !rule.layers.everything()) continue;
          any_edge = true;
          bool taken = false;
          for (std::size_t e = 0; e < r; ++e)
            taken =
                taken || (recipe.rules[e].names(linear, operand, gemm) && covers(recipe.rules[e].layers, rule.layers));
          reached = reached || !taken;
        }
      }
    }
    if (!any_edge)
      throw UserError(fmt::format(
          "{}: rule {} matches no edge: fprop takes activation and weight, dgrad grad_output and weight, wgrad "
          "grad_output and activation; embedding and head lie outside the layers",
          rule.place, r + 1));
    if (!reached)
      throw UserError(
          fmt::format("{}: rule {} can never win: earlier rules match all of its edges", rule.place, r + 1));
  }
}

}  // namespace ng::recipe_parts
