// SPDX-License-Identifier: Apache-2.0
//
// Recipe and model to specs: the first matching rule of each edge, then the checks that a product is what it says.
#include "narrowgauge/recipe/resolve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"

namespace ng {
namespace {

// The tensor core's accumulation is interrupted every this many products to apply FP32 scales.
constexpr int kScaleStep = 128;

struct Edge {
  std::int64_t layer;
  Linear linear;
  Operand operand;
  Gemm gemm;

  [[nodiscard]] std::string text() const {
    return fmt::format("{}/{}/{}", linear_name(layer, linear), name_of(operand), name_of(gemm));
  }
};

// The recipe of each product: one for all, until a switch gives some to another. What is saved stays the first one's.
struct Stage {
  std::array<const Recipe*, kGemmCount> by_gemm;
  const Recipe* first;

  [[nodiscard]] const Recipe& of(Gemm gemm) const { return *by_gemm[static_cast<std::size_t>(gemm)]; }
  [[nodiscard]] const RecipeGemm& options(Gemm gemm) const { return of(gemm).gemm[static_cast<std::size_t>(gemm)]; }
};

const RecipeRule& rule_for(const Stage& stage, const ModelShape& model, const Edge& edge) {
  const Recipe& recipe = stage.of(edge.gemm);
  for (const RecipeRule& rule : recipe.rules) {
    if (!rule.names(edge.linear, edge.operand, edge.gemm)) continue;
    if (edge.layer == kOutsideLayers ? rule.layers.everything() : rule.layers.selects(edge.layer, model.layers))
      return rule;
  }
  throw UserError(
      fmt::format("{}: no rule matches {} of model {}; end the list with a rule for what is left, for example "
                  "{{ use = \"bf16\" }}",
                  recipe.origin, edge.text(), model.name));
}

// Scales of FP32 can be applied only where the tensor core's sums are interrupted; powers of two and E4M3 ride on the
// codes in a BF16 carrier.
void check_scale_step(const RecipeRule& rule, const Edge& edge, Carrier carrier) {
  const QuantizerSpec& q = rule.use.quantizer;
  if (q.scale_format == ScaleFormat::none || q.tile_cols == 0) return;
  if (carrier == Carrier::e4m3)
    throw UserError(fmt::format(
        "{}: quantizer '{}' on {}: its scale varies along the contraction axis (tile {}), which the carrier "
        "e4m3 cannot hold; use the carrier bf16 or a tile of 1x0",
        rule.place, rule.quantizer, edge.text(), tile_text(q)));
  if (q.scale_format == ScaleFormat::f32 && !has_power_of_two_scales(q) && q.tile_cols % kScaleStep != 0)
    throw UserError(fmt::format(
        "{}: quantizer '{}' on {}: its FP32 scale varies along the contraction axis inside a step of {} products "
        "(tile {}) and cannot be applied after the product; use tile columns of 0 or a multiple of {}, or power-of-two "
        "scales",
        rule.place, rule.quantizer, edge.text(), kScaleStep, tile_text(q), kScaleStep));
}

SavedSpec saved_spec(const Recipe& recipe, const ModelShape& model, std::int64_t layer, Linear linear) {
  for (const RecipeSaved& saved : recipe.saved) {
    if (!saved.linear[static_cast<std::size_t>(linear)]) continue;
    if (layer == kOutsideLayers ? saved.layers.everything() : saved.layers.selects(layer, model.layers))
      return saved.use;
  }
  return {};
}

void check_source(const Stage& stage, const ModelShape& model, const RecipeRule& rule, const Edge& edge) {
  const SavedKind saved = saved_spec(*stage.first, model, edge.layer, edge.linear).kind;
  if (rule.use.source == FormSource::saved) {
    if (edge.operand != Operand::activation || edge.gemm != Gemm::wgrad)
      throw UserError(fmt::format("{}: {}: only the wgrad form of an activation is made from what was saved",
                                  rule.place, edge.text()));
    if (saved != SavedKind::codes)
      throw UserError(
          fmt::format("{}: {} is to be made from the saved form, but no entry of 'saved' names {} with a "
                      "quantizer alone",
                      rule.place, edge.text(), linear_name(edge.layer, edge.linear)));
  }
  if (rule.use.source != FormSource::fprop) return;
  if (saved == SavedKind::recomputed && edge.operand == Operand::activation)
    throw UserError(
        fmt::format("{}: {}: its fprop form is gone when the activation is recomputed; use from = "
                    "\"original\"",
                    rule.place, edge.text()));
  if (edge.gemm == Gemm::fprop)
    throw UserError(fmt::format("{}: {} is the fprop form and cannot be made from it", rule.place, edge.text()));
  if (edge.operand == Operand::grad_output)
    throw UserError(fmt::format("{}: {}: grad_output takes no part in fprop", rule.place, edge.text()));
  Edge source = edge;
  source.gemm = Gemm::fprop;
  const RecipeGemm& product = stage.options(Gemm::fprop);
  if (rule_for(stage, model, source).use.kind != OperandKind::quantized)
    throw UserError(
        fmt::format("{}: {} is to be requantized, but {} is not quantized", rule.place, edge.text(), source.text()));
  if (rule.use.residual == DecodedResidual::added && product.compensate == Compensate::none)
    throw UserError(fmt::format("{}: {}: the residual can be added only where [gemm.fprop] compensate keeps it",
                                rule.place, edge.text()));
  if (product.hadamard.size != 0)
    throw UserError(fmt::format("{}: {} is to be requantized from {}, which is Hadamard transformed", rule.place,
                                edge.text(), source.text()));
}

void check_hadamard(const RecipeGemm& gemm, const GemmSpec& spec, const Edge& edge, const LinearShape& shape) {
  const bool a = spec.a.kind == OperandKind::quantized;
  const bool b = spec.b.kind == OperandKind::quantized;
  if (gemm.hadamard.size == 0 || (!a && !b)) return;
  if (a != b)
    throw UserError(fmt::format("{}: hadamard acts on both operands, but {} of {}/{} is not quantized", gemm.place,
                                name_of(a ? operand_b(edge.gemm) : operand_a(edge.gemm)),
                                linear_name(edge.layer, edge.linear), name_of(edge.gemm)));
  if (edge.gemm == Gemm::wgrad && gemm.hadamard.size > kRowPadding)
    throw UserError(
        fmt::format("{}: hadamard of size {} on wgrad is longer than the {} rows that experts are padded to",
                    gemm.place, gemm.hadamard.size, kRowPadding));
  // wgrad contracts over tokens: token_multiple().
  const std::int64_t length = edge.gemm == Gemm::fprop ? shape.in : edge.gemm == Gemm::dgrad ? shape.out : 0;
  if (length % gemm.hadamard.size != 0)
    throw UserError(fmt::format("{}: hadamard of size {} does not divide the contraction of {}/{}, {}", gemm.place,
                                gemm.hadamard.size, linear_name(edge.layer, edge.linear), name_of(edge.gemm), length));
}

// The factor of a weight follows from the one scale that its tile has when it is encoded.
void check_estimator(const RecipeRule& rule, const Edge& edge, const RecipeGemm& gemm) {
  if (rule.use.estimator.kind == EstimatorKind::straight_through) return;
  const QuantizerSpec& q = rule.use.quantizer;
  const char* why = gemm.hadamard.size != 0                   ? "a Hadamard transform in fprop"
                    : q.outlier.quantile != 0.0               ? "an outlier split"
                    : rule.use.amax.history != 0              ? "delayed scaling"
                    : q.rule == ScaleRule::four_over_six      ? "the rule four_over_six"
                    : q.cast.rounding == Rounding::stochastic ? "stochastic rounding"
                                                              : nullptr;
  if (why != nullptr)
    throw UserError(
        fmt::format("{}: {}: a differentiable estimator and {} do not go together", rule.place, edge.text(), why));
}

// What is compensated must have been split off.
void check_compensation(const RecipeGemm& gemm, const GemmSpec& spec, const Edge& edge) {
  if (gemm.compensate == Compensate::none || spec.a.kind != OperandKind::quantized) return;
  if (spec.a.quantizer.outlier.quantile == 0.0)
    throw UserError(fmt::format("{}: compensate needs an outlier split, which the quantizer of {} has not", gemm.place,
                                edge.text()));
}

OperandSpec resolve_operand(const Stage& stage, const ModelShape& model, const Edge& edge, const RecipeGemm& gemm) {
  const RecipeRule& rule = rule_for(stage, model, edge);
  check_source(stage, model, rule, edge);
  OperandSpec operand = rule.use;
  if (operand.kind != OperandKind::quantized) return operand;
  check_estimator(rule, edge, gemm);
  if (operand.quantizer.outlier.quantile != 0.0)
    operand.quantizer.outlier.residual =
        edge.operand == Operand::activation && edge.gemm == Gemm::fprop ? gemm.residual : OutlierResidual::none;
  check_scale_step(rule, edge, gemm.carrier);
  if (gemm.carrier == Carrier::e4m3 && operand.quantizer.element_id != FormatId::e2m1 &&
      operand.quantizer.element_id != FormatId::e4m3)
    throw UserError(fmt::format("{}: quantizer '{}' on {}: the carrier e4m3 cannot hold {}", rule.place, rule.quantizer,
                                edge.text(), name_of(operand.quantizer.element_id)));
  operand.quantizer.hadamard = gemm.hadamard;
  return operand;
}

LinearSpec resolve_linear(const Stage& stage, const ModelShape& model, std::int64_t layer, Linear linear) {
  LinearSpec spec;
  spec.saved = saved_spec(*stage.first, model, layer, linear);
  for (int g = 0; g < kGemmCount; ++g) {
    const auto gemm = static_cast<Gemm>(g);
    const RecipeGemm& options = stage.options(gemm);
    GemmSpec& product = spec.gemm[g];
    product.carrier = options.carrier;
    product.accumulate = linear == Linear::router ? Accumulate::fp32_chain : options.accumulate;
    product.a = resolve_operand(stage, model, {layer, linear, operand_a(gemm), gemm}, options);
    product.b = resolve_operand(stage, model, {layer, linear, operand_b(gemm), gemm}, options);
    if (product.a.kind == OperandKind::quantized) product.compensate = options.compensate;
    check_compensation(options, product, {layer, linear, operand_a(gemm), gemm});
    check_hadamard(options, product, {layer, linear, operand_a(gemm), gemm}, model.shape(linear));
  }
  return spec;
}

void check_layers(const Recipe& recipe, const ModelShape& model) {
  for (const RecipeRule& rule : recipe.rules) {
    try {
      rule.layers.check(model.layers);
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}: {}", rule.place, error.what()));
    }
  }
}

// A switch cannot change what is kept between the passes, nor pass an amax history on to another quantizer. `before`:
// the specs of the stages so far.
void check_switch(const RecipeSwitch& entry, const ModelShape& model, std::int64_t layer, Linear linear,
                  const std::vector<const LinearSpec*>& before, const LinearSpec& now) {
  const SavedSpec saved = saved_spec(*entry.recipe, model, layer, linear);
  if (entry.gemm[static_cast<std::size_t>(Gemm::wgrad)] && saved.kind != SavedKind::original && !(saved == now.saved))
    throw UserError(fmt::format("{}: {} saves the input of {} in its own way, which a switch cannot change",
                                entry.place, entry.file, linear_name(layer, linear)));
  for (int g = 0; g < kGemmCount; ++g) {
    const auto gemm = static_cast<Gemm>(g);
    for (const Operand operand : {operand_a(gemm), operand_b(gemm)}) {
      const OperandSpec& spec = operand_spec(now, operand, gemm);
      if (spec.amax.history == 0 || spec == operand_spec(*before.back(), operand, gemm)) continue;
      for (const LinearSpec* earlier : before)
        if (operand_spec(*earlier, operand, gemm).amax.history != 0)
          throw UserError(fmt::format("{}: {} has delayed scaling before and after the switch, by different quantizers",
                                      entry.place, Edge{layer, linear, operand, gemm}.text()));
    }
  }
}

}  // namespace

ResolvedRecipe resolve(const Recipe& recipe, const ModelShape& model) {
  ResolvedRecipe resolved;
  resolved.name = recipe.name;
  resolved.tensors = recipe.tensors;
  resolved.layers_ = model.layers;
  resolved.entries_.resize(static_cast<std::size_t>((model.layers + 1) * kLinearCount));
  check_layers(recipe, model);
  Stage stage{{&recipe, &recipe, &recipe}, &recipe};

  const RecipeRule& embedding =
      rule_for(stage, model, {kOutsideLayers, Linear::embedding, Operand::weight, Gemm::fprop});
  if (embedding.use.kind == OperandKind::quantized)
    throw UserError(fmt::format(
        "{}: the embedding is a look-up, not a product, and cannot be quantized; name it in an earlier rule, for "
        "example {{ linear = \"embedding\", use = \"bf16\" }}",
        embedding.place));
  resolved.embedding = embedding.use.kind;

  std::vector<std::pair<std::int64_t, Linear>> present;
  for (std::int64_t layer = 0; layer < model.layers; ++layer)
    for (int l = 0; l < kLinearCount; ++l)
      if (model.has(layer, static_cast<Linear>(l))) present.emplace_back(layer, static_cast<Linear>(l));
  present.emplace_back(kOutsideLayers, Linear::head);

  const auto fill = [&](ResolvedRecipe& to) {
    std::map<std::pair<std::string, std::string>, double> flops;
    double total = 0;
    for (const auto& [layer, linear] : present) {
      ResolvedRecipe::Entry& entry = to.entries_[to.index(layer, linear)];
      entry.present = true;
      entry.spec = resolve_linear(stage, model, layer, linear);
      const LinearShape& shape = model.shape(linear);
      const double work = static_cast<double>(shape.out) * static_cast<double>(shape.in) * shape.uses_per_token;
      for (const GemmSpec& gemm : entry.spec.gemm) {
        flops[{format_label(gemm.a), format_label(gemm.b)}] += work;
        total += work;
      }
    }
    to.flop_shares.clear();
    for (const auto& [formats, work] : flops) to.flop_shares.push_back({formats.first, formats.second, work / total});
    std::stable_sort(to.flop_shares.begin(), to.flop_shares.end(),
                     [](const FormatShare& x, const FormatShare& y) { return x.share > y.share; });
  };
  fill(resolved);
  const auto quantizes = [](const ResolvedRecipe::Entry& entry) {
    return std::any_of(std::begin(entry.spec.gemm), std::end(entry.spec.gemm), [](const GemmSpec& gemm) {
      return gemm.a.kind == OperandKind::quantized || gemm.b.kind == OperandKind::quantized;
    });
  };
  if (!recipe.quantizers.empty() && std::none_of(resolved.entries_.begin(), resolved.entries_.end(), quantizes))
    throw UserError(fmt::format(
        "{}: model {} ({} layers) reaches none of the recipe's quantizers: every product would run in BF16 or FP32",
        recipe.origin, model.name, model.layers));

  for (const RecipeSwitch& entry : recipe.switches) {
    check_layers(*entry.recipe, model);
    for (std::size_t g = 0; g < stage.by_gemm.size(); ++g)
      if (entry.gemm[g]) stage.by_gemm[g] = entry.recipe.get();
    ResolvedRecipe next = resolved;
    next.switches.clear();
    try {
      fill(next);
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}: after the switch to {}: {}", entry.place, entry.file, error.what()));
    }
    for (const auto& [layer, linear] : present) {
      std::vector<const LinearSpec*> before = {&resolved.linear(layer, linear)};
      for (const ResolvedSwitch& earlier : resolved.switches) before.push_back(&earlier.recipe.linear(layer, linear));
      check_switch(entry, model, layer, linear, before, next.linear(layer, linear));
    }
    resolved.switches.push_back({entry.fraction, entry.step, entry.place, std::move(next)});
  }
  return resolved;
}

}  // namespace ng
