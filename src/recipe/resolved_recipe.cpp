// SPDX-License-Identifier: Apache-2.0
//
// What a resolved recipe says of itself: its canonical JSON, its demands on a run. How it comes about is in
// resolve.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "narrowgauge/base/check.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/numerics/hopper_product.hpp"
#include "narrowgauge/recipe/enum_names.hpp"
#include "narrowgauge/recipe/quantizer_text.hpp"
#include "narrowgauge/recipe/resolve.hpp"

namespace ng {
namespace {

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
  for (const ResolvedSwitch& entry : switches) multiple = std::max(multiple, entry.recipe.token_multiple());
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
  for (const ResolvedSwitch& entry : recipe.switches) check_arithmetic(entry.recipe, arithmetic);
}

Json ResolvedRecipe::linears_json() const {
  Json linears = Json::object();
  for (std::int64_t layer = kOutsideLayers; layer < layers_; ++layer)
    for (int l = 0; l < kLinearCount; ++l)
      if (has(layer, static_cast<Linear>(l)))
        linears[linear_name(layer, static_cast<Linear>(l))] = linear_json(linear(layer, static_cast<Linear>(l)));
  return linears;
}

Json ResolvedRecipe::to_json() const {
  Json json = Json::object();
  json["linear"] = linears_json();
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
  if (switches.empty()) return json;
  Json list = Json::array();
  for (const ResolvedSwitch& entry : switches) {
    Json item = Json::object();
    item["linear"] = entry.recipe.linears_json();
    if (entry.fraction > 0.0)
      item["at"] = entry.fraction;
    else
      item["at"] = entry.step;
    list.push_back(item);
  }
  json["switch"] = list;
  return json;
}

std::string ResolvedRecipe::digest() const {
  return digest_of(to_json());
}

std::vector<std::int64_t> first_steps(const ResolvedRecipe& recipe, std::int64_t steps) {
  std::vector<std::int64_t> first = {0};
  for (const ResolvedSwitch& entry : recipe.switches) {
    const std::int64_t step = entry.fraction > 0.0
                                  ? static_cast<std::int64_t>(std::floor(entry.fraction * static_cast<double>(steps)))
                                  : entry.step;
    if (step <= first.back() || step >= steps)
      throw UserError(fmt::format("{}: at is step {} of a run of {} steps; valid: {} to {}", entry.place, step, steps,
                                  first.back() + 1, steps - 1));
    first.push_back(step);
  }
  return first;
}

}  // namespace ng
