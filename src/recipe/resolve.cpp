// SPDX-License-Identifier: Apache-2.0
//
// Recipe and model to specs: the first matching rule of each edge, then the checks that a product is what it says.
#include "narrowgauge/recipe/resolve.hpp"

#include <fmt/format.h>

#include <algorithm>
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

const RecipeRule& rule_for(const Recipe& recipe, const ModelShape& model, const Edge& edge) {
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

void check_source(const Recipe& recipe, const ModelShape& model, const RecipeRule& rule, const Edge& edge) {
  const SavedKind saved = saved_spec(recipe, model, edge.layer, edge.linear).kind;
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
  const RecipeGemm& product = recipe.gemm[static_cast<std::size_t>(Gemm::fprop)];
  if (rule_for(recipe, model, source).use.kind != OperandKind::quantized)
    throw UserError(
        fmt::format("{}: {} is to be requantized, but {} is not quantized", rule.place, edge.text(), source.text()));
  if (rule.use.residual == DecodedResidual::added && product.compensate == Compensate::none)
    throw UserError(fmt::format("{}: {}: the residual can be added only where [gemm.fprop] compensate keeps it",
                                rule.place, edge.text()));
  if (recipe.gemm[static_cast<std::size_t>(Gemm::fprop)].hadamard.size != 0)
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

OperandSpec resolve_operand(const Recipe& recipe, const ModelShape& model, const Edge& edge, const RecipeGemm& gemm) {
  const RecipeRule& rule = rule_for(recipe, model, edge);
  check_source(recipe, model, rule, edge);
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

LinearSpec resolve_linear(const Recipe& recipe, const ModelShape& model, std::int64_t layer, Linear linear) {
  LinearSpec spec;
  spec.saved = saved_spec(recipe, model, layer, linear);
  for (int g = 0; g < kGemmCount; ++g) {
    const auto gemm = static_cast<Gemm>(g);
    const RecipeGemm& options = recipe.gemm[static_cast<std::size_t>(g)];
    GemmSpec& product = spec.gemm[g];
    product.carrier = options.carrier;
    product.accumulate = linear == Linear::router ? Accumulate::fp32_chain : options.accumulate;
    product.a = resolve_operand(recipe, model, {layer, linear, operand_a(gemm), gemm}, options);
    product.b = resolve_operand(recipe, model, {layer, linear, operand_b(gemm), gemm}, options);
    if (product.a.kind == OperandKind::quantized) product.compensate = options.compensate;
    check_compensation(options, product, {layer, linear, operand_a(gemm), gemm});
    check_hadamard(options, product, {layer, linear, operand_a(gemm), gemm}, model.shape(linear));
  }
  return spec;
}

// Choices that most operands do not make are left out: recipes that compute the same have the same text.
Json operand_json(const OperandSpec& operand) {
  Json json = Json::object({{"kind", name_of(operand.kind)}});
  const bool quantized = operand.kind == OperandKind::quantized;
  if (quantized || operand.source != FormSource::original) json["source"] = name_of(operand.source);
  if (quantized) json["quantizer"] = to_json(operand.quantizer);
  if (!quantized && operand.source != FormSource::original) json["residual"] = name_of(operand.residual);
  if (operand.amax.history != 0)
    json["amax"] = Json::object({{"history", operand.amax.history}, {"reduce", name_of(operand.amax.reduce)}});
  const EstimatorSpec& estimator = operand.estimator;
  if (estimator.kind != EstimatorKind::straight_through)
    json["estimator"] = Json::object({{"kind", name_of(estimator.kind)},
                                      {"k", static_cast<double>(estimator.k)},
                                      {"clip", static_cast<double>(estimator.clip)},
                                      {"beyond", name_of(estimator.beyond)},
                                      {"normalize", estimator.mean == EstimatorMean::normalized}});
  return json;
}

Json linear_json(const LinearSpec& spec) {
  Json json = Json::object();
  if (spec.saved.kind != SavedKind::original)
    json["saved"] = Json::object({{"kind", name_of(spec.saved.kind)}, {"quantizer", to_json(spec.saved.quantizer)}});
  for (int g = 0; g < kGemmCount; ++g) {
    const auto gemm = static_cast<Gemm>(g);
    Json& product = json[name_of(gemm)];
    product =
        Json::object({{"carrier", name_of(spec.gemm[g].carrier)}, {"accumulate", name_of(spec.gemm[g].accumulate)}});
    if (spec.gemm[g].compensate != Compensate::none) product["compensate"] = name_of(spec.gemm[g].compensate);
    product[name_of(operand_a(gemm))] = operand_json(spec.gemm[g].a);
    product[name_of(operand_b(gemm))] = operand_json(spec.gemm[g].b);
  }
  return json;
}

}  // namespace

std::string linear_name(std::int64_t layer, Linear which) {
  return layer == kOutsideLayers ? std::string(name_of(which)) : fmt::format("layer.{}/{}", layer, name_of(which));
}

std::string format_label(const OperandSpec& operand) {
  return operand.kind == OperandKind::quantized ? name_of(operand.quantizer.element_id)
                                                : std::string(name_of(operand.kind));
}

std::size_t ResolvedRecipe::index(std::int64_t layer, Linear which) const {
  const std::int64_t row = layer == kOutsideLayers ? layers_ : layer;
  NG_CHECK(row >= 0 && row <= layers_, "layer ", layer);
  return static_cast<std::size_t>(row * kLinearCount) + static_cast<std::size_t>(which);
}

bool ResolvedRecipe::has(std::int64_t layer, Linear which) const {
  return entries_[index(layer, which)].present;
}

const LinearSpec& ResolvedRecipe::linear(std::int64_t layer, Linear which) const {
  const Entry& entry = entries_[index(layer, which)];
  NG_CHECK(entry.present, linear_name(layer, which), " is not part of the model");
  return entry.spec;
}

std::int64_t ResolvedRecipe::token_multiple() const {
  std::int64_t multiple = 1;
  for (const Entry& entry : entries_) {
    const GemmSpec& wgrad = entry.spec.gemm[static_cast<int>(Gemm::wgrad)];
    if (entry.present && wgrad.a.kind == OperandKind::quantized)
      multiple = std::max<std::int64_t>(multiple, wgrad.a.quantizer.hadamard.size);
  }
  return multiple;
}

double ResolvedRecipe::quantized_share() const {
  double share = 0;
  const auto plain = [](const std::string& label) { return label == "bf16" || label == "f32"; };
  for (const FormatShare& row : flop_shares)
    if (!plain(row.a) && !plain(row.b)) share += row.share;
  return share;
}

void check_arithmetic(const ResolvedRecipe& recipe, Arithmetic arithmetic) {
  if (arithmetic != Arithmetic::hopper) return;
  const auto reason = [](HopperRefusal refusal) {
    switch (refusal) {
      case HopperRefusal::none:
        break;
      case HopperRefusal::fp32_operand:
        return "has FP32 operands, which no tensor core takes; use bf16 operands, accumulate = \"fp32_chain\" in "
               "[gemm], or "
               "--arithmetic ieee";
      case HopperRefusal::significand:
        return "has operands with more significant bits than a BF16 carrier holds; use --arithmetic ieee";
      case HopperRefusal::block_scales:
        return "mixes FP32 block scales with an operand that is not FP8, and scales are applied inside FP8 products "
               "only; use power-of-two scales or --arithmetic ieee";
      case HopperRefusal::fast_block_scales:
        return "has FP32 block scales, which need accumulate = \"promoted\"";
    }
    return "";
  };
  for (std::int64_t layer = kOutsideLayers; layer < recipe.layers(); ++layer)
    for (int l = 0; l < kLinearCount; ++l) {
      const auto which = static_cast<Linear>(l);
      if (!recipe.has(layer, which)) continue;
      for (int g = 0; g < kGemmCount; ++g) {
        const HopperRefusal refusal = hopper_product(recipe.linear(layer, which).gemm[g]).refusal;
        if (refusal != HopperRefusal::none)
          throw UserError(fmt::format("recipe {} with arithmetic hopper: {}/{} {}", recipe.name,
                                      linear_name(layer, which), name_of(static_cast<Gemm>(g)), reason(refusal)));
      }
    }
}

Json ResolvedRecipe::to_json() const {
  Json json = Json::object();
  Json& linears = json["linear"];
  linears = Json::object();
  for (std::int64_t layer = kOutsideLayers; layer < layers_; ++layer)
    for (int l = 0; l < kLinearCount; ++l)
      if (has(layer, static_cast<Linear>(l)))
        linears[linear_name(layer, static_cast<Linear>(l))] = linear_json(linear(layer, static_cast<Linear>(l)));
  json["embedding"] = name_of(embedding);
  const TensorKinds& t = tensors;
  json["tensor"] = Json::object({
      {"residual", name_of(t.residual)},
      {"gemm_output", name_of(t.gemm_output)},
      {"logits", name_of(t.logits)},
      {"softmax", name_of(t.softmax)},
      {"dispatch", name_of(t.dispatch)},
      {"combine", name_of(t.combine)},
      {"dispatch_grad", name_of(t.dispatch_grad)},
      {"combine_grad", name_of(t.combine_grad)},
      {"master", name_of(t.master)},
      {"adam_m", name_of(t.adam_m)},
      {"adam_v", name_of(t.adam_v)},
      {"weight_grad", name_of(t.weight_grad)},
  });
  return json;
}

std::string ResolvedRecipe::digest() const {
  return digest_of(to_json());
}

ResolvedRecipe resolve(const Recipe& recipe, const ModelShape& model) {
  ResolvedRecipe resolved;
  resolved.name = recipe.name;
  resolved.tensors = recipe.tensors;
  resolved.layers_ = model.layers;
  resolved.entries_.resize(static_cast<std::size_t>((model.layers + 1) * kLinearCount));
  for (const RecipeRule& rule : recipe.rules) {
    try {
      rule.layers.check(model.layers);
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}: {}", rule.place, error.what()));
    }
  }

  const RecipeRule& embedding =
      rule_for(recipe, model, {kOutsideLayers, Linear::embedding, Operand::weight, Gemm::fprop});
  if (embedding.use.kind == OperandKind::quantized)
    throw UserError(fmt::format(
        "{}: the embedding is a look-up, not a product, and cannot be quantized; name it in an earlier rule, for "
        "example {{ linear = \"embedding\", use = \"bf16\" }}",
        embedding.place));
  resolved.embedding = embedding.use.kind;

  std::map<std::pair<std::string, std::string>, double> flops;
  double total = 0;
  bool any_quantized = false;
  const auto add = [&](std::int64_t layer, Linear linear) {
    ResolvedRecipe::Entry& entry = resolved.entries_[resolved.index(layer, linear)];
    entry.present = true;
    entry.spec = resolve_linear(recipe, model, layer, linear);
    const LinearShape& shape = model.shape(linear);
    const double work = static_cast<double>(shape.out) * static_cast<double>(shape.in) * shape.uses_per_token;
    for (const GemmSpec& gemm : entry.spec.gemm) {
      any_quantized = any_quantized || gemm.a.kind == OperandKind::quantized || gemm.b.kind == OperandKind::quantized;
      flops[{format_label(gemm.a), format_label(gemm.b)}] += work;
      total += work;
    }
  };
  for (std::int64_t layer = 0; layer < model.layers; ++layer)
    for (int l = 0; l < kLinearCount; ++l)
      if (model.has(layer, static_cast<Linear>(l))) add(layer, static_cast<Linear>(l));
  add(kOutsideLayers, Linear::head);

  if (!recipe.quantizers.empty() && !any_quantized)
    throw UserError(fmt::format(
        "{}: model {} ({} layers) reaches none of the recipe's quantizers: every product would run in BF16 or FP32",
        recipe.origin, model.name, model.layers));
  for (const auto& [formats, work] : flops)
    resolved.flop_shares.push_back({formats.first, formats.second, work / total});
  std::stable_sort(resolved.flop_shares.begin(), resolved.flop_shares.end(),
                   [](const FormatShare& x, const FormatShare& y) { return x.share > y.share; });
  return resolved;
}

}  // namespace ng
